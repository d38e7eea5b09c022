"""Depthwise convolution of stored bytes, channels last, by multiplying four taps at once and adding the products.

Three or four rows of taps meet in one word: the channels of a pixel are interleaved with those of the pixels below, and
a word serves every output that reads it. Where one or two rows are left, the others of a word are neighbours. The last
vector of channels may read past what there is, as far as buffers of integers reach, and stores what counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.depthwise import pairs
from edgeprune.kernels.depthwise.pairs import channel_order, store_sums
from edgeprune.kernels.depthwise.problem import Depthwise, Pointers
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.integer.dot import IDIOMS
from edgeprune.kernels.script import Memory
from edgeprune.kernels.vector_math import lanes_of

DEPTH = 4
"""Taps of a word, and vectors of sums that the channels of a vector of bytes become."""
NARROWEST = 16
"""Bytes of the narrowest vector that words are made of."""
APART = 1.4
"""What a vector of several pixels takes of one, as neighbours share no reads then."""
CYCLES = 25.0
"""What a vector of 3 x 3 taps takes where AVX-512 has it."""
_BLOCK = 16
"""Bytes within which instructions interleave."""

Quad = tuple[pairs.Tap | None, ...]


def tap_quads(kernel: tuple[int, int]) -> list[list[Quad]]:
    """The taps (row, column) in fours, by the row they begin in; the first of each is none that is missing."""
    rows, columns = kernel
    groups, row = [], 0
    while row < rows:
        height = min(DEPTH, rows - row)
        width = DEPTH // height
        groups.append([_quad(kernel, (row, column), (height, width)) for column in range(0, columns, width)])
        row += height
    return groups


def _quad(kernel: tuple[int, int], corner: pairs.Tap, extent: tuple[int, int]) -> Quad:
    taps = [(corner[0] + i, corner[1] + j) for i in range(extent[0]) for j in range(extent[1])]
    own = tuple(tap if tap[1] < kernel[1] else None for tap in taps)
    return own + (None,) * (DEPTH - len(own))


def vector_widths(channels: int, lanes: int) -> list[int]:
    """The vectors of bytes that hold `channels`: of four times `lanes`, and one that may be narrower and not full."""
    whole, rest = divmod(channels, DEPTH * lanes)
    return [DEPTH * lanes] * whole + ([max(NARROWEST, 1 << (rest - 1).bit_length())] if rest else [])


def pack_quads(problem: Depthwise, weights: np.ndarray, lanes: int) -> np.ndarray:
    """int8 [C, taps] as [vector][quad][sum][4], one vector after the other; zeros where one is not full."""
    widths = vector_widths(problem.y.channels, lanes)
    padded = np.pad(weights, ((0, sum(widths) - len(weights)), (0, 0)))
    starts = np.cumsum([0, *widths[:-1]])
    parts = [_in_fours(problem, padded[start : start + width]) for start, width in zip(starts, widths, strict=True)]
    return np.ascontiguousarray(np.concatenate(parts))


def _in_fours(problem: Depthwise, weights: np.ndarray) -> np.ndarray:
    taps = weights[channel_order(len(weights), DEPTH)].reshape(-1, *problem.kernel)
    zero = np.zeros(len(weights), weights.dtype)
    quads = [quad for group in tap_quads(problem.kernel) for quad in group]
    columns = [[zero if tap is None else taps[:, tap[0], tap[1]] for tap in quad] for quad in quads]
    return np.stack([np.stack(quad, -1) for quad in columns]).ravel()


def in_order_of_sums(problem: Depthwise, values: np.ndarray, lanes: int) -> np.ndarray:
    """[C] values of channels in the order in which the kernel's sums stand; zeros where a vector is not full."""
    widths = vector_widths(problem.y.channels, lanes)
    starts = np.cumsum([0, *widths[:-1]])
    order = [
        start + channel for start, width in zip(starts, widths, strict=True) for channel in channel_order(width, DEPTH)
    ]
    return np.ascontiguousarray(np.pad(values, (0, sum(widths) - len(values)))[order])


def tile_pixels(registers: int) -> int:
    """Output pixels of one row whose sums, four vectors each, leave registers for words and bytes."""
    return (registers - 8) // DEPTH


@lru_cache(maxsize=512)
def quads_function(
    problem: Depthwise, dot: str, lanes: int, pixels: int, constants: tuple[str, ...], spread: int = 0
) -> Any:
    """The function over (x, residuals..., weights, bias, scales, y) by Machine.dot `dot`; one unit is one row.

    A vector of x is of every second run of `spread` channels, where that is not 0.
    """

    taps = DEPTH * sum(len(group) for group in tap_quads(problem.kernel))
    runs = _runs(problem.y.channels, lanes)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        pointers = Pointers.of(problem, memories, constants)
        with script.serial(begin, end) as unit:
            image, row = unit // problem.y.height, unit % problem.y.height
            for start, vectors, width, valid in runs:
                with script.serial(0, vectors) as vector:
                    channel = script.let(start + vector * width)
                    for first, tiles, size in script.tile_runs(problem.y.width, pixels):
                        with script.serial(0, tiles) as tile:
                            at = (image, channel, row, first + tile * size)
                            _tile(problem, pointers, dot, at, channel * taps, size, width, valid, spread)

    return script.kernel_function(problem.dtypes(constants), body)


