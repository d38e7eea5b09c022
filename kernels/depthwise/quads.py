"""Depthwise convolution of stored bytes, channels last, by multiplying four taps at once and adding the products.

Three or four rows of taps meet in one word: the channels of a pixel are interleaved with those of the pixels below, and
a word serves every output that reads it. Where one or two rows are left, the others of a word are neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.depthwise import pairs
from edgeprune.kernels.depthwise.channels import float_tile
from edgeprune.kernels.depthwise.pairs import Piece, channel_order, store_sums
from edgeprune.kernels.depthwise.problem import Depthwise, Pointers
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.integer.dot import IDIOMS
from edgeprune.kernels.script import Memory
from edgeprune.kernels.vector_math import lanes_of

DEPTH = 4
"""Taps of a word, and vectors of sums that the channels of a vector of bytes become."""
NARROWEST = 16
"""Channels of the narrowest vector that words are made of; of eight, pairs are."""
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


def pieces(problem: Depthwise, lanes: int) -> list[Piece]:
    """The channels as vectors of four times `lanes` and ever narrower ones, as `pairs.pieces`."""
    found, place = [], 0
    quads = sum(len(group) for group in tap_quads(problem.kernel))
    for start, vectors, width in script.vector_pieces(problem.y.channels, DEPTH * lanes):
        taps = DEPTH * quads if width >= NARROWEST else pairs.taps_of(problem, width)
        found.append(Piece(start, vectors, width, place, taps * width))
        place += vectors * taps * width
    return found


def pack_quads(problem: Depthwise, weights: np.ndarray, lanes: int) -> np.ndarray:
    """int8 [C, taps] as [vector][quad][sum][4] one vector after the other; the narrowest as `pairs.pack_pairs` does."""
    parts = []
    for piece in pieces(problem, lanes):
        for vector in range(piece.vectors):
            first = piece.start + vector * piece.width
            own = weights[first : first + piece.width]
            parts.append(_in_fours(problem, own) if piece.width >= NARROWEST else pairs.packed(problem, own))
    return np.ascontiguousarray(np.concatenate(parts))


def _in_fours(problem: Depthwise, weights: np.ndarray) -> np.ndarray:
    taps = weights[channel_order(len(weights), DEPTH)].reshape(-1, *problem.kernel)
    zero = np.zeros(len(weights), weights.dtype)
    quads = [quad for group in tap_quads(problem.kernel) for quad in group]
    columns = [[zero if tap is None else taps[:, tap[0], tap[1]] for tap in quad] for quad in quads]
    return np.stack([np.stack(quad, -1) for quad in columns]).ravel()


def in_order_of_sums(problem: Depthwise, values: np.ndarray, lanes: int) -> np.ndarray:
    """[C] values of channels in the order in which the kernel's sums stand."""
    order = []
    for piece in pieces(problem, lanes):
        within = channel_order(piece.width, DEPTH) if piece.width >= NARROWEST else pairs.own_order(piece.width)
        order += [piece.start + vector * piece.width + channel for vector in range(piece.vectors) for channel in within]
    return np.ascontiguousarray(values[order])


def tile_pixels(registers: int) -> int:
    """Output pixels of one row whose sums, four vectors each, leave registers for words and bytes."""
    return (registers - 8) // DEPTH


@lru_cache(maxsize=512)
def quads_function(problem: Depthwise, dot: str, lanes: int, pixels: int, constants: tuple[str, ...]) -> Any:
    """The function over (x, residuals..., weights, bias, scales, y) by Machine.dot `dot`; one unit is one row."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        pointers = Pointers.of(problem, memories, constants)
        with script.serial(begin, end) as unit:
            image, row = unit // problem.y.height, unit % problem.y.height
            for piece in pieces(problem, lanes):
                with script.serial(0, piece.vectors) as vector:
                    channel = script.let(piece.start + vector * piece.width)
                    weights = script.let(piece.weights + vector * piece.size)
                    for first, tiles, size in script.tile_runs(problem.y.width, pixels):
                        with script.serial(0, tiles) as tile:
                            at = (image, channel, row, first + tile * size)
                            if piece.width >= NARROWEST:
                                _tile(problem, pointers, dot, at, weights, size, piece.width)
                            else:
                                emit = pairs.pair_tile if piece.width >= pairs.NARROWEST else float_tile
                                emit(problem, pointers, at, weights, size, piece.width)

    return script.kernel_function(problem.dtypes(constants), body)


def _tile(
    problem: Depthwise,
    pointers: Pointers,
    dot: str,
    at: tuple[Any, Any, Any, Any],
    weights: Any,
    pixels: int,
    width: int,
) -> None:
    """`pixels` outputs of one row at (image, channel, row, column), `width` channels."""
    image, channel, row, column = at
    top, left = row * problem.strides[0] - problem.pads[0], column * problem.strides[1] - problem.pads[1]
    origin, lanes = script.let(element(problem.x, image, channel, top, left)), width // DEPTH
    assert pointers.bias is not None
    start = [script.let(pointers.bias.load(channel + part * lanes, lanes)) for part in range(DEPTH)]
    sums = [list(start) for _ in range(pixels)]
    first, multiply_add = 0, IDIOMS[dot].multiply_add
    for group in tap_quads(problem.kernel):
        for offset, uses in pairs.uses_of(problem, group, pixels):
            words = _words(problem, pointers.x, origin, offset, _reads([group[index] for _, index in uses]), width)
            for pixel, index in uses:
                place = weights + (first + index) * DEPTH * width
                for part in range(DEPTH):
                    taps = pointers.weights.load(place + part * width, width)
                    sums[pixel][part] = script.let(multiply_add(sums[pixel][part], words[part], taps))
        first += len(group)
    for pixel, totals in enumerate(sums):
        store_sums(problem, pointers, totals, (image, channel, row, column + pixel), width)


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
    problem: Depthwise, x: Memory, origin: Any, offset: int, reads: Sequence[tuple[int, int] | None], width: int
) -> list[Any]:
    """The words of `width` channels at column `offset`, as vectors in `channel_order`; what is missing is any byte."""
    view, bytes_ = problem.x, []
    for read in reads:
        if read is None:
            bytes_.append(bytes_[0])
            continue
        down, across = read[0] * problem.dilations[0], offset + read[1] * problem.dilations[1]
        place = origin + (down * view.row_stride + across * view.pixel_stride)
        bytes_.append(script.let(x.load(place, width)))
    halves = [[_interleaved(bytes_[two : two + 2], half, "int16") for half in (0, 1)] for two in (0, 2)]
    return [
        _interleaved([halves[0][part // 2], halves[1][part // 2]], part % 2, "int32", _BLOCK // 2)
        for part in range(DEPTH)
    ]


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
