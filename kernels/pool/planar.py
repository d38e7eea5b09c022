"""Pooling of planar images: vectors along pixels."""

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
def planar_function(problem: Pool, lanes: int) -> Any:
    """The function over (x, residuals..., y); one unit is one channel of one image."""
    first, last = problem.interior(1)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        with script.serial(begin, end) as unit, script.serial(0, problem.y.height) as row:
            at = (unit // problem.y.channels, unit % problem.y.channels, row)
            rows = problem.window(0, row)
            rows = Window(*(script.let(value) for value in (rows.first, rows.low, rows.high, rows.count)))
            for low, high in ((0, first), (last, problem.y.width)):
                if low < high:
                    with script.serial(low, high) as column:
                        _outputs(problem, memories, (*at, column), rows, problem.window(1, column), 1)
            if first < last:
                _interior(problem, memories, at, rows, (first, last), lanes)

    return script.kernel_function(problem.dtypes, body)


def _interior(
    problem: Pool,
    memories: Sequence[Memory],
    at: tuple[Any, Any, Any],
    rows: Window,
    columns: tuple[int, int],
    lanes: int,
) -> None:
    """Output columns whose windows are whole, by vectors; the last vector may overlap the one before."""
    count = columns[1] - columns[0]
    width, starts = script.overlapping_starts(count, problem.vector_lanes(lanes))
    with script.serial(0, count // width) as vector:
        column = columns[0] + vector * width
        _outputs(problem, memories, (*at, column), rows, _whole(problem, column), width)
    if count % width:
        column = columns[0] + starts[-1]
        _outputs(problem, memories, (*at, column), rows, _whole(problem, column), width)


def _whole(problem: Pool, column: Any) -> Window:
    taps = problem.kernel[1]
    return Window(column * problem.strides[1] - problem.pads[1], 0, taps, taps)


def _outputs(
    problem: Pool, memories: Sequence[Memory], at: tuple[Any, Any, Any, Any], rows: Window, columns: Window, lanes: int
) -> None:
    """`lanes` neighbouring outputs of one row, all with the same taps."""
    image, channel, _, _ = at
    result = problem.partials(1, lanes)
    origin = script.let(element(problem.x, image, channel, rows.first, columns.first))

    def take(start: Any) -> None:
        value = problem.taken(memories[0].load_woven(start, lanes, problem.strides[1]))
        result.store(0, problem.combine(result.load(0, lanes), value), lanes)

    with script.serial(rows.low, rows.high) as tap_row:
        start = script.let(origin + tap_row * (problem.dilations[0] * problem.x.row_stride))
        if isinstance(columns.high, int) and columns.high <= WIDEST_UNROLLED:
            for tap in range(columns.high):
                take(start + tap * problem.dilations[1])
        else:
            with script.serial(columns.low, columns.high) as tap:
                take(start + tap * problem.dilations[1])
    total = script.unwoven(result.load(0, lanes), lanes, problem.strides[1])
    problem.store(memories, total, rows.count * columns.count, at, lanes, "pixel")
