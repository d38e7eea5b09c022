"""What a kernel is to compute, from a group and the views of its operands: shapes, windows and epilogue."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.kernels.abi import EpilogueStep, View
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.pool.problem import Pool
from edgeprune.lowering.geometry import Window
from edgeprune.lowering.groups import IMAGE_KINDS, Group
from edgeprune.lowering.program import Program
from edgeprune.lowering.strided import Strided, image_view, matrix_view

Epilogue = tuple[EpilogueStep, ...]


def conv2d_of(group: Group, window: Window, x: View, y: View, bias: bool, epilogue: Epilogue = ()) -> Conv2d:
    """The convolution of `group` from images `x` to images `y`."""
    assert group.layer is not None
    return Conv2d(
        x=x,
        y=y,
        kernel=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads[:2],
        groups=group.layer.groups,
        bias=bias,
        epilogue=epilogue,
    )


def product_of(x: View, y: View, bias: bool, epilogue: Epilogue = ()) -> Conv2d:
    """The product of the rows `x` with a matrix, as a convolution of images of one pixel."""
    return Conv2d(x, y, (1, 1), (1, 1), (1, 1), (0, 0), 1, bias, epilogue)


def depthwise_of(window: Window, x: View, y: View, bias: bool, epilogue: Epilogue = ()) -> Depthwise:
    """The depthwise convolution with `window` from images `x` to images `y`."""
    return Depthwise(
        x=x,
        y=y,
        kernel=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads[:2],
        bias=bias,
        epilogue=epilogue,
    )


def pool_of(group: Group, window: Window, x: View, y: View, epilogue: Epilogue = ()) -> Pool:
    """The largest values or averages in `window` of images `x`, as images `y`."""
    node = group.anchor
    return Pool(
        x=x,
        y=y,
        kind="max" if "Max" in node.op_type else "average",
        kernel=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        count_include_pad=bool(node.attributes.get_int("count_include_pad", 0)),
        epilogue=epilogue,
    )


def output_view(program: Program, group: Group) -> View:
    """Where the result of `group` goes, as images; a matrix is images of one pixel."""
    return _output(program, group)[1]


def output_buffer_of(program: Program, group: Group) -> str:
    """The buffer that `output_view` is a view of, or the name of a part of it."""
    if group.kind not in IMAGE_KINDS:
        return program.layout.homes[id(group.output)].place.buffer
    return _output(program, group)[0]


def _output(program: Program, group: Group) -> tuple[str, View]:
    place = program.layout.homes[id(group.output)].place
    if len(place.shape) == 2:
        place = Strided(place.buffer, (*place.shape, 1, 1), (*place.strides, 0, 0), place.offset)
    return program.part(place.buffer, image_view(place, program.layout.format_of(place.buffer)))


def output_matrix(program: Program, value: ir.Value) -> View:
    """Where `value`, a matrix, goes."""
    place = program.layout.homes[id(value)].place
    view = matrix_view(place, program.layout.format_of(place.buffer))
    assert view is not None
    return view
