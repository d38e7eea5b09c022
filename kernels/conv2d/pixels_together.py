"""The entries of several output channels over a tile of pixels: what is loaded of x serves all of them.

Every weight is one lane of a vector, which multiply-adds of 64-bit Arm take as their factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import View
from edgeprune.kernels.conv2d.lines import LANES, Load, Run, beyond, opaque, place_of, run, runs_of
from edgeprune.kernels.conv2d.pixels_loop import Loop
from edgeprune.kernels.conv2d.pixels_variant import Variant, in_neighbours, loop_of
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.epilogue import apply_epilogue, residuals
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import stored

_BYTES = 4


def reach(problem: Conv2d, variant: Variant) -> int:
    """Bytes from the first load of an entry to its last."""
    loop = loop_of(problem, variant)
    return (loop.rows - 1) * problem.grid[1].input_step * _BYTES + _within(loop.row)


def _within(row: Sequence[Load] | Sequence[Run]) -> int:
    """Bytes from the beginning of a row to that of its last load or run."""
    return sum(part.bytes for part in row[:-1])


@dataclass(frozen=True)
class Lists:
    """What `pack_together` gives."""

    values: Memory
    steps: Memory
    table: Memory


@dataclass(frozen=True)
class Results:
    """The output (0) or residual `number` - 1 of a problem; in channel 0 a tile's first pixel is element `base`."""

    number: int
    view: View
    memory: Memory
    base: Any


def do_list(problem: Conv2d, variant: Variant, lists: Lists, number: Any, x: Any, results: Sequence[Results]) -> None:
    """The output channels of list `number` from their biases to their store; `x` points to the tile's first input."""
    loop = loop_of(problem, variant)
    sums, channel = script.local_array(loop.sums * LANES), script.let(number * loop.together)
    if loop.given:
        for first, line, place in _lines(problem, loop, results[1], channel):
            for vector, value in enumerate(line.load(place)):
                sums.store((first + vector) * LANES, value, LANES)
    steps, values = script.let(lists.table.load(number * 2)), script.let(lists.table.load(number * 2 + 1))
    row = problem.grid[1].input_step * _BYTES - _within(loop.row)
    arguments = tirx.address_of(sums.buffer[0]), x, place_of(lists.values, values), place_of(lists.steps, steps)
    run("edgeprune_list", *arguments, tirx.const(row, "int64"))
    _finish(problem, loop, sums, channel, results)


def _lines(problem: Conv2d, loop: Loop, results: Results, channel: Any) -> Iterator[tuple[int, Run, Any]]:
    """(first vector, run, pointer) of every run of neighbours in `results`, channel by channel."""
    row, number = runs_of(loop.vectors, loop.stride), results.number
    down = problem.grid[1].output_steps[number] * _BYTES
    back = _within(row) + (loop.rows - 1) * down
    place = place_of(results.memory, results.base + channel * results.view.channel_stride)
    onward = [tirx.const(part.bytes, "int32") for part in row[:-1]]
    onward = ([*onward, opaque(down - _within(row))] * loop.rows)[:-1]
    onward = ([*onward, opaque(results.view.channel_stride * _BYTES - back)] * loop.together)[:-1]
    first = 0
    for turn, part in enumerate(row * loop.rows * loop.together):
        yield first, part, place
        first += part.vectors
        if turn < len(onward):
            place = beyond(place, onward[turn])


def _finish(problem: Conv2d, loop: Loop, sums: Memory, channel: Any, results: Sequence[Results]) -> None:
    """What comes after the sums, and their store."""
    if in_neighbours(problem, 0):
        for first, line, place in _lines(problem, loop, results[0], channel):
            line.store(
                place, [_finished(problem, loop, sums, channel, results, first + i) for i in range(line.vectors)]
            )
        return
    for vector in range(loop.sums):
        index, step = _pixels(problem, loop, results[0], channel, vector)
        results[0].memory.store(index, _finished(problem, loop, sums, channel, results, vector), LANES, step)


def _finished(problem: Conv2d, loop: Loop, sums: Memory, channel: Any, results: Sequence[Results], vector: int) -> Any:
    """What is stored of one of the sums."""
    rest = problem.epilogue[1:] if loop.given else problem.epilogue
    waiting = results[1 + len(residuals(problem.epilogue)) - len(residuals(rest)) :]

    def residual(position: int, _: Any) -> Any:
        index, step = _pixels(problem, loop, waiting[position], channel, vector)
        return waiting[position].memory.load(index, LANES, step)

    return stored(apply_epilogue(rest, sums.load(vector * LANES, LANES), residual), problem.y.format)


def _pixels(problem: Conv2d, loop: Loop, results: Results, channel: Any, vector: int) -> tuple[Any, int]:
    """The element of `results` where one of the sums' vectors begins, and the elements from one pixel to the next."""
    own, at = divmod(vector, loop.tile)
    row, column = divmod(at, loop.vectors)
    _, down, across = (axis.output_steps[results.number] for axis in problem.grid)
    first, step = _columns(loop)[column]
    index = results.base + (channel + own) * results.view.channel_stride + (row * down + first * across)
    return index, step * across


def _columns(loop: Loop) -> list[tuple[int, int]]:
    """(first pixel, pixels from one to the next) of every vector of a row."""
    found, before = [], 0
    for line in runs_of(loop.vectors, loop.stride):
        found += [(before + line.first(i), 1 + line.woven) for i in range(line.vectors)]
        before += line.vectors * LANES
    return found
