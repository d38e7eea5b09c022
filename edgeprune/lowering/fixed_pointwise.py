"""Groups of integers that are computed element by element: the kernel call of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.kernels.abi import Activation, Format, Kernel, View
from edgeprune.kernels.fixed_point.addition import Addition, build_fixed_addition, build_fixed_subtraction
from edgeprune.kernels.fixed_point.broadcast import Spread, build_fixed_broadcast
from edgeprune.kernels.fixed_point.multiplication import Multiplication
from edgeprune.kernels.fixed_point.table import build_fixed_table, fixed_table
from edgeprune.lowering.activations import activation_of
from edgeprune.lowering.copying import copy
from edgeprune.lowering.groups import Group, shape_of
from edgeprune.lowering.layout import Storage
from edgeprune.lowering.operands import Operand, dense_operand, places_of
from edgeprune.lowering.program import Program
from edgeprune.lowering.stored_kind import stored_constant
from edgeprune.lowering.strided import Strided, dense, fit, image_view

_ALL = np.arange(-128, 128).astype(np.int8)


@dataclass(frozen=True)
class _Side:
    """One input of two: `stored` is what it holds, where that is known."""

    value: ir.Value
    format: Format
    stored: np.ndarray | None = None


def emit_pointwise(program: Program, group: Group) -> tuple[Kernel, list[str]]:
    """The kernel of `group`, of kind pointwise, and the buffers that it reads."""
    step = activation_of(group.anchor)
    if step is not None:
        return _table(program, group, None, step)
    left, right = (_side(program, value) for value in group.anchor.inputs if value is not None)
    y = program.layout.format_of(program.layout.homes[id(group.output)].place.buffer)
    arithmetic = _arithmetic(group, left.format, right.format, y)
    if any(side.stored is not None and side.stored.size == 1 for side in (left, right)):
        operands = [_ALL if side.stored is None else side.stored.reshape(-1) for side in (left, right)]
        return _table(program, group, arithmetic.apply(*operands), None)
    whole = shape_of(group.output)
    if isinstance(arithmetic, Addition) and all(s.stored is None and shape_of(s.value) == whole for s in (left, right)):
        return _sum(program, group)
    return _spread(program, group, arithmetic, (left, right))


def stored_bounds(group: Group, y: Format) -> tuple[int, int]:
    """The least and largest result of `group` in stored units, each bound rounded half away from zero."""
    low, high = y.low, y.high
    for step in group.epilogue:
        assert isinstance(step, Activation)
        ends = (0.0, np.inf) if step.name == "Relu" else (step.alpha, step.beta)
        first, last = (_stored(end, y) for end in ends)
        low, high = min(max(low, first), high), max(min(high, last), low)
    return low, high


def _stored(real: float, format: Format) -> int:
    steps = np.clip(np.float64(real) / np.float64(format.scale), -1e6, 1e6)
    return format.zero + int(np.copysign(np.floor(np.abs(steps) + 0.5), steps))


def _arithmetic(group: Group, left: Format, right: Format, y: Format) -> Addition | Multiplication:
    bounds = stored_bounds(group, y)
    if group.anchor.op_type == "Mul":
        return Multiplication.of(left, right, y, *bounds)
    return Addition.of(left, right, y, *bounds, sign=1 if group.anchor.op_type == "Add" else -1)


def _side(program: Program, value: ir.Value) -> _Side:
    if value.const_value is None:
        buffer, _ = places_of(program, value)
        return _Side(value, program.layout.format_of(buffer))
    constant = stored_constant(program.quantized.integers.get(id(value)))
    assert constant is not None
    stored, format = constant
    return _Side(value, format, stored.reshape(shape_of(value)))


def _table(
    program: Program, group: Group, table: np.ndarray | None, step: Activation | None
) -> tuple[Kernel, list[str]]:
    """The results of all that one input can be: as `table` has them, or those of `step`."""
    place = program.layout.homes[id(group.output)].place
    x, y = _beside(program, group.inputs[0], place), _result_line(program, place)
    found = fixed_table(step, x.view.format, y.format) if table is None else table
    return build_fixed_table(x.view, y, found, program.machine), [x.buffer]


def _sum(program: Program, group: Group) -> tuple[Kernel, list[str]]:
    """The sum or difference of two inputs of one shape, each in one line."""
    place = program.layout.homes[id(group.output)].place
    left, right = (_beside(program, value, place) for value in group.anchor.inputs if value is not None)
    y = _result_line(program, place)
    build = build_fixed_addition if group.anchor.op_type == "Add" else build_fixed_subtraction
    kernel = build(left.view, right.view, y, *stored_bounds(group, y.format), program.machine)
    return kernel, [left.buffer, right.buffer]


def _spread(
    program: Program, group: Group, arithmetic: Addition | Multiplication, sides: tuple[_Side, _Side]
) -> tuple[Kernel, list[str]]:
    """Two inputs whose shapes broadcast, read where they lie."""
    place = program.layout.homes[id(group.output)].place
    (first, left), (second, right) = (_spread_over(program, side, place) for side in sides)
    y = _spread_of(program, place, place.shape)[1]
    label = "fixed multiplication" if isinstance(arithmetic, Multiplication) else "fixed addition"
    label += ", broadcast" if any(shape_of(side.value) != place.shape for side in sides) else ""
    kernel = build_fixed_broadcast(arithmetic, place.shape, left, right, y, label)
    return kernel, [first, second]


def _spread_over(program: Program, side: _Side, result: Strided) -> tuple[str, Spread]:
    """The buffer of one input, and where in it the element for each of `result` lies."""
    if side.stored is None:
        buffer, places = places_of(program, side.value)
        place = fit(buffer, places)
        if place is None:
            buffer = dense_operand(program, side.value, side.format)
            place = dense(buffer, shape_of(side.value))
        return _spread_of(program, place, result.shape)
    shape = (1,) * (len(result.shape) - side.stored.ndim) + side.stored.shape
    axes = sorted(range(len(shape)), key=lambda axis: -result.strides[axis])
    ordered = np.ascontiguousarray(side.stored.reshape(shape).transpose(axes))
    name = program.add_constant(side.value.name or "constant", ordered)
    place = dense(name, ordered.shape)
    strides = tuple(place.strides[axes.index(axis)] for axis in range(len(shape)))
    return _spread_of(program, Strided(name, shape, strides), result.shape)


def _spread_of(program: Program, place: Strided, shape: tuple[int, ...]) -> tuple[str, Spread]:
    """`place` over a result of `shape`; axes of one entry serve all of them."""
    missing = len(shape) - len(place.shape)
    pairs = zip(place.shape, place.strides, strict=True)
    strides = (0,) * missing + tuple(stride if extent > 1 else 0 for extent, stride in pairs)
    if place.buffer not in program.banded:
        return place.buffer, Spread(place.offset, strides)
    buffer, view = program.part(place.buffer, image_view(place, program.layout.format_of(place.buffer)))
    return buffer, Spread(view.offset, strides)


def _result_line(program: Program, place: Strided) -> View:
    line = _line(place, place.offset, place.size, program.layout.format_of(place.buffer))
    return program.part(place.buffer, line)[1]


def _beside(program: Program, value: ir.Value, place: Strided) -> Operand:
    """`value` in one line, its elements in the order of `place`; a copy where they are in another."""
    buffer, places = places_of(program, value)
    format = program.layout.format_of(buffer)
    wanted = (place.places() - place.offset).reshape(places.shape)
    first = int(places.min())
    if not np.array_equal(places - first, wanted):
        name = program.fresh(f"aligned:{value.name}")
        program.add_storage(name, Storage(int(wanted.max()) + 1, format=format))
        copy(program, buffer, places, fit(name, wanted) or dense(name, shape_of(value)), value.name or "copy")
        buffer, first = name, 0
    return Operand(*program.part(buffer, _line(place, first, place.size, format)))


def _line(place: Strided, offset: int, size: int, format: Format) -> View:
    """The elements of `place`, which lie together, as one row of channels from `offset` on."""
    return View(1, size, 1, 1, offset, 0, 1, 0, 0, format)
