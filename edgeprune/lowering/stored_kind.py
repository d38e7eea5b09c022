"""Kinds of groups that compute stored integers from stored integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgeprune.kernels.abi import Format
from edgeprune.lowering.activations import activation_of
from edgeprune.lowering.groups import Group, shape_of
from edgeprune.lowering.quantization import Integers, moved_from

LONGEST_ROW = 4096
"""A softmax of as many integers as this or more is computed in real numbers."""
_MOST_AXES = 4
"""What has more axes has no place among images."""
PAIRED = ("Add", "Sub", "Mul")
"""What is computed of two inputs; their shapes may broadcast."""


def stored_kind(group: Group, grids: Mapping[int, Format], constants: Mapping[int, Integers]) -> Group:
    """`group` as what integers alone can compute, where all that it reads and writes is on a grid.

    `constants` are those that are stored as integers, by the identity of their values.
    """
    if group.kind not in ("region", "elementwise"):
        return group
    whole = _with_bound(group, grids)
    node, result = whole.anchor, whole.output
    data = [value for value in node.inputs if value is not None and value.const_value is None]
    if id(result) not in grids or not data or not all(id(moved_from(value)) in grids for value in data):
        return group
    if node.op_type == "Softmax" and len(data) == 1:
        return replace(group, kind="softmax", inputs=tuple(data)) if _is_plain_softmax(node, grids) else group
    if len(shape_of(result)) > _MOST_AXES:
        return group
    if activation_of(node) is not None and len(data) == 1:
        return replace(group, kind="pointwise", inputs=tuple(data))
    fixed = [value for value in node.inputs if value is not None and value.const_value is not None]
    paired = node.op_type in PAIRED and all(stored_constant(constants.get(id(value))) is not None for value in fixed)
    return replace(whole, kind="pointwise", inputs=tuple(data)) if paired else group


def stored_constant(constant: Integers | None) -> tuple[np.ndarray, Format] | None:
    """A constant of 8 bits as int8 and how it is stored; None where it has several scales, or is no such constant."""
    if constant is None or constant.scale.size != 1 or constant.zero.size != 1 or constant.stored.dtype.itemsize != 1:
        return None
    below = 128 if constant.stored.dtype == np.uint8 else 0
    stored = (constant.stored.astype(np.int16) - below).astype(np.int8)
    zero = int(constant.zero.reshape(-1)[0]) - below
    return stored, Format("int8", float(constant.scale.reshape(-1)[0]), zero, -128, 127)


def _with_bound(group: Group, grids: Mapping[int, Format]) -> Group:
    """`group` with the Relu or Clip that alone reads its result, where that is what is rounded to a grid."""
    node = group.anchor
    if node.op_type not in PAIRED or len(group.nodes) > 1:
        return group
    value = node.outputs[0]
    uses = list(value.uses())
    if id(value) in grids or value.is_graph_output() or len(uses) != 1:
        return group
    step = activation_of(uses[0].node)
    if step is None or step.name not in ("Relu", "Clip"):
        return group
    return replace(group, nodes=(*group.nodes, uses[0].node), outputs=tuple(uses[0].node.outputs), epilogue=(step,))


def _is_plain_softmax(node: ir.Node, grids: Mapping[int, Format]) -> bool:
    """Whether the softmax `node` is along the last axis, of few elements, and gives what TFLite's kernels give."""
    shape, grid = shape_of(node.outputs[0]), grids[id(node.outputs[0])]
    along = node.attributes.get_int("axis", -1) in (-1, len(shape) - 1)
    return along and shape[-1] < LONGEST_ROW and grid.zero == -128 and abs(grid.scale * 256 - 1) < 1e-6
