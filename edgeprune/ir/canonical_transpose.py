"""Moves transposes and reshapes behind the arithmetic that follows them, where they meet others and cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.ir.canonical_movement import RESHAPES, integers, static_shape
from edgeprune.ir.edit import bypass, constant, new_constant, new_node

_CURVES = (
    "Celu",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
)
_FUNCTIONS = ("Abs", "Ceil", "Clip", "Erf", "Exp", "Floor", "Log", "Neg", "Reciprocal", "Softsign", "Sqrt", "Tanh")
_UNARY = frozenset((*_CURVES, *_FUNCTIONS))
_BINARY = frozenset(("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu"))
_REDUCTIONS = frozenset(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceProd"))


def sink_movements(model: ir.Model) -> None:
    """Bring Transpose behind elementwise nodes, Concat, Pad and reductions, reshapes behind activations, in place."""
    for node in list(model.graph):
        if node.graph is None or node.domain or len(node.outputs) != 1 or static_shape(node.outputs[0]) is None:
            continue
        if node.op_type in _UNARY:
            _sink_through_unary(node)
            continue
        order = _order(node)
        if order is None:
            continue
        if node.op_type in _BINARY:
            _sink_through_binary(node, order)
        elif node.op_type == "Concat":
            _sink_through_concat(node, order)
        elif node.op_type == "Pad":
            _sink_through_pad(node, order)
        elif node.op_type in _REDUCTIONS:
            _sink_through_reduction(node, order)


def transpose_order(node: ir.Node | None) -> list[int] | None:
    """The perm of a Transpose; None for any other node."""
    if node is None or node.op_type != "Transpose" or node.domain:
        return None
    shape = static_shape(node.inputs[0])
    return None if shape is None else list(node.attributes.get_ints("perm", list(range(len(shape)))[::-1]))


def _order(node: ir.Node) -> list[int] | None:
    """The perm of the first data input that is transposed."""
    for value in node.inputs:
        order = transpose_order(value.producer()) if value is not None else None
        if order is not None:
            return order
    return None


def _sink_through_unary(node: ir.Node) -> None:
    move = node.inputs[0].producer() if node.inputs[0] is not None else None
    if move is None or move.domain or move.op_type not in ("Transpose", *RESHAPES):
        return
    source = move.inputs[0]
    if source is None or static_shape(source) is None or source.dtype != node.outputs[0].dtype:
        return
    before = _like(node, [source, *node.inputs[1:]], node.attributes, static_shape(source))
    after = new_node(
        move.op_type, [before.outputs[0], *move.inputs[1:]], move.attributes, name=str(move.name), like=node.outputs[0]
    )
    _replace(node, [before, after])


def _sink_through_binary(node: ir.Node, order: list[int]) -> None:
    result = static_shape(node.outputs[0])
    if result is None or len(result) != len(order):
        return
    operands = [_untransposed(node, value, order) for value in node.inputs]
    if any(operand is None for operand in operands):
        return
    _finish(node, operands, node.attributes, order)


def _untransposed(node: ir.Node, value: ir.Value | None, order: list[int]) -> ir.Value | None:
    """What `value` was before a transpose by `order`: the input of that transpose, or a constant turned back."""
    array = constant(value)
    if value is None or array is None:
        producer = value.producer() if value is not None else None
        return producer.inputs[0] if producer is not None and transpose_order(producer) == order else None
    if array.size == 1 and array.ndim == 0:
        return value
    if array.ndim > len(order):
        return None
    assert isinstance(node.graph, ir.Graph)
    full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    return new_constant(node.graph, f"{value.name}_turned", full.transpose(np.argsort(order)))


def _sink_through_concat(node: ir.Node, order: list[int]) -> None:
    operands = [_untransposed(node, value, order) for value in node.inputs]
    if all(operand is not None for operand in operands):
        axis = node.attributes.get_int("axis", 0) % len(order)
        _finish(node, operands, {"axis": order[axis]}, order)


def _sink_through_pad(node: ir.Node, order: list[int]) -> None:
    data, amounts = _untransposed(node, node.inputs[0], order), constant(node.inputs[1])
    if data is None or amounts is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return
    turned = amounts.reshape(2, -1)[:, np.argsort(order)].reshape(-1)
    pads = integers(node, "pads", [int(amount) for amount in turned])
    _finish(node, [data, pads, *node.inputs[2:3]], node.attributes, order)


def _sink_through_reduction(node: ir.Node, order: list[int]) -> None:
    data, axes_input = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    given = constant(axes_input)
    source = data.producer() if data is not None else None
    if given is None or given.size == 0 or source is None or transpose_order(source) is None:
        return
    axes = [int(axis) % len(order) for axis in given.reshape(-1)]
    kept = [order[axis] for axis in range(len(order)) if axis not in axes]
    keep = node.attributes.get_int("keepdims", 1)
    if not keep and kept != sorted(kept):
        return
    reduced = [source.inputs[0], integers(node, "axes", sorted(order[axis] for axis in axes))]
    if keep:
        _finish(node, reduced, node.attributes, order)
    else:
        _replace(node, [_like(node, reduced, node.attributes, static_shape(node.outputs[0]))])


def _finish(
    node: ir.Node, operands: Sequence[ir.Value | None], attributes: Mapping[str, Any], order: list[int]
) -> None:
    """The same node on what comes before the transposes, and one transpose of the result."""
    result = static_shape(node.outputs[0])
    assert result is not None
    before = _like(node, operands, attributes, [result[axis] for axis in np.argsort(order)])
    after = new_node(
        "Transpose", [before.outputs[0]], {"perm": order}, name=f"{node.name}_transpose", like=node.outputs[0]
    )
    _replace(node, [before, after])


def _like(
    node: ir.Node, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], shape: list[int] | None
) -> ir.Node:
    made = new_node(node.op_type, inputs, attributes, name=str(node.name), like=node.outputs[0])
    made.outputs[0].shape = ir.Shape(shape or [])
    made.metadata_props.update(node.metadata_props)
    return made


def _replace(node: ir.Node, nodes: list[ir.Node]) -> None:
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, nodes)
    bypass(node, nodes[-1].outputs[0])
