"""Nodes that only move elements, followed by running them on element numbers instead of elements."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

MOVEMENT_OPS = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Ops whose every output element is one input element or a zero."""

ZERO = -1
"""The element number of a constant zero."""


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs of movement node `node` whose elements it moves (not shapes, axes or indices)."""
    inputs = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    return [value for value in inputs if value is not None]


def is_movement(node: ir.Node) -> bool:
    """Whether `node` moves elements in a way fixed at compile time, filling only with zeros."""
    if node.op_type not in MOVEMENT_OPS or node.domain not in ("", "ai.onnx"):
        return False
    parameters = [value for value in node.inputs if value is not None and value not in data_inputs(node)]
    if any(value.const_value is None for value in parameters):
        return False
    if node.op_type == "Pad":
        return _pads_with_zeros(node)
    if node.op_type == "Concat":
        return all(value.const_value is None or not np.any(value.const_value.numpy()) for value in data_inputs(node))
    return True


def move_numbers(node: ir.Node, numbers: list[np.ndarray]) -> list[np.ndarray]:
    """Run `node` on int64 arrays of element numbers, one for each of its data inputs; gives one array an output."""
    proto = ir.to_proto(node)
    moved = {value.name: array for value, array in zip(data_inputs(node), numbers, strict=True)}
    feeds = {
        value.name: moved.get(value.name) if value.name in moved else _parameter(node, value)
        for value in node.inputs
        if value is not None
    }
    if node.op_type == "Pad":
        _fill_with_zero(proto, node, feeds)
    version = node.version or 18
    return [np.asarray(out) for out in ReferenceEvaluator(proto, opsets={"": version}).run(None, feeds)]


def _parameter(node: ir.Node, value: ir.Value) -> np.ndarray:
    if value.const_value is None:
        raise ValueError(f"{node.name}: {value.name} is not constant")
    return value.const_value.numpy()


def _pads_with_zeros(node: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return False
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    return fill is None or not np.any(fill.const_value.numpy())


def _fill_with_zero(proto: object, node: ir.Node, feeds: dict[str, np.ndarray]) -> None:
    fill = np.array(ZERO, dtype=np.int64)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        feeds[node.inputs[2].name] = fill
        return
    while len(proto.input) < 2:
        proto.input.append("")
    if len(proto.input) == 2:
        proto.input.append("edgeprune_fill")
    else:
        proto.input[2] = "edgeprune_fill"
    feeds["edgeprune_fill"] = fill
