"""Fused elementwise arithmetic over broadcast tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import Activation, Format, Kernel, Machine, View
from edgeprune.kernels.elementwise.axes import Units, advanced, merged, ordered, vectors, view_axes
from edgeprune.kernels.elementwise.program import Held, Step, evaluate
from edgeprune.kernels.elementwise.table import table_of
from edgeprune.kernels.integer.finish import needed
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import stored

__all__ = ["Elementwise", "Step", "build_elementwise"]


@dataclass(frozen=True)
class Elementwise:
    """y = program(inputs), element by element.

    `program` is in postfix order: ("input", i) and ("constant", value) push a value, an `Activation` or `Rounded`
    replaces the last one, and (name,) of BINARY, ("Pow",) or ("Where",) takes its operands, the first one pushed
    first. An input that is broadcast along an axis has stride 0 there. `y` may be one of the inputs, in place, but
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
    units = Units.of(axes).count
    table = table_of(problem.program, [view.format for view in problem.inputs], problem.y.format)
    if table is not None:
        return Kernel(_lookup_function(problem), units, (table,), label="elementwise table")
    return Kernel(_function(problem, machine.lanes), units, label="elementwise")


def _needed(program: tuple[Step, ...], format: Format) -> tuple[Step, ...]:
    """`program` without bounds at its end that the bounds of the stored format set anyway."""
    while program and isinstance(program[-1], Activation) and not needed((program[-1],), format):
        program = program[:-1]
    return program


@lru_cache(maxsize=512)
def _function(problem: Elementwise, lanes: int) -> Any:
    views = (problem.y, *problem.inputs)
    axes = merged(ordered(view_axes(views)))
    units, strides = Units.of(axes), axes[-1].strides
    formats = [view.format for view in problem.inputs]
    narrow = any(view.format.quantized for view in views)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        def run(places: list[Any], extent: int) -> None:
            for first, width in vectors(extent, 2 * lanes if narrow else lanes):
                at = advanced(places, axes[-1], first)
                loaded = [
                    script.let(memory.load(index, width, stride))
                    for memory, index, stride in zip(memories[:-1], at[1:], strides[1:], strict=True)
                ]
                values = [Held(value, format) for value, format in zip(loaded, formats, strict=True)]
                result = stored(evaluate(problem.program, values, width), problem.y.format)
                memories[-1].store(at[0], result, width, strides[0])

        units.emit(begin, end, [view.offset for view in views], run)

    return script.kernel_function([*(format.dtype for format in formats), problem.y.format.dtype], body)


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
