"""Depthwise convolution of stored integers, channels last, by multiplying pairs of taps and adding both products.

Two rows of taps meet as pairs: the channels of a pixel are interleaved with those of the pixel below, and a pair
serves every output that reads it. The last row of an odd number pairs neighbours within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import Format, Residual
from edgeprune.kernels.depthwise.channels import float_tile
from edgeprune.kernels.depthwise.problem import Depthwise, Pointers
from edgeprune.kernels.epilogue import apply_epilogue, element
from edgeprune.kernels.integer.dot import IDIOMS
from edgeprune.kernels.integer.packs import bounded_integer, packed_in_blocks, packs, shifted_int16, within
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import apart, converted, stored
from edgeprune.kernels.vector_math import constant

NARROWEST = 8
"""Channels of the narrowest vector that pairs are made of."""
APART = 2.2
"""What a vector of several pixels takes of one, as neighbours share no reads then."""
CYCLES = 18.0
"""What a vector of 3 x 3 taps takes where AVX-512 has it."""
_RUN = 4
"""int32 elements within which instructions interleave and pack."""

Tap = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """`vectors` vectors of `width` channels from `start` on; their weights begin at `weights`, `size` for each.

    The first `valid` channels of each count.
    """

    start: int
    vectors: int
    width: int
    weights: int
    size: int
    valid: int


def tap_pairs(kernel: tuple[int, int]) -> list[tuple[Tap, Tap | None]]:
    """The taps (row, column) two by two: one above the other, and neighbours in a last odd row."""
    rows, columns = kernel
    pairs: list[tuple[Tap, Tap | None]] = [
        ((row, column), (row + 1, column)) for row in range(0, rows - 1, 2) for column in range(columns)
    ]
    if rows % 2:
        last = rows - 1
        pairs += [
            ((last, column), (last, column + 1) if column + 1 < columns else None) for column in range(0, columns, 2)
        ]
    return pairs


def pieces(problem: Depthwise, lanes: int) -> list[Piece]:
    """The channels as vectors of twice `lanes` and narrower ones; the narrowest go without pairs."""
    found, place = [], 0
    for start, vectors, width in _runs(problem.y.channels, lanes, problem.has_slack):
        size = taps_of(problem, width) * width
        found.append(Piece(start, vectors, width, place, size, min(width, problem.y.channels - start)))
        place += vectors * size
    return found


def _runs(channels: int, lanes: int, slack: bool) -> list[tuple[int, int, int]]:
    """(start, vectors, width); with `slack` the last one may reach past the channels, else ever narrower ones fit."""
    if not slack:
        return script.vector_pieces(channels, 2 * lanes)
    whole, rest = divmod(channels, 2 * lanes)
    last = [(whole * 2 * lanes, 1, max(NARROWEST, 1 << (rest - 1).bit_length()))] if rest else []
    return [(0, whole, 2 * lanes), *last] if whole else last


def vector_count(channels: int, lanes: int, slack: bool) -> int:
    """Vectors that `channels` take; see `Depthwise.has_slack`."""
    return sum(vectors for _, vectors, _ in _runs(channels, lanes, slack))


def taps_of(problem: Depthwise, width: int) -> int:
    """Weights of one channel among `width`, zeros that make pairs included."""
    return 2 * len(tap_pairs(problem.kernel)) if width >= NARROWEST else problem.taps


def channel_order(width: int, parts: int = 2) -> list[int]:
    """The channel of each sum, in `parts` vectors: of every block what interleaving gives first, then what is next."""
    blocks = range(0, width, _RUN * parts)
    return [block + _RUN * part + lane for part in range(parts) for block in blocks for lane in range(_RUN)]


def own_order(width: int) -> list[int]:
    """The channel of each sum of a vector of `width`."""
    return channel_order(width) if width >= NARROWEST else list(range(width))


def pack_pairs(problem: Depthwise, weights: np.ndarray, lanes: int) -> np.ndarray:
    """[C, taps] as [vector][pair][sum][2] one vector after the other; the narrowest as [vector][tap][channel].

    Zeros where a vector is not full.
    """
    parts = []
    for piece in pieces(problem, lanes):
        for vector in range(piece.vectors):
            first = piece.start + vector * piece.width
            own = weights[first : first + piece.valid]
            parts.append(packed(problem, np.pad(own, ((0, piece.width - piece.valid), (0, 0)))))
    return np.ascontiguousarray(np.concatenate(parts))


def packed(problem: Depthwise, weights: np.ndarray) -> np.ndarray:
    """[C, taps] of one vector as [pair][sum][2]; where it is of the narrowest, as [tap][channel]."""
    if len(weights) < NARROWEST:
        return weights.T.ravel()
    taps = weights[channel_order(len(weights))].reshape(-1, *problem.kernel)
    zero = np.zeros(len(weights), weights.dtype)
    columns = [[zero if tap is None else taps[:, tap[0], tap[1]] for tap in pair] for pair in tap_pairs(problem.kernel)]
    return np.stack([np.stack(pair, -1) for pair in columns]).ravel()


def in_order_of_sums(problem: Depthwise, values: np.ndarray, lanes: int) -> np.ndarray:
    """[C] values of channels in the order in which the kernel's sums stand; zeros where a vector is not full."""
    order = []
    for piece in pieces(problem, lanes):
        own = own_order(piece.width)
        order += [piece.start + vector * piece.width + channel for vector in range(piece.vectors) for channel in own]
    return np.ascontiguousarray(np.pad(values, (0, len(order) - len(values)))[order])


