"""Kinds of groups that compute stored integers from stored integers."""

from __future__ import annotations

import math
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
    unary = activation_of(node) is not None and len(data) == 1
    if len(data) == 2 and node.op_type == "Mul":
        data = sorted(data, key=_pixels, reverse=True)
    paired = len(data) == 2 and _is_pair(node.op_type, *map(shape_of, data))
    return replace(group, kind="pointwise", inputs=tuple(data)) if paired or unary else group


def _pixels(value: ir.Value) -> int:
    return math.prod(shape_of(value)[2:])


def _is_pair(op: str, left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Whether `op` is computed of two inputs of these shapes; factors may be one pixel for each image."""
    if op == "Mul" and len(left) == len(right) == 4 and right == (*left[:2], 1, 1):
        return True
    return op in ("Add", "Sub", "Mul") and left == right


def _is_plain_softmax(node: ir.Node, grids: Mapping[int, Format]) -> bool:
    """Whether the softmax `node` is along the last axis, of few elements, and gives what TFLite's kernels give."""
    shape, grid = shape_of(node.outputs[0]), grids[id(node.outputs[0])]
    along = node.attributes.get_int("axis", -1) in (-1, len(shape) - 1)
    return along and shape[-1] < LONGEST_ROW and grid.zero == -128 and abs(grid.scale * 256 - 1) < 1e-6
