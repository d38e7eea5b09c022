"""Depthwise convolution of int8, channels last, where products add up in int16 before they go to int32.

As on 64-bit Arm: sixteen channels are a vector of inputs, two of products and four of sums. Weights are known, so it is
known which taps can share an int16 whatever the inputs are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import Residual
from edgeprune.kernels.depthwise.channels import float_tile
from edgeprune.kernels.depthwise.problem import Depthwise, Pointers
from edgeprune.kernels.epilogue import apply_epilogue, element
from edgeprune.kernels.integer.chain import again, bytes_at, next_place, place_of, with_source
from edgeprune.kernels.integer.dot import IDIOMS
from edgeprune.kernels.integer.entries import MOST_CHAINED
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import apart, converted, stored

WIDTH = 16
"""Channels of a whole vector; eight go as half of one, fewer in float32."""
_HALF, _QUARTER = WIDTH // 2, WIDTH // 4
_PIXELS = 4
_INPUTS = 18

Chain = tuple[int, ...]


def tap_chains(weights: np.ndarray) -> tuple[Chain, ...]:
    """The taps of [C, taps] weights as chains that stay within int16 in every channel; no weight is beyond 127.

    The heaviest tap that is left begins a chain, and every tap that still fits joins it.
    """
    sizes = abs(weights.astype(np.int64))
    left, chains = sorted(range(sizes.shape[1]), key=lambda tap: -int(sizes[:, tap].sum())), []
    while left:
        chain, total = [], np.zeros(len(sizes), np.int64)
        for tap in left:
            if (total + sizes[:, tap]).max(initial=0) <= MOST_CHAINED:
                chain.append(tap)
                total = total + sizes[:, tap]
        left = [tap for tap in left if tap not in chain]
        chains.append(tuple(sorted(chain)))
    return tuple(chains)


def tile_pixels(problem: Depthwise) -> int:
    """Output pixels of one row whose inputs stay in registers."""
    columns = _INPUTS // problem.kernel[0] - problem.kernel[1]
    return max(1, min(_PIXELS, columns // problem.strides[1] + 1))


@lru_cache(maxsize=512)
def chains_function(problem: Depthwise, dot: str, chains: tuple[Chain, ...], constants: tuple[str, ...]) -> Any:
    """The function over (x, residuals..., weights, bias, scales, y); one unit is one output row."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        pointers = Pointers.of(problem, memories, constants)
        with with_source(), script.serial(begin, end) as unit:
            image, row = unit // problem.y.height, unit % problem.y.height
            for start, vectors, width in script.vector_pieces(problem.y.channels, WIDTH):
                with script.serial(0, vectors) as vector:
                    channel = start + vector * width
                    for first, tiles, size in script.tile_runs(problem.y.width, tile_pixels(problem)):
                        with script.serial(0, tiles) as tile:
                            at, weights = (image, channel, row, first + tile * size), channel * problem.taps
                            if width < _HALF:
                                float_tile(problem, pointers, at, weights, size, width)
                            else:
                                _tile(problem, dot, pointers, chains, at, weights, size, width)

    return script.kernel_function(problem.dtypes(constants), body)


def _tile(
    problem: Depthwise, dot: str, pointers: Pointers, chains: Sequence[Chain], at: Sequence[Any], weights: Any,
    pixels: int, width: int,
) -> None:  # fmt: skip
    """`pixels` outputs of one row at (image, channel, row, column), `width` channels."""
    image, channel, row, column = at
    top, left = row * problem.strides[0] - problem.pads[0], column * problem.strides[1] - problem.pads[1]
    place = place_of(pointers.x, element(problem.x, image, channel, top, left))
    filters, far = again(place_of(pointers.weights, weights)), problem.strides[1] * problem.x.pixel_stride
    taps = [bytes_at(filters, tap * width, width) for tap in range(problem.taps)]
    assert pointers.bias is not None and pointers.scales is not None
    quarters = range(0, width, _QUARTER)
    start = [script.let(pointers.bias.load(channel + first, _QUARTER)) for first in quarters]
    scales = [script.let(pointers.scales.load(channel + first, _QUARTER)) for first in quarters]
    inputs: dict[tuple[int, int], Any] = {}

    def read(pixel: int, tap: int) -> Any:
        down, right = (place * by for place, by in zip(divmod(tap, problem.kernel[1]), problem.dilations, strict=True))
        seen = (down, pixel * problem.strides[1] + right)
        if seen not in inputs:
            inputs[seen] = bytes_at(place, down * problem.x.row_stride + right * problem.x.pixel_stride, width)
        return inputs[seen]

    for pixel in range(pixels):
        totals = list(start)
        for chain in chains:
            for half in range(width // _HALF):
                sums = _products([(read(pixel, tap), taps[tap]) for tap in chain], half)
                for part in (0, 1):
                    quarter = 2 * half + part
                    totals[quarter] = script.let(totals[quarter] + _wide(sums, part))
        place = next_place(place, tirx.const(far, "int64"), totals)
        _store(problem, dot, pointers, totals, scales, (image, channel, row, column + pixel))


def _products(pairs: Sequence[tuple[Any, Any]], half: int) -> Any:
    """The int16 sum of the products of one half of the vectors."""
    lanes = range(half * _HALF, (half + 1) * _HALF)
    total = None
    for vectors in pairs:
        left, right = (converted(script.shuffle([vector], lanes), "int16") for vector in vectors)
        total = left * right if total is None else total + left * right
    return script.let(total)


def _wide(value: Any, part: int) -> Any:
    """One half of a vector of int16 as int32."""
    return converted(script.shuffle([value], range(part * _QUARTER, (part + 1) * _QUARTER)), script.INTEGER)


def _store(
    problem: Depthwise, dot: str, pointers: Pointers, totals: Sequence[Any], scales: Sequence[Any], at: Sequence[Any]
) -> None:
    """Write the results of all channels at (image, channel, row, column), scaled, the epilogue applied."""
    idiom, format, width = IDIOMS[dot], problem.y.format, len(totals) * _QUARTER
    residuals = [
        script.let(script.load_view(pointers.residuals[position], step.view, at, width, "channel"))
        for position, step in enumerate(problem.residuals)
    ]
    values = []
    for part, (total, scale) in enumerate(zip(totals, scales, strict=True)):

        def own(position: int, _: Residual, first: int = part * _QUARTER) -> Any:
            return script.shuffle([residuals[position]], range(first, first + _QUARTER))

        value = apart(converted(total, script.FLOAT) * scale)
        values.append(apply_epilogue(problem.epilogue, value, own))
    if format.quantized:
        joined = script.shuffle([idiom.rounded(value, format) for value in values], range(width))
        result = idiom.placed(joined, format)
    else:
        result = stored(script.shuffle(values, range(width)), format)
    pointers.y.store(element(problem.y, *at), result, width)