def tile_pixels(registers: int) -> int:
    """Output pixels of one row whose sums, two vectors each, leave registers for pairs and their weights."""
    return (registers - 8) // 2


@lru_cache(maxsize=512)
def pairs_function(problem: Depthwise, lanes: int, pixels: int, constants: tuple[str, ...]) -> Any:
    """The function over (x, residuals..., weights, bias, scales, y); one unit is one output row."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        pointers = Pointers.of(problem, memories, constants)
        with script.serial(begin, end) as unit:
            image, row = unit // problem.y.height, unit % problem.y.height
            for first, tiles, size in script.tile_runs(problem.y.width, pixels):
                with script.serial(0, tiles) as tile:
                    column = first + tile * size
                    for piece in pieces(problem, lanes):
                        with script.serial(0, piece.vectors) as vector:
                            at = (image, piece.start + vector * piece.width, row, column)
                            weights = piece.weights + vector * piece.size
                            if piece.width >= NARROWEST:
                                _tile(problem, pointers, at, weights, size, piece.width, piece.valid)
                            else:
                                float_tile(problem, pointers, at, weights, size, piece.width)

    return script.kernel_function(problem.dtypes(constants), body)


def _tile(
    problem: Depthwise,
    pointers: Pointers,
    at: tuple[Any, Any, Any, Any],
    weights: Any,
    pixels: int,
    width: int,
    valid: int,
) -> None:
    """`pixels` outputs of one row at (image, channel, row, column), `valid` channels in vectors of `width`."""
    image, channel, row, column = at
    top, left = row * problem.strides[0] - problem.pads[0], column * problem.strides[1] - problem.pads[1]
    reads = _Reads(problem, pointers.x, script.let(element(problem.x, image, channel, top, left)), width)
    filters, half = script.let(weights), width // 2
    assert pointers.bias is not None
    start = [script.let(pointers.bias.load(channel + i * half, half)) for i in (0, 1)]
    sums = [list(start) for _ in range(pixels)]
    multiply_add = IDIOMS["pairs"].multiply_add
    for first, taps in _groups(problem.kernel):
        loaded = [
            [script.let(pointers.weights.load(filters + (2 * (first + i) + part) * width, width)) for part in (0, 1)]
            for i in range(len(taps))
        ]
        wide = [[script.let(converted(value, "int16")) for value in pair] for pair in loaded]
        for offset, uses in uses_of(problem, taps, pixels):
            words = reads.pair(taps, offset, any(taps[index][1] for _, index in uses))
            for pixel, index in uses:
                for part in (0, 1):
                    sums[pixel][part] = script.let(multiply_add(sums[pixel][part], words[part], wide[index][part]))
    for pixel, totals in enumerate(sums):
        store_sums(problem, pointers, totals, (image, channel, row, column + pixel), width, valid)


def _groups(kernel: tuple[int, int]) -> list[tuple[int, list[tuple[Tap, Tap | None]]]]:
    """The pairs of taps by the row they begin in, each with the number of its first."""
    groups: dict[int, tuple[int, list[tuple[Tap, Tap | None]]]] = {}
    for number, pair in enumerate(tap_pairs(kernel)):
        groups.setdefault(pair[0][0], (number, []))[1].append(pair)
    return list(groups.values())


def uses_of(problem: Depthwise, taps: Sequence[Sequence[Tap | None]], pixels: int) -> list[tuple[int, list[Tap]]]:
    """Columns of input that begin some of `taps`, which go together, each with the (pixel, number) that read it."""
    found: dict[int, list[Tap]] = {}
    for pixel in range(pixels):
        for index, (one, *_) in enumerate(taps):
            assert one is not None
            column = pixel * problem.strides[1] + one[1] * problem.dilations[1]
            found.setdefault(column, []).append((pixel, index))
    return sorted(found.items())


class _Reads:
    """Input vectors as int16, each loaded once, and their pairs."""

    def __init__(self, problem: Depthwise, x: Memory, origin: Any, width: int) -> None:
        self.problem, self.x, self.origin, self.width = problem, x, origin, width
        self.values: dict[Tap, Any] = {}

    def pair(self, taps: Sequence[tuple[Tap, Tap | None]], offset: int, both: bool) -> list[Any]:
        """Two vectors of words of the pair of `taps` at column `offset`; where not `both` count, of the first alone."""
        one, two = taps[0]
        first = self._value(one[0], offset)
        second = first
        if both and two is not None:
            second = self._value(two[0], offset + (two[1] - one[1]) * self.problem.dilations[1])
        order = channel_order(self.width)
        half = self.width // 2
        words = []
        for part in (0, 1):
            lanes = [
                place for channel in order[part * half : (part + 1) * half] for place in (channel, channel + self.width)
            ]
            words.append(script.let(tirx.reinterpret(f"int32x{half}", script.shuffle([first, second], lanes))))
        return words

    def _value(self, tap_row: int, column: int) -> Any:
        """The channels of the pixel `column` right of the tile's first, in row `tap_row` of taps."""
        if (tap_row, column) not in self.values:
            view = self.problem.x
            place = tap_row * self.problem.dilations[0] * view.row_stride + column * view.pixel_stride
            self.values[tap_row, column] = script.let(converted(self.x.load(self.origin + place, self.width), "int16"))
        return self.values[tap_row, column]


