"""Depthwise convolution of planar images: vectors along pixels, a column of output rows in registers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.depthwise.problem import Depthwise, Pointers
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import converted


def tile_rows(problem: Depthwise, registers: int) -> int:
    """Output rows that are in registers together with one column of filter taps and one input."""
    return max(2, registers - min(problem.kernel[0], registers // 2) - 3)


@lru_cache(maxsize=512)
def planar_function(problem: Depthwise, lanes: int, rows: int, constants: tuple[str, ...]) -> Any:
    """The function over (x, residuals..., weights, [bias], [scales], y); one unit is one channel of one image.

    `constants` are the dtypes of those.
    """
    width, starts = script.overlapping_starts(problem.y.width, lanes)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        pointers = Pointers.of(problem, memories, constants)
        with script.serial(begin, end) as unit:
            image, channel = unit // problem.y.channels, unit % problem.y.channels
            for first, tiles, size in script.tile_runs(problem.y.height, rows):
                with script.serial(0, tiles) as tile:
                    row = first + tile * size
                    with script.serial(0, problem.y.width // width) as vector:
                        _tile(problem, pointers, (image, channel, row, vector * width), size, width)
                    if problem.y.width % width:
                        _tile(problem, pointers, (image, channel, row, starts[-1]), size, width)

    return script.kernel_function(problem.dtypes(constants), body)


def _tile(problem: Depthwise, pointers: Pointers, at: tuple[Any, Any, Any, Any], rows: int, lanes: int) -> None:
    """`lanes` outputs of each of `rows` rows from (image, channel, row, column) on; each input is loaded once."""
    image, channel, row, column = at
    top, left = row * problem.strides[0] - problem.pads[0], column * problem.strides[1] - problem.pads[1]
    origin = script.let(element(problem.x, image, channel, top, left))
    filters = script.let(channel * problem.taps)
    sums = [script.splat(pointers.start(channel, 1), lanes)] * rows
    reads = script.shared_reads(rows, problem.kernel[0], problem.strides[0], problem.dilations[0])
    for tap_column in range(problem.kernel[1]):
        taps = [
            script.let(script.splat(pointers.weight(filters + (tap * problem.kernel[1] + tap_column), 1), lanes))
            for tap in range(problem.kernel[0])
        ]
        right = tap_column * problem.dilations[1]
        for offset, uses in reads:
            place = origin + (right + offset * problem.x.row_stride)
            value = script.let(converted(pointers.x.load_woven(place, lanes, problem.strides[1]), problem.real))
            for pixel, tap in uses:
                sums[pixel] = script.let(sums[pixel] + value * taps[tap])
    for below, woven in enumerate(sums):
        total = script.unwoven(woven, lanes, problem.strides[1])
        pointers.store(problem, total, (image, channel, row + below, column), lanes, "pixel")
