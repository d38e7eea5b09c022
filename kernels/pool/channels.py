"""Pooling of channels-last images: vectors along channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.pool.problem import Pool, Window
from edgeprune.kernels.script import Memory

WIDEST_UNROLLED = 8


@lru_cache(maxsize=512)
def channels_function(problem: Pool, lanes: int, registers: int) -> Any:
    """The function over (x, residuals..., y); one unit is one output row."""
    first, last = problem.interior(1)
    lanes = problem.vector_lanes(lanes)
    tiled = problem.kernel[1] <= WIDEST_UNROLLED and last > first

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        with script.serial(begin, end) as unit:
            image, row = unit // problem.y.height, unit % problem.y.height
            rows = _bound(problem.window(0, row))
            if not tiled:
                _pixels(problem, memories, (image, row), rows, (0, problem.y.width), lanes, registers)
                return
            _pixels(problem, memories, (image, row), rows, (0, first), lanes, registers)
            _interior(problem, memories, (image, row), rows, (first, last), lanes, registers // 2)
            _pixels(problem, memories, (image, row), rows, (last, problem.y.width), lanes, registers)

    return script.kernel_function(problem.dtypes, body)


def _bound(window: Window) -> Window:
    fields = (window.first, window.low, window.high, window.count)
    return Window(*(value if isinstance(value, int) else script.let(value) for value in fields))


def _interior(
    problem: Pool,
    memories: Sequence[Memory],
    at: tuple[Any, Any],
    rows: Window,
    columns: tuple[int, int],
    lanes: int,
    pixels: int,
) -> None:
    """Output columns whose windows are whole, `pixels` at once."""
    for first, tiles, size in script.tile_runs(columns[1] - columns[0], pixels):
        with script.serial(0, tiles) as tile:
            column = columns[0] + first + tile * size
            for start, vectors, width in script.vector_pieces(problem.y.channels, lanes):
                with script.serial(0, vectors) as vector:
                    place = (at[0], start + vector * width, at[1], column)
                    _tile(problem, memories, place, rows, size, width)


def _tile(
    problem: Pool, memories: Sequence[Memory], at: tuple[Any, Any, Any, Any], rows: Window, pixels: int, lanes: int
) -> None:
    """`pixels` neighbouring outputs of one row, `lanes` channels; each input is loaded once."""
    image, channel, row, column = at
    results = problem.partials(pixels, lanes)
    left = column * problem.strides[1] - problem.pads[1]
    origin = script.let(element(problem.x, image, channel, rows.first, left))
    with script.serial(rows.low, rows.high) as tap_row:
        start = script.let(origin + tap_row * (problem.dilations[0] * problem.x.row_stride))
        for offset, uses in script.shared_reads(pixels, problem.kernel[1], problem.strides[1], problem.dilations[1]):
            value = script.let(problem.taken(memories[0].load(start + offset * problem.x.pixel_stride, lanes)))
            for pixel, _ in uses:
                result = problem.combine(results.load(pixel * lanes, lanes), value)
                results.store(pixel * lanes, result, lanes)
    for pixel in range(pixels):
        place = (image, channel, row, column + pixel)
        count = rows.count * problem.kernel[1]
        problem.store(memories, results.load(pixel * lanes, lanes), count, place, lanes, "channel")


def _pixels(
    problem: Pool,
    memories: Sequence[Memory],
    at: tuple[Any, Any],
    rows: Window,
    columns: tuple[int, int],
    lanes: int,
    registers: int,
) -> None:
    """Output columns one by one, with any window, all channels of a group in registers."""
    if columns[0] == columns[1]:
        return
    if columns[1] == columns[0] + 1:
        _channels(problem, memories, (*at, columns[0]), rows, lanes, registers)
        return
    with script.serial(columns[0], columns[1]) as column:
        _channels(problem, memories, (*at, column), rows, lanes, registers)


def _channels(
    problem: Pool, memories: Sequence[Memory], at: tuple[Any, Any, Any], rows: Window, lanes: int, registers: int
) -> None:
    image, row, column = at
    columns = _bound(problem.window(1, column))
    for start, vectors, width in script.vector_pieces(problem.y.channels, lanes):
        for first, groups, size in script.tile_runs(vectors, registers // 2):
            with script.serial(0, groups) as group:
                channel = script.let(start + (first + group * size) * width)
                _window(problem, memories, (image, channel, row, column), (rows, columns), size, width)


def _window(
    problem: Pool,
    memories: Sequence[Memory],
    at: tuple[Any, Any, Any, Any],
    window: tuple[Window, Window],
    vectors: int,
    lanes: int,
) -> None:
    """One output pixel, `vectors` times `lanes` channels, over the taps of `window`.

    Where few vectors are to be had, several taps of a row go to sums of their own, so that additions need not wait.
    """
    rows, columns = window
    known = isinstance(columns.low, int) and isinstance(columns.high, int)
    ways = max(1, min(8 // vectors, columns.high - columns.low)) if known else 1
    results = problem.partials(ways * vectors, lanes)
    origin = script.let(element(problem.x, at[0], at[1], rows.first, columns.first))
    step = problem.dilations[1] * problem.x.pixel_stride

    def take(start: Any, way: int) -> None:
        for vector in range(vectors):
            slot = (way * vectors + vector) * lanes
            value = problem.taken(memories[0].load(start + vector * lanes, lanes))
            results.store(slot, problem.combine(results.load(slot, lanes), value), lanes)

    with script.serial(rows.low, rows.high) as tap_row:
        start = script.let(origin + tap_row * (problem.dilations[0] * problem.x.row_stride) + columns.low * step)
        turns = (columns.high - columns.low) // ways
        with script.serial(0, turns) as turn:
            for way in range(ways):
                take(start + (turn * ways + way) * step, way)
        for way in range((columns.high - columns.low) % ways if known else 0):
            take(start + (turns * ways + way) * step, way)
    for vector in range(vectors):
        value = results.load(vector * lanes, lanes)
        for way in range(1, ways):
            value = problem.combine(value, results.load((way * vectors + vector) * lanes, lanes))
        place = (at[0], at[1] + vector * lanes, at[2], at[3])
        problem.store(memories, value, rows.count * columns.count, place, lanes, "channel")
