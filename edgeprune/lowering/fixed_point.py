"""Groups that fixed-point families compute: which layers they are, and the kernel call of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgeprune.kernels.abi import Activation, Format, Kernel, View
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.depthwise import build_fixed_depthwise
from edgeprune.kernels.fixed_point.depthwise_pairs import HIGHER
from edgeprune.kernels.fixed_point.pooling import build_fixed_pool
from edgeprune.kernels.fixed_point.product import build_fixed_product
from edgeprune.kernels.fixed_point.softmax import build_fixed_softmax
from edgeprune.lowering.bands import ROWS_KEY
from edgeprune.lowering.copying import copy
from edgeprune.lowering.fixed_pointwise import emit_pointwise, stored_bounds
from edgeprune.lowering.geometry import window_of
from edgeprune.lowering.groups import Group, shape_of
from edgeprune.lowering.integers import Numbers, integer_numbers
from edgeprune.lowering.layout import NO_HALO, new_home, stored_format
from edgeprune.lowering.operands import Operand, dense_operand, image_operand, matrix_operand, places_of
from edgeprune.lowering.problems import conv2d_of, depthwise_of, output_matrix, output_view, pool_of, product_of
from edgeprune.lowering.program import Program
from edgeprune.lowering.quantization import Quantized
from edgeprune.lowering.strided import dense, image_view, matrix_view
from edgeprune.lowering.trace import Trace

_BOUNDS = ("Relu", "Clip")
_LAYERS = ("conv2d", "depthwise", "linear")


def fixed_point_numbers(quantized: Quantized, groups: Sequence[Group], trace: Trace) -> dict[int, Numbers]:
    """The weights, scales and bias of every layer that fixed-point kernels compute, by the identity of its anchor."""
    found = {}
    for group in groups:
        if group.kind not in _LAYERS or not all(_is_bound(step) for step in group.epilogue):
            continue
        x = stored_format(trace, quantized, trace.origin(group.inputs[0]).root)
        y = stored_format(trace, quantized, trace.origin(group.output).root)
        numbers = integer_numbers(quantized, group, x) if y.quantized else None
        if numbers is not None:
            found[id(group.anchor)] = numbers
    return found


def emit_fixed_point(program: Program, group: Group) -> tuple[Kernel, list[str]] | None:
    """The kernel of `group` and the buffers it reads, where a fixed-point family has one."""
    row = _ROWS.get(group.kind)
    return None if row is None else row(program, group)


def _convolution(program: Program, group: Group) -> tuple[Kernel, list[str]] | None:
    numbers, window = program.fixed.get(id(group.anchor)), window_of(group)
    if numbers is None or window is None:
        return None
    x, y = _image(program, group.inputs[0]), _settled(output_view(program, group))
    problem = conv2d_of(group, window, x.view, y, numbers.bias is not None)
    return _product(program, group, problem, numbers, x)


def _linear(program: Program, group: Group) -> tuple[Kernel, list[str]] | None:
    numbers = program.fixed.get(id(group.anchor))
    if numbers is None:
        return None
    x, y = matrix_operand(program, group.inputs[0]), output_matrix(program, group.output)
    ordered = None if x.offsets is None else _in_memory_order(x, numbers)
    x, numbers = ordered or (_lines(program, group.inputs[0], x), numbers)
    problem = product_of(x.view, y, numbers.bias is not None)
    return _product(program, group, problem, numbers, x)


def _product(
    program: Program, group: Group, problem: Conv2d, numbers: Numbers, x: Operand
) -> tuple[Kernel, list[str]] | None:
    requantize = _requantize(program, group, numbers, problem.x.format, problem.y.format)
    weights, bias, machine = numbers.weights, numbers.bias, program.machine
    return build_fixed_product(problem, weights, bias, requantize, machine, program.kinds), [x.buffer]


def _depthwise(program: Program, group: Group) -> tuple[Kernel, list[str]] | None:
    numbers, window = program.fixed.get(id(group.anchor)), window_of(group)
    if numbers is None or window is None:
        return None
    x, y = _image(program, group.inputs[0]), _settled(output_view(program, group))
    problem = depthwise_of(window, x.view, y, numbers.bias is not None)
    requantize = _requantize(program, group, numbers, problem.x.format, problem.y.format)
    flat = numbers.weights.reshape(y.channels, -1)
    higher = 1 if ROWS_KEY in group.anchor.metadata_props else HIGHER
    return build_fixed_depthwise(problem, flat, numbers.bias, requantize, program.machine, higher), [x.buffer]


def _pool(program: Program, group: Group) -> tuple[Kernel, list[str]] | None:
    window = window_of(group)
    x, y = _image(program, group.inputs[0]), _settled(output_view(program, group))
    if window is None or group.epilogue or not (x.view.format.quantized and y.format.quantized):
        return None
    unsigned = id(group.output) in program.quantized.unsigned
    return build_fixed_pool(pool_of(group, window, x.view, y), program.machine, unsigned), [x.buffer]


def _softmax(program: Program, group: Group) -> tuple[Kernel, list[str]] | None:
    x, y = matrix_operand(program, group.inputs[0]), output_matrix(program, group.output)
    x = _lines(program, group.inputs[0], x)
    return build_fixed_softmax(x.view, y, program.machine), [x.buffer]


_ROWS: dict[str, Callable[[Program, Group], tuple[Kernel, list[str]] | None]] = {
    "conv2d": _convolution,
    "depthwise": _depthwise,
    "linear": _linear,
    "pointwise": emit_pointwise,
    "pool": _pool,
    "softmax": _softmax,
}


def _requantize(program: Program, group: Group, numbers: Numbers, x: Format, y: Format) -> Requantize:
    """How the sums of a layer become integers of `y`.

    TFLite multiplies the scales of a fully connected layer, and of any of unsigned weights, in single precision and
    those of other convolutions in double.
    """
    assert group.layer is not None
    unsigned = program.quantized.integers[id(group.layer.weight)].stored.dtype == np.uint8
    single = group.kind == "linear" or unsigned
    spread = numbers.scales.astype(np.float64) if single else np.float64(x.scale) * numbers.spread
    return Requantize.of(spread / np.float64(y.scale), y.zero, *stored_bounds(group, y))


def _is_bound(step: object) -> bool:
    return isinstance(step, Activation) and step.name in _BOUNDS


def _image(program: Program, value: ir.Value) -> Operand:
    """`value` as images whose pixels follow each other evenly; a copy where they do not."""
    operand = image_operand(program, value, NO_HALO, "channels")
    view = _settled(operand.view)
    if view.channel_stride == 1 and _is_even(view):
        return Operand(*program.part(operand.buffer, view))
    name = program.fresh(f"even:{value.name}")
    buffer, places = places_of(program, value)
    home, storage = new_home(name, shape_of(value), "channels", NO_HALO, True, program.layout.format_of(buffer))
    program.add_storage(name, storage)
    copy(program, buffer, places, home.place, value.name or "copy")
    return Operand(name, _settled(image_view(home.place, storage.format)))


def _settled(view: View) -> View:
    """`view` with the strides of axes of one entry as in images whose pixels follow each other."""
    view = replace(view, channel_stride=view.channel_stride if view.channels > 1 else 1)
    view = replace(view, pixel_stride=view.pixel_stride if view.width > 1 else max(view.pixel_stride, view.channels))
    view = replace(view, row_stride=view.row_stride if view.height > 1 else view.width * view.pixel_stride)
    return replace(view, batch_stride=view.batch_stride if view.batch > 1 else view.height * view.row_stride)


def _is_even(view: View) -> bool:
    rows = view.row_stride == view.width * view.pixel_stride
    return rows and view.batch_stride == view.height * view.row_stride


def _lines(program: Program, value: ir.Value, x: Operand) -> Operand:
    """The rows `x` of `value` as lines of elements that lie together; a copy where they do not."""
    if x.offsets is None and (x.view.channel_stride == 1 or x.view.channels == 1):
        return Operand(x.buffer, replace(x.view, channel_stride=1))
    buffer = dense_operand(program, value, x.view.format)
    view = matrix_view(dense(buffer, shape_of(value)), x.view.format)
    assert view is not None
    return Operand(buffer, view)


def _in_memory_order(x: Operand, numbers: Numbers) -> tuple[Operand, Numbers] | None:
    """Inputs that lie together in another order, read as they lie: their weights are put in that order."""
    assert x.offsets is not None
    order = np.argsort(x.offsets, kind="stable")
    first = int(x.offsets[order[0]])
    if not np.array_equal(x.offsets[order], first + np.arange(order.size)):
        return None
    view = replace(x.view, offset=x.view.offset + first, channel_stride=1)
    return Operand(x.buffer, view), replace(numbers, weights=np.ascontiguousarray(numbers.weights[:, :, order]))
