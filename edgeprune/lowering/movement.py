"""Nodes that only move elements, followed by running them on element numbers instead of elements."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from edgeprune.ir.canonical_version import CANONICAL_OPSET
from edgeprune.ir.quantization import MOVEMENT

MOVEMENT_OPS = MOVEMENT | {"Concat"}
"""Ops whose every output element is one input element or a zero."""

ZERO = -1
"""The element number of a constant zero."""

_FILL = "edgeprune_fill"


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
    moved = {id(value): array for value, array in zip(data_inputs(node), numbers, strict=True)}
    feeds = {
        _name(value): moved[id(value)] if id(value) in moved else _constant(value)
        for value in node.inputs
        if value is not None
    }
    proto = ir.to_proto(node)
    if node.op_type == "Pad":
        inputs = [*proto.input, "", ""][:2]
        axes = list(proto.input[3:])
        del proto.input[:]
        proto.input.extend([*inputs, _FILL, *axes])
        feeds[_FILL] = np.array(ZERO, dtype=np.int64)
    version = node.version or CANONICAL_OPSET
    return [np.asarray(out) for out in ReferenceEvaluator(proto, opsets={"": version}).run(None, feeds)]


def _constant(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None, value.name
    return value.const_value.numpy()


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name


def _pads_with_zeros(node: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return False
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    return fill is None or not np.any(_constant(fill))
