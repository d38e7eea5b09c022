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
from edgeprune.kernels.conv2d.lines import LANES, Load, beyond, loads_of, opaque, place_of, put, run
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


def _within(row: Sequence[Load]) -> int:
    """Bytes from the first load of a row to its last."""
    return sum(load.bytes for load in row[:-1])


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
        for first, count, place in _lines(problem, loop, results[1], channel):
            for vector, value in enumerate(Load(count, 1)(place)):
                sums.store((first + vector) * LANES, value, LANES)
    steps, values = script.let(lists.table.load(number * 2)), script.let(lists.table.load(number * 2 + 1))
    row = problem.grid[1].input_step * _BYTES - _within(loop.row)
    arguments = tirx.address_of(sums.buffer[0]), x, place_of(lists.values, values), place_of(lists.steps, steps)
    run("edgeprune_list", *arguments, tirx.const(row, "int64"))
    _finish(problem, loop, sums, channel, results)


def _lines(problem: Conv2d, loop: Loop, results: Results, channel: Any) -> Iterator[tuple[int, int, Any]]:
    """(first vector, vectors, pointer) of every run of neighbours in `results`, channel by channel."""
    row, number = loads_of(loop.vectors, 1), results.number
    down = problem.grid[1].output_steps[number] * _BYTES
    back = _within(row) + (loop.rows - 1) * down
    place = place_of(results.memory, results.base + channel * results.view.channel_stride)
    onward = [tirx.const(load.bytes, "int32") for load in row[:-1]]
    onward = ([*onward, opaque(down - _within(row))] * loop.rows)[:-1]
    onward = ([*onward, opaque(results.view.channel_stride * _BYTES - back)] * loop.together)[:-1]
    first = 0
    for turn, load in enumerate(row * loop.rows * loop.together):
        yield first, load.vectors, place
        first += load.vectors
        if turn < len(onward):
            place = beyond(place, onward[turn])


def _finish(problem: Conv2d, loop: Loop, sums: Memory, channel: Any, results: Sequence[Results]) -> None:
    """What comes after the sums, and their store."""
    if not in_neighbours(problem, 0):
        for vector in range(loop.sums):
            value = _finished(problem, loop, sums, channel, results, vector)
            results[0].memory.store(_index(problem, loop, results[0], channel, vector), value, LANES, _step(problem, 0))
        return
    for first, count, place in _lines(problem, loop, results[0], channel):
        put(place, [_finished(problem, loop, sums, channel, results, first + i) for i in range(count)])


def _finished(problem: Conv2d, loop: Loop, sums: Memory, channel: Any, results: Sequence[Results], vector: int) -> Any:
    """What is stored of one of the sums."""
    rest = problem.epilogue[1:] if loop.given else problem.epilogue
    waiting = results[1 + len(residuals(problem.epilogue)) - len(residuals(rest)) :]

    def residual(position: int, _: Any) -> Any:
        found = waiting[position]
        index = _index(problem, loop, found, channel, vector)
        return found.memory.load(index, LANES, _step(problem, found.number))

    return stored(apply_epilogue(rest, sums.load(vector * LANES, LANES), residual), problem.y.format)


def _step(problem: Conv2d, number: int) -> int:
    return problem.grid[2].output_steps[number]


def _index(problem: Conv2d, loop: Loop, results: Results, channel: Any, vector: int) -> Any:
    """The element of `results` where one of the sums' vectors begins."""
    own, at = divmod(vector, loop.tile)
    row, column = divmod(at, loop.vectors)
    within = row * problem.grid[1].output_steps[results.number] + column * LANES * _step(problem, results.number)
    return results.base + (channel + own) * results.view.channel_stride + within
