"""The sliding window of a convolution or pooling node."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.lowering.groups import Group, shape_of

Halo = tuple[int, int, int, int]
"""Zero rows and columns around an image: top, left, bottom, right."""


@dataclass(frozen=True)
class Window:
    """Kernel size, strides, dilations and pads (top, left, bottom, right) in rows and columns."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    def halo(self, source: tuple[int, ...], target: tuple[int, ...]) -> Halo:
        """The border of an image of shape `source` that the windows of an output of shape `target` reach."""
        after = []
        for axis in (0, 1):
            extent_in = _extent(source, axis)
            last = (_extent(target, axis) - 1) * self.strides[axis] - self.pads[axis]
            after.append(max(0, last + (self.kernel[axis] - 1) * self.dilations[axis] - (extent_in - 1)))
        return self.pads[0], self.pads[1], after[0], after[1]


def window_of(group: Group) -> Window | None:
    """The window of a conv2d, depthwise or pool group, or None for other kinds."""
    if group.kind not in ("conv2d", "depthwise", "pool"):
        return None
    node = group.anchor
    source = node.inputs[0]
    assert source is not None
    rank = len(shape_of(source)) - 2
    if node.op_type.startswith("Global") or node.op_type == "ReduceMean":
        height, width = _extent(shape_of(source), 0), _extent(shape_of(source), 1)
        return Window((height, width), (1, 1), (1, 1), (0, 0, 0, 0))
    kernel = shape_of(group.layer.weight)[2:] if group.layer is not None else tuple(_ints(node, "kernel_shape"))
    pads = _ints(node, "pads") or [0] * (2 * rank)
    return Window(
        kernel=_pair(kernel),
        strides=_pair(_ints(node, "strides") or [1] * rank),
        dilations=_pair(_ints(node, "dilations") or [1] * rank),
        pads=(*_pair(pads[:rank], 0), *_pair(pads[rank:], 0)),
    )


def _extent(shape: tuple[int, ...], axis: int) -> int:
    """Rows (axis 0) or columns (axis 1) of an image shape of rank 4 or 3."""
    return shape[2 + axis] if len(shape) == 4 else (1, shape[2])[axis]


def _ints(node: ir.Node, name: str) -> list[int]:
    return [int(value) for value in node.attributes.get_ints(name, [])]


def _pair(values: tuple[int, ...] | list[int], missing: int = 1) -> tuple[int, int]:
    return (missing, values[0]) if len(values) == 1 else (values[0], values[1])
