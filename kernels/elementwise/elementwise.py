"""Fused elementwise arithmetic over broadcast tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import FLOAT16, FLOAT32, Activation, Format, Kernel, Machine, View
from edgeprune.kernels.elementwise.axes import Axis, Units, advanced, merged, ordered, vectors, view_axes
from edgeprune.kernels.elementwise.program import Held, Step, evaluate, is_simple
from edgeprune.kernels.elementwise.table import table_of
from edgeprune.kernels.elementwise.woven import emit_woven, is_woven
from edgeprune.kernels.integer.finish import needed
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import stored

__all__ = ["Elementwise", "Step", "build_elementwise"]


@dataclass(frozen=True)
class Elementwise:
    """y = program(inputs), element by element.

    `program` is in postfix order: ("input", i) and ("constant", value) push a value, an `Activation` or `Rounded`
    replaces the last one, and (name,) of BINARY, ("Pow",) or ("Where",) takes its operands, the first one pushed
    first. An input that is broadcast along an axis has stride 0 there. It is computed in float16 where all views hold
    that and nothing in the program loses by it, else in float32. `y` may be one of the inputs, in place, but
    must not otherwise overlap them. Each view is read or written in its own format; where stored integers are added
    or taken away they are scaled and added with one rounding, if the target can.
    """

    y: View
    inputs: tuple[View, ...]
    program: tuple[Step, ...]


def build_elementwise(problem: Elementwise, machine: Machine) -> Kernel:
    """The kernel of `problem` over (inputs..., [table], y).

    A costly program of one stored integer is looked up in a table of all its values. Raises ValueError where the
    program does not leave one value, KeyError where it names an unknown operator.
    """
    problem = replace(problem, program=_needed(problem.program, problem.y.format))
    axes = merged(ordered(view_axes((problem.y, *problem.inputs))))
    table = table_of(problem.program, [view.format for view in problem.inputs], problem.y.format)
    if table is not None:
        return Kernel(_lookup_function(problem), Units.of(axes).count, (table,), label="elementwise table")
    return Kernel(_function(problem, machine.lanes), _units(axes).count, label="elementwise")


def _needed(program: tuple[Step, ...], format: Format) -> tuple[Step, ...]:
    """`program` without bounds at its end that the bounds of the stored format set anyway."""
    while program and isinstance(program[-1], Activation) and not needed((program[-1],), format):
        program = program[:-1]
    return program


@lru_cache(maxsize=512)
def _function(problem: Elementwise, lanes: int) -> Any:
    views = (problem.y, *problem.inputs)
    axes = merged(ordered(view_axes(views)))
    strides, woven = axes[-1].strides, is_woven(axes)
    formats = [view.format for view in problem.inputs]
    lanes = 2 * lanes if any(view.format != FLOAT32 for view in views) else lanes
    halves = all(view.format == FLOAT16 for view in views) and is_simple(problem.program)

    def evaluated(loaded: Sequence[Any], width: int) -> Any:
        values = [Held(value, format, halves) for value, format in zip(loaded, formats, strict=True)]
        return stored(evaluate(problem.program, values, width), problem.y.format)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        def run(places: list[Any], extent: int) -> None:
            if woven:
                emit_woven(axes, places, extent, memories, lanes, evaluated)
                return
            for first, width in vectors(extent, lanes):
                at = advanced(places, axes[-1], first)
                loaded = [
                    script.let(memory.load(index, width, stride))
                    for memory, index, stride in zip(memories[:-1], at[1:], strides[1:], strict=True)
                ]
                memories[-1].store(at[0], evaluated(loaded, width), width, strides[0])

        _units(axes).emit(begin, end, [view.offset for view in views], run)

    return script.kernel_function([*(format.dtype for format in formats), problem.y.format.dtype], body)


def _units(axes: list[Axis]) -> Units:
    """Units of work; channels that are woven go with their pixels."""
    return Units.of(axes[:-1] if is_woven(axes) else axes)


@lru_cache(maxsize=512)
def _lookup_function(problem: Elementwise) -> Any:
    """The function over (x, table, y): element by element, the table begins at the lowest value of x."""
    x, y = problem.inputs[0], problem.y
    axes = merged(ordered(view_axes((y, x))))
    units = Units.of(axes)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        def run(places: list[Any], extent: int) -> None:
            with script.serial(0, extent) as index:
                to, source = advanced(places, axes[-1], index)
                level = tirx.Cast(script.INTEGER, memories[0].load(source)) - x.format.low
                memories[2].store(to, memories[1].load(level))

        units.emit(begin, end, (y.offset, x.offset), run)

    return script.kernel_function([x.format.dtype, y.format.dtype, y.format.dtype], body)
