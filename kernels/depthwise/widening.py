"""Depthwise convolution of stored integers, channels last, where products of int16 are added to int32 at once.

As on 64-bit Arm: eight channels are a vector of inputs and two of sums. Each input is loaded and widened once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from edgeprune.kernels import script
from edgeprune.kernels.abi import Residual
from edgeprune.kernels.depthwise.channels import float_tile, pack_channels
from edgeprune.kernels.depthwise.problem import Depthwise, Pointers
from edgeprune.kernels.epilogue import apply_epilogue, element
from edgeprune.kernels.integer.dot import IDIOMS
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import apart, converted, stored

WIDTH = 8
"""Channels of a whole vector; what is left goes in float32, by ever narrower ones."""
_HALF = WIDTH // 2


def pack_widening(weights: np.ndarray) -> np.ndarray:
    """[C, taps] as int16 [vector][tap][channel], one vector after the other."""
    return pack_channels(weights, WIDTH).astype(np.int16)


def tile_pixels(problem: Depthwise, registers: int) -> int:
    """Output pixels of one row whose sums, two vectors each, leave registers for a row of taps and one input."""
    return max(2, (registers - min(problem.kernel[1], registers // 4) - 2) // 2)


@lru_cache(maxsize=512)
def widening_function(problem: Depthwise, dot: str, pixels: int, constants: tuple[str, ...]) -> Any:
    """The function over (x, residuals..., weights, bias, scales, y); one unit is one output row."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        pointers = Pointers.of(problem, memories, constants)
        with script.serial(begin, end) as unit:
            image, row = unit // problem.y.height, unit % problem.y.height
            for first, tiles, size in script.tile_runs(problem.y.width, pixels):
                with script.serial(0, tiles) as tile:
                    column = first + tile * size
                    for start, vectors, width in script.vector_pieces(problem.y.channels, WIDTH):
                        with script.serial(0, vectors) as vector:
                            channel = start + vector * width
                            at, weights = (image, channel, row, column), channel * problem.taps
                            if width == WIDTH:
                                _tile(problem, dot, pointers, at, weights, size)
                            else:
                                float_tile(problem, pointers, at, weights, size, width)

    return script.kernel_function(problem.dtypes(constants), body)


def _tile(problem: Depthwise, dot: str, pointers: Pointers, at: Sequence[Any], weights: Any, pixels: int) -> None:
    """`pixels` outputs of one row at (image, channel, row, column), WIDTH channels."""
    image, channel, row, column = at
    top, left = row * problem.strides[0] - problem.pads[0], column * problem.strides[1] - problem.pads[1]
    origin, filters = script.let(element(problem.x, image, channel, top, left)), script.let(weights)
    assert pointers.bias is not None
    start = [script.let(pointers.bias.load(channel + part * _HALF, _HALF)) for part in (0, 1)]
    sums = [list(start) for _ in range(pixels)]
    columns = script.shared_reads(pixels, problem.kernel[1], problem.strides[1], problem.dilations[1])
    for tap_row in range(problem.kernel[0]):
        down = tap_row * problem.dilations[0] * problem.x.row_stride
        first = filters + tap_row * problem.kernel[1] * WIDTH
        taps = [script.let(pointers.weights.load(first + tap * WIDTH, WIDTH)) for tap in range(problem.kernel[1])]
        for offset, uses in columns:
            place = origin + (down + offset * problem.x.pixel_stride)
            value = script.let(converted(pointers.x.load(place, WIDTH), "int16"))
            for pixel, tap in uses:
                for part in (0, 1):
                    product = _wide(value, part) * _wide(taps[tap], part)
                    sums[pixel][part] = script.let(sums[pixel][part] + product)
    for pixel, totals in enumerate(sums):
        _store(problem, dot, pointers, totals, (image, channel, row, column + pixel))


def _wide(value: Any, part: int) -> Any:
    """One half of a vector of int16 as int32."""
    return converted(script.shuffle([value], range(part * _HALF, (part + 1) * _HALF)), script.INTEGER)


def _store(problem: Depthwise, dot: str, pointers: Pointers, totals: Sequence[Any], at: Sequence[Any]) -> None:
    """Write WIDTH results at (image, channel, row, column), scaled, the epilogue applied."""
    idiom, format = IDIOMS[dot], problem.y.format
    residuals = [
        script.let(script.load_view(pointers.residuals[position], step.view, at, WIDTH, "channel"))
        for position, step in enumerate(problem.residuals)
    ]
    assert pointers.scales is not None
    values = []
    for part, total in enumerate(totals):

        def own(position: int, _: Residual, first: int = part * _HALF) -> Any:
            return script.shuffle([residuals[position]], range(first, first + _HALF))

        value = apart(converted(total, script.FLOAT) * pointers.scales.load(at[1] + part * _HALF, _HALF))
        values.append(apply_epilogue(problem.epilogue, value, own))
    if format.quantized:
        joined = script.shuffle([idiom.rounded(value, format) for value in values], range(WIDTH))
        result = idiom.placed(joined, format)
    else:
        result = stored(script.shuffle(values, range(WIDTH)), format)
    pointers.y.store(element(problem.y, *at), result, WIDTH)
