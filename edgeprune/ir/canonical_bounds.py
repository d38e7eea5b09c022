"""Bounds and slopes in their shortest form: Relu, Clip, LeakyRelu, HardSigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.ir.canonical_terms import bounds, scalar, scaled, shifted
from edgeprune.ir.edit import bypass, constant, new_constant, new_node

_INFINITY = float("inf")


def simplify_bounds(model: ir.Model) -> None:
    """Write Max and Min with a constant as Clip or Relu, join them, and name LeakyRelu and HardSigmoid, in place."""
    for node in list(model.graph):
        rules = () if node.domain or node.graph is None else _RULES.get(node.op_type, ())
        for rule in rules:
            replacement = rule(node)
            if replacement is not None:
                model.graph.insert_before(node, [replacement])
                bypass(node, replacement.outputs[0])
                break


def _clip_to_hard_sigmoid(node: ir.Node) -> ir.Node | None:
    """Clip(alpha * x + beta, 0, 1)."""
    product, beta = shifted(node.inputs[0])
    source, alpha = scaled(product)
    if (
        source is None
        or bounds(node) != (0.0, 1.0)
        or source is node.inputs[0]
        or source.shape != node.outputs[0].shape
    ):
        return None
    return _node(node, "HardSigmoid", [source], {"alpha": alpha, "beta": beta})


def _merge_clips(node: ir.Node) -> ir.Node | None:
    """Clip, Relu, Max or Min with scalar constants, joined with one before it."""
    source, span = _bounded(node)
    if source is None or span is None:
        return None
    inner = source.producer()
    inner_source, inner_bounds = _bounded(inner) if inner is not None and not inner.domain else (None, None)
    if inner_source is not None and inner_bounds is not None:
        source = inner_source
        span = (float(np.clip(inner_bounds[0], *span)), float(np.clip(inner_bounds[1], *span)))
    if source.shape != node.outputs[0].shape or span[0] > span[1] or source.dtype != ir.DataType.FLOAT:
        return None
    op = "Relu" if span == (0.0, _INFINITY) else "Clip"
    if op == node.op_type and source is node.inputs[0]:
        return None
    return _node(node, op, [source, *(_limit(node, bound) for bound in span if op == "Clip")])


def _limit(node: ir.Node, bound: float) -> ir.Value | None:
    assert isinstance(node.graph, ir.Graph)
    return (
        None if abs(bound) == _INFINITY else new_constant(node.graph, f"{node.name}_limit", np.array(bound, np.float32))
    )


def _bounded(node: ir.Node) -> tuple[ir.Value | None, tuple[float, float] | None]:
    """What `node` bounds and between which numbers."""
    if node.op_type == "Relu":
        return node.inputs[0], (0.0, _INFINITY)
    if node.op_type == "Clip":
        return node.inputs[0], bounds(node)
    if node.op_type not in ("Max", "Min") or len(node.inputs) != 2:
        return None, None
    for value, other in (node.inputs, node.inputs[::-1]):
        number = scalar(other)
        if number is not None:
            return value, (number, _INFINITY) if node.op_type == "Max" else (-_INFINITY, number)
    return None, None


def _even_slope(node: ir.Node) -> ir.Node | None:
    """PRelu with one slope for everything."""
    slope = constant(node.inputs[1])
    if slope is None or slope.size == 0 or node.inputs[0] is None or np.any(slope != slope.reshape(-1)[0]):
        return None
    return _node(node, "LeakyRelu", [node.inputs[0]], {"alpha": float(slope.reshape(-1)[0])})


def _node(old: ir.Node, op: str, inputs: list[ir.Value | None], attributes: dict[str, Any] | None = None) -> ir.Node:
    return new_node(op, inputs, attributes, name=f"{old.name}_{op.lower()}", like=old.outputs[0])


_RULES = {
    "Clip": (_clip_to_hard_sigmoid, _merge_clips),
    "Max": (_merge_clips,),
    "Min": (_merge_clips,),
    "PRelu": (_even_slope,),
    "Relu": (_merge_clips,),
}
