"""Kinds of groups that compute stored integers from stored integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from edgeprune.kernels.abi import Format
from edgeprune.lowering.activations import activation_of
from edgeprune.lowering.groups import Group, shape_of
from edgeprune.lowering.quantization import moved_from

LONGEST_ROW = 4096
"""A softmax of as many integers as this or more is computed in real numbers."""


def stored_kind(group: Group, grids: Mapping[int, Format]) -> Group:
    """`group` as what integers alone can compute, where all that it reads and writes is on a grid."""
    node = group.anchor
    data = [value for value in node.inputs if value is not None and value.const_value is None]
    if group.kind not in ("region", "elementwise") or id(node.outputs[0]) not in grids or not data:
        return group
    if not all(id(moved_from(value)) in grids for value in data):
        return group
    if node.op_type == "Softmax" and len(data) == 1:
        return replace(group, kind="softmax", inputs=tuple(data)) if _is_plain_softmax(node, grids) else group
    added = node.op_type == "Add" and len(data) == 2 and shape_of(data[0]) == shape_of(data[1])
    unary = activation_of(node) is not None and len(data) == 1
    return replace(group, kind="pointwise", inputs=tuple(data)) if added or unary else group


def _is_plain_softmax(node: ir.Node, grids: Mapping[int, Format]) -> bool:
    """Whether the softmax `node` is along the last axis, of few elements, and gives what TFLite's kernels give."""
    shape, grid = shape_of(node.outputs[0]), grids[id(node.outputs[0])]
    along = node.attributes.get_int("axis", -1) in (-1, len(shape) - 1)
    return along and shape[-1] < LONGEST_ROW and grid.zero == -128 and abs(grid.scale * 256 - 1) < 1e-6
