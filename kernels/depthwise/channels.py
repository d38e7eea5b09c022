"""Depthwise convolution of channels-last images: vectors along channels, a row of pixels in registers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from edgeprune.kernels import script
from edgeprune.kernels.depthwise.problem import Depthwise, Pointers
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import converted


def pack_channels(weights: np.ndarray, lanes: int) -> np.ndarray:
    """[C, taps] as [vector][taps][lanes] one vector after the other; ragged channels as ever narrower vectors."""
    parts = [
        weights[start + i * width : start + (i + 1) * width].T.ravel()
        for start, vectors, width in script.vector_pieces(weights.shape[0], lanes)
        for i in range(vectors)
    ]
    return np.ascontiguousarray(np.concatenate(parts))


def tile_pixels(problem: Depthwise, registers: int) -> int:
    """Output pixels of one row that are in registers together with one row of filter taps and one input."""
    return max(2, registers - min(problem.kernel[1], registers // 2) - 3)


@lru_cache(maxsize=512)
def channels_function(problem: Depthwise, lanes: int, pixels: int, constants: tuple[str, ...]) -> Any:
    """The function over (x, residuals..., weights, [bias], [scales], y); one unit is one output row.

    `constants` are the dtypes of those.
    """

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        pointers = Pointers.of(problem, memories, constants)
        with script.serial(begin, end) as unit:
            image, row = unit // problem.y.height, unit % problem.y.height
            for first, tiles, size in script.tile_runs(problem.y.width, pixels):
                with script.serial(0, tiles) as tile:
                    column = first + tile * size
                    for start, vectors, width in script.vector_pieces(problem.y.channels, lanes):
                        with script.serial(0, vectors) as vector:
                            channel = start + vector * width
                            weights = channel * problem.taps
                            float_tile(problem, pointers, (image, channel, row, column), weights, size, width)

    return script.kernel_function(problem.dtypes(constants), body)


def float_tile(
    problem: Depthwise, pointers: Pointers, at: tuple[Any, Any, Any, Any], weights: Any, pixels: int, lanes: int
) -> None:
    """`pixels` outputs of one row at (image, channel, row, column), `lanes` channels; each input is loaded once.

    Their weights begin at `weights`.
    """
    image, channel, row, column = at
    top, left = row * problem.strides[0] - problem.pads[0], column * problem.strides[1] - problem.pads[1]
    origin = script.let(element(problem.x, image, channel, top, left))
    filters = script.let(weights)
    sums = [pointers.start(channel, lanes)] * pixels
    columns = script.shared_reads(pixels, problem.kernel[1], problem.strides[1], problem.dilations[1])
    for tap_row in range(problem.kernel[0]):
        down = tap_row * problem.dilations[0] * problem.x.row_stride
        first = tap_row * problem.kernel[1]
        taps = [script.let(pointers.weight(filters + (first + tap) * lanes, lanes)) for tap in range(problem.kernel[1])]
        for offset, uses in columns:
            place = origin + (down + offset * problem.x.pixel_stride)
            value = script.let(converted(pointers.x.load(place, lanes), problem.real))
            for pixel, tap in uses:
                sums[pixel] = script.let(sums[pixel] + value * taps[tap])
    for pixel, total in enumerate(sums):
        place = (image, channel, row, column + pixel)
        pointers.store(problem, total, place, lanes, "channel")
