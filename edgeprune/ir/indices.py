"""Inputs that hold indices into tables of the model, such as the tokens of a text."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

_KEEPS_VALUES = (
    "Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
)  # fmt: skip


def index_limits(model: ir.Model) -> dict[str, int]:
    """For each input of canonical `model` that looks entries up, the size of the smallest table: its indices are below.

    An input counts where its values reach the indices of a Gather, or of a OneHot, unchanged.
    """
    limits: dict[str, int] = {}
    for value in model.graph.inputs:
        sizes = [size for size in _table_sizes(value) if size > 0]
        if sizes and value.name is not None:
            limits[value.name] = min(sizes)
    return limits


def _table_sizes(value: ir.Value) -> Iterator[int]:
    for use in value.uses():
        node, place = use.node, use.idx
        if (node.op_type in _KEEPS_VALUES and place == 0) or node.op_type == "Concat":
            for output in node.outputs:
                yield from _table_sizes(output)
        elif node.op_type in ("Gather", "GatherElements") and place == 1:
            yield _axis_size(node)
        elif node.op_type == "OneHot" and place == 0:
            yield _depth(node)


def _axis_size(node: ir.Node) -> int:
    table, axis = node.inputs[0], node.attributes.get("axis")
    if table is None or table.shape is None:
        return 0
    size = table.shape[0 if axis is None else axis.as_int()]
    return size if isinstance(size, int) else 0


def _depth(node: ir.Node) -> int:
    depth = node.inputs[1]
    return 0 if depth is None or depth.const_value is None else int(depth.const_value.numpy().reshape(-1)[0])