def store_sums(
    problem: Depthwise, pointers: Pointers, totals: Sequence[Any], at: Sequence[Any], width: int, valid: int
) -> None:
    """Write the first `valid` of `width` results, whose sums stand in `channel_order`, scaled, the epilogue applied."""
    order, lanes = channel_order(width, len(totals)), width // len(totals)
    assert pointers.scales is not None

    def loaded(position: int, step: Residual) -> Any:
        return script.let(script.load_view(pointers.residuals[position], step.view, at, width, "channel"))

    residuals = [loaded(position, step) for position, step in enumerate(problem.residuals)]
    values = []
    for part, total in enumerate(totals):

        def own(position: int, _: Residual, first: int = part * lanes) -> Any:
            return script.shuffle([residuals[position]], order[first : first + lanes])

        value = apart(converted(total, script.FLOAT) * pointers.scales.load(at[1] + part * lanes, lanes))
        values.append(apply_epilogue(problem.epilogue, value, own))
    place, result = script.let(element(problem.y, *at)), _joined(values, problem.y.format, width)
    if valid == width:
        pointers.y.store(place, result, width)
        return
    kept = script.let(result)
    for first, _, lanes in script.vector_pieces(valid, width // 2):
        value = script.shuffle([kept], range(first, first + lanes))
        pointers.y.store(place + first, value, lanes)


def _joined(values: Sequence[Any], format: Format, width: int) -> Any:
    """What `format` stores of results in `channel_order`, in the order of channels."""
    if not format.quantized or not packs(format) or (len(values) > 2 and format.itemsize > 1):
        order = channel_order(width, len(values))
        joined = stored(script.shuffle(values, range(width)), format)
        return script.shuffle([joined], [order.index(channel) for channel in range(width)])
    whole = [bounded_integer(value, format) for value in values]
    if len(values) > 2:
        return packed_in_blocks(whole, format)
    half = shifted_int16(whole, format)
    if format.itemsize == 2:
        return within(half, format)
    bounds = np.iinfo(format.dtype)
    near = tirx.min(tirx.max(half, constant(format.low, half, "int16")), constant(int(bounds.max), half, "int16"))
    return converted(near, format.dtype)