def _runs(channels: int, lanes: int) -> list[tuple[int, int, int, int]]:
    """The vectors by their width and how many of it count: (start, vectors, width, valid)."""
    widths = vector_widths(channels, lanes)
    whole = channels // (DEPTH * lanes)
    runs = [(0, whole, DEPTH * lanes, DEPTH * lanes)] if whole else []
    start = whole * DEPTH * lanes
    return [*runs, (start, 1, widths[-1], channels - start)] if channels > start else runs


def _tile(
    problem: Depthwise,
    pointers: Pointers,
    dot: str,
    at: tuple[Any, Any, Any, Any],
    weights: Any,
    pixels: int,
    width: int,
    valid: int,
    spread: int,
) -> None:
    """`pixels` outputs of one row at (image, channel, row, column), `valid` channels in vectors of `width`."""
    image, channel, row, column = at
    top, left = row * problem.strides[0] - problem.pads[0], column * problem.strides[1] - problem.pads[1]
    weights, lanes = script.let(weights), width // DEPTH
    origin = script.let(element(problem.x, image, channel, top, left))
    assert pointers.bias is not None
    start = [script.let(pointers.bias.load(channel + part * lanes, lanes)) for part in range(DEPTH)]
    sums = [list(start) for _ in range(pixels)]
    first, multiply_add = 0, IDIOMS[dot].multiply_add
    for group in tap_quads(problem.kernel):
        for offset, uses in pairs.uses_of(problem, group, pixels):
            reads = _reads([group[index] for _, index in uses])
            words = _words(problem, pointers.x, origin, offset, reads, width, spread)
            for pixel, index in uses:
                place = weights + (first + index) * DEPTH * width
                for part in range(DEPTH):
                    taps = pointers.weights.load(place + part * width, width)
                    sums[pixel][part] = script.let(multiply_add(sums[pixel][part], words[part], taps))
        first += len(group)
    for pixel, totals in enumerate(sums):
        store_sums(problem, pointers, totals, (image, channel, row, column + pixel), width, valid)


def _reads(quads: Sequence[Quad]) -> list[tuple[int, int] | None]:
    """What a word that serves all of `quads` holds: rows of taps, and columns from the word's own on."""
    found: list[tuple[int, int] | None] = [None] * DEPTH
    for quad in quads:
        assert quad[0] is not None
        for place, tap in enumerate(quad):
            if tap is not None:
                found[place] = (tap[0], tap[1] - quad[0][1])
    return found


def _words(
    problem: Depthwise,
    x: Memory,
    origin: Any,
    offset: int,
    reads: Sequence[tuple[int, int] | None],
    width: int,
    spread: int,
) -> list[Any]:
    """The words of `width` channels at column `offset`, as vectors in `channel_order`; what is missing is any byte."""
    view, bytes_ = problem.x, list[Any]()
    for read in reads:
        if read is None:
            bytes_.append(bytes_[0])
            continue
        down, across = read[0] * problem.dilations[0], offset + read[1] * problem.dilations[1]
        place = origin + (down * view.row_stride + across * view.pixel_stride)
        bytes_.append(script.let(_loaded(x, place, width, spread)))
    halves = [[_interleaved(bytes_[two : two + 2], half, "int16") for half in (0, 1)] for two in (0, 2)]
    return [
        _interleaved([halves[0][part // 2], halves[1][part // 2]], part % 2, "int32", _BLOCK // 2)
        for part in range(DEPTH)
    ]


def _loaded(x: Memory, place: Any, width: int, spread: int) -> Any:
    if not spread:
        return x.load(place, width)
    order = [2 * first + lane for first in range(0, width, spread) for lane in range(spread)]
    return script.shuffle([x.load(place, width), x.load(place + width, width)], order)


def _interleaved(two: Sequence[Any], half: int, dtype: str, block: int = _BLOCK) -> Any:
    """The first or second `half` of every block of `two` vectors, element by element in turn, as `dtype`."""
    count = lanes_of(two[0])
    order = [
        first + half * (block // 2) + lane + place * count
        for first in range(0, count, block)
        for lane in range(block // 2)
        for place in (0, 1)
    ]
    return script.let(tirx.reinterpret(f"{dtype}x{count // 2}", script.shuffle(two, order)))
