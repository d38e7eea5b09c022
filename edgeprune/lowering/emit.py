"""One row per kind of group: from the group and its operands to a kernel call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgeprune.ir.weights import read_weight
from edgeprune.kernels.abi import EpilogueStep, Format, Kernel, Machine, Residual, Rounded, View
from edgeprune.kernels.conv2d.channels import build_channels
from edgeprune.kernels.conv2d.pixels import build_pixels, choose_copies
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shifted import Shifted
from edgeprune.kernels.depthwise.depthwise import build_depthwise
from edgeprune.kernels.elementwise.elementwise import Elementwise, Step, build_elementwise
from edgeprune.kernels.elementwise.move import Move, build_move
from edgeprune.kernels.integer.integer import build_integer
from edgeprune.kernels.pool.pool import build_pool
from edgeprune.lowering.bands import ROWS_KEY
from edgeprune.lowering.copying import copy
from edgeprune.lowering.fixed_point import emit_fixed_point
from edgeprune.lowering.geometry import window_of
from edgeprune.lowering.groups import Added, Group, shape_of, upsample_factors
from edgeprune.lowering.integers import Numbers, integer_numbers
from edgeprune.lowering.layout import NO_HALO, Mode, Storage
from edgeprune.lowering.lstm import emit_lstm
from edgeprune.lowering.operands import Operand, format_of, image_operand, matrix_operand, places_of
from edgeprune.lowering.plan import Layer
from edgeprune.lowering.pool_grids import read_on_grid
from edgeprune.lowering.problems import (
    conv2d_of,
    depthwise_of,
    output_buffer_of,
    output_matrix,
    output_view,
    pool_of,
    product_of,
)
from edgeprune.lowering.program import Program
from edgeprune.lowering.strided import Strided, image_view

PATTERN_KEY = "edgeprune.pattern"


def emit(program: Program, group: Group) -> None:
    """Append the kernel of any group but a movement or a region."""
    fixed = emit_fixed_point(program, group) if program.target.arithmetic == "fixed" else None
    if fixed is not None:
        _call(program, group, *fixed, stem=group.kind)
    else:
        _ROWS[group.kind](program, group)


def _convolution(program: Program, group: Group) -> None:
    window = window_of(group)
    assert window is not None and group.layer is not None
    halo = window.halo(shape_of(group.inputs[0]), shape_of(group.anchor.outputs[0]))
    y = output_view(program, group)
    mode = program.layout.mode_of(group)
    along_channels = mode == "channels" or y.height * y.width == 1
    numbers, wanted = _numbers(program, group)
    x = image_operand(program, group.inputs[0], halo, mode, gather=along_channels, wanted=wanted)
    reads, epilogue = _epilogue(program, group, _image_residual)
    problem = conv2d_of(group, window, x.view, y, group.bias is not None, epilogue)
    _finish_product(program, group, problem, x, reads, numbers, along_channels)


def _linear(program: Program, group: Group) -> None:
    numbers, wanted = _numbers(program, group)
    x = matrix_operand(program, group.inputs[0], wanted)
    y = output_matrix(program, group.output)
    reads, epilogue = _epilogue(program, group, _matrix_residual)
    problem = product_of(x.view, y, group.bias is not None, epilogue)
    _finish_product(program, group, problem, x, reads, numbers, along_channels=True)


def _numbers(program: Program, group: Group) -> tuple[Numbers | None, Format]:
    """The whole numbers of a layer that multiplies integers and scales them as real numbers, and how it reads them.

    Where integers are otherwise rescaled in fixed point, such a layer reads a copy in pairs' format. A layer of real
    numbers reads what its kernel computes in.
    """
    x = format_of(program, group.inputs[0])
    if x.quantized and program.target.arithmetic == "fixed":
        x = Format("int16", x.scale, 0, x.low - x.zero, x.high - x.zero)
    numbers = integer_numbers(program.quantized, group, x)
    return numbers, program.real if numbers is None else x


def _integer_machine(program: Program) -> Machine:
    fixed = program.target.arithmetic == "fixed"
    return replace(program.machine, dot="generic") if fixed else program.machine


def _finish_product(
    program: Program,
    group: Group,
    problem: Conv2d,
    x: Operand,
    reads: list[str],
    numbers: Numbers | None,
    along_channels: bool,
) -> None:
    assert group.layer is not None
    weights, bias = read_weight(group.layer), _bias(group, problem.y.channels)
    offsets = None if x.offsets is None else x.offsets.astype(np.int32)
    if numbers is not None:
        kernel = build_integer(
            problem, numbers.weights, numbers.scales, numbers.bias, _integer_machine(program), offsets
        )
    elif along_channels:
        kernel = build_channels(problem, weights, bias, program.machine, offsets)
    else:
        assert offsets is None
        copies = choose_copies(problem, weights, program.machine)
        if copies is not None:
            problem, weights = copies.problem, copies.weights(weights)
            x = Operand(_copied(program, group, copies, x.buffer), problem.x)
        kernel = build_pixels(problem, weights, bias, program.machine)
    _call(program, group, kernel, [x.buffer, *reads], stem="conv" if group.kind == "conv2d" else "linear")


def _copied(program: Program, group: Group, copies: Shifted, source: str) -> str:
    """The buffer of the `copies` of `source`."""
    name = group.anchor.name or "conv"
    buffer = program.fresh(f"{name}.shifted")
    program.add_storage(buffer, Storage(copies.elements))
    kernel = build_move(copies.move, program.machine)
    program.call(kernel, [source], [buffer], Layer(name, "Move", f"{kernel.label} shifted"), stem="move")
    return buffer


def _depthwise(program: Program, group: Group) -> None:
    window = window_of(group)
    assert window is not None and group.layer is not None
    halo = window.halo(shape_of(group.inputs[0]), shape_of(group.anchor.outputs[0]))
    numbers, wanted = _numbers(program, group)
    x = image_operand(program, group.inputs[0], halo, program.layout.mode_of(group), wanted=wanted)
    reads, epilogue = _epilogue(program, group, _image_residual)
    problem = depthwise_of(window, x.view, output_view(program, group), group.bias is not None, epilogue)
    weights, bias, scales = read_weight(group.layer), _bias(group, problem.y.channels), None
    if numbers is not None:
        weights, bias, scales = numbers.weights, numbers.bias, numbers.scales
    flat = weights.reshape(problem.y.channels, -1)
    kernel = build_depthwise(problem, flat, bias, program.machine, scales)
    _call(program, group, kernel, [x.buffer, *reads], stem="depthwise")


def _pool(program: Program, group: Group) -> None:
    window = window_of(group)
    assert window is not None
    x = image_operand(program, group.inputs[0], NO_HALO, program.layout.mode_of(group))
    reads, epilogue = _epilogue(program, group, _image_residual)
    problem = pool_of(group, window, x.view, output_view(program, group), epilogue)
    problem = read_on_grid(program.quantized, group.anchor, problem)
    _call(program, group, build_pool(problem, program.machine), [x.buffer, *reads], stem="pool")


def _elementwise(program: Program, group: Group) -> None:
    y = output_view(program, group)
    mode = program.layout.mode_of(group)
    operands = [_broadcast_operand(program, value, y, mode) for value in group.inputs]
    steps: list[Step] = [("input", index) for index in range(len(operands))]
    if len(operands) > 1:
        steps.append((group.anchor.op_type,))
    for step in group.epilogue:
        if isinstance(step, Added):
            steps += [("input", len(operands)), ("Add",)]
            operands.append(_image_residual(program, group.residuals[step.index], mode))
        else:
            steps.append(step)
    steps += _last_rounding(program, group)
    problem = Elementwise(y=y, inputs=tuple(operand.view for operand in operands), program=tuple(steps))
    _call(program, group, build_elementwise(problem, program.machine), [operand.buffer for operand in operands])


def _lstm(program: Program, group: Group) -> None:
    _call(program, group, *emit_lstm(program, group), stem="lstm")


def _store(program: Program, group: Group) -> None:
    target = program.layout.homes[id(group.output)].place
    rounding = _last_rounding(program, group)
    buffer, places = places_of(program, group.inputs[0])
    copy(program, buffer, places, target, group.anchor.name or "store", rounding)


def _upsample(program: Program, group: Group) -> None:
    factors = upsample_factors(group.anchor)
    assert factors is not None
    y = output_view(program, group)
    x = image_operand(program, group.inputs[0], NO_HALO, program.layout.mode_of(group), wanted=y.format)
    problem = Move(x.view, y, repeat=factors)
    _call(program, group, build_move(problem, program.machine), [x.buffer], stem="upsample")


_ROWS: dict[str, Callable[[Program, Group], None]] = {
    "conv2d": _convolution,
    "depthwise": _depthwise,
    "elementwise": _elementwise,
    "linear": _linear,
    "lstm": _lstm,
    "pool": _pool,
    "store": _store,
    "upsample": _upsample,
}


def _call(program: Program, group: Group, kernel: Kernel, reads: list[str], stem: str = "elementwise") -> None:
    program.call(kernel, reads, [output_buffer_of(program, group)], _layer(group, kernel), stem)


def _layer(group: Group, kernel: Kernel) -> Layer:
    name, op = group.anchor.name or "", "+".join(node.op_type for node in group.nodes)
    rows = group.anchor.metadata_props.get(ROWS_KEY)
    label = kernel.label if rows is None else f"{kernel.label}, {rows}"
    if group.layer is None:
        return Layer(name, op, label, macs=kernel.macs, dense_macs=kernel.dense_macs)
    weights = read_weight(group.layer)
    return Layer(
        name=name,
        op=op,
        kernel=label,
        pattern=group.anchor.metadata_props.get(PATTERN_KEY, ""),
        density=float(np.count_nonzero(weights)) / weights.size,
        macs=kernel.macs,
        dense_macs=kernel.dense_macs,
        cycles=kernel.cycles,
    )


def _epilogue(
    program: Program, group: Group, operand: Callable[[Program, ir.Value, Mode], Operand]
) -> tuple[list[str], tuple[EpilogueStep, ...]]:
    """The buffers of the residuals in order, and the epilogue with their views."""
    reads: list[str] = []
    steps: list[EpilogueStep] = []
    for step in group.epilogue:
        if isinstance(step, Added):
            residual = operand(program, group.residuals[step.index], program.layout.mode_of(group))
            reads.append(residual.buffer)
            steps.append(Residual(residual.view))
        else:
            steps.append(step)
    return reads, (*steps, *_last_rounding(program, group))


def _last_rounding(program: Program, group: Group) -> list[Rounded]:
    """The step that rounds a result which is not stored on its grid."""
    grid = program.quantized.rounding(group.output)
    return [] if grid is None else [Rounded(grid)]


def _image_residual(program: Program, value: ir.Value, mode: Mode) -> Operand:
    return image_operand(program, value, NO_HALO, mode)


def _matrix_residual(program: Program, value: ir.Value, _: Mode) -> Operand:
    operand = matrix_operand(program, value)
    assert operand.offsets is None
    return operand


def _broadcast_operand(program: Program, value: ir.Value, y: View, mode: Mode) -> Operand:
    """`value` stretched over `y`: axes of extent 1 get stride 0."""
    if value.const_value is not None:
        array = value.const_value.numpy()
        shape = (1,) * (4 - array.ndim) + array.shape
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(4))
        operand = Operand(program.constant_of(value), image_view(Strided("", shape, strides)))
    else:
        operand = image_operand(program, value, NO_HALO, mode)
    view = operand.view
    stretched = View(
        batch=y.batch,
        channels=y.channels,
        height=y.height,
        width=y.width,
        offset=view.offset,
        batch_stride=view.batch_stride if view.batch > 1 else 0,
        channel_stride=view.channel_stride if view.channels > 1 else 0,
        row_stride=view.row_stride if view.height > 1 else 0,
        pixel_stride=view.pixel_stride if view.width > 1 else 0,
        format=view.format,
    )
    return Operand(operand.buffer, stretched)


def _bias(group: Group, channels: int) -> np.ndarray | None:
    if group.bias is None or group.bias.const_value is None:
        return None
    return np.broadcast_to(group.bias.const_value.numpy().astype(np.float32).reshape(-1), (channels,)).copy()
