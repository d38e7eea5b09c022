"""Constants of int8 products: weights in the order in which they are used, and what each tile of channels needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.product_assembly import Channels
from edgeprune.kernels.fixed_point.product_loop import BLOCK, Loop
from edgeprune.kernels.fixed_point.product_variant import block_order, first_channels, kept_blocks, longest_skip

SCALE = 256
"""What packed sums are times the sums."""

_FOLDED_SHIFT = 23


@dataclass(frozen=True)
class Sums:
    """Weights int8 [groups, taps, in, out] with int64 biases [groups * out] for inputs as stored."""

    weights: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, problem: Conv2d, weights: np.ndarray, bias: np.ndarray | None) -> Sums:
        """With the zero of x folded into the bias; raises ValueError where a bias leaves int32 by that."""
        totals = weights.astype(np.int64).sum(axis=(1, 2)).ravel()
        start = np.zeros(totals.shape, np.int64) if bias is None else bias.astype(np.int64)
        folded = start - problem.x.format.zero * totals
        if np.abs(folded).max(initial=0) >= 2**31:
            raise ValueError("a bias leaves int32 once the zero of the input is folded in")
        return cls(weights, folded)

    @property
    def packable(self) -> bool:
        """Whether two weights fit one int16, and 256 times any sum fits int32."""
        wide = self.weights.astype(np.int64)
        low = np.minimum(-128 * wide, 127 * wide).sum(axis=(1, 2)).ravel() + self.bias
        high = np.maximum(-128 * wide, 127 * wide).sum(axis=(1, 2)).ravel() + self.bias
        limit = 2**31 // SCALE
        return bool(self.weights.min(initial=0) >= -127 and low.min() > -limit and high.max() < limit)

    def blocks(self) -> np.ndarray:
        """The weights as int64 [groups, blocks, BLOCK, out], filled up with zeros."""
        groups, taps, inputs, outputs = self.weights.shape
        flat = self.weights.reshape(groups, taps * inputs, outputs).astype(np.int64)
        return np.pad(flat, ((0, 0), (0, -taps * inputs % BLOCK), (0, 0))).reshape(groups, -1, BLOCK, outputs)

    def start(self, packed: bool) -> np.ndarray:
        """Where the accumulators begin, int32 [groups * out]."""
        if not packed:
            return self.bias.astype(np.int32)
        even = self.blocks()[:, :, 0::2].sum(axis=(1, 2)).ravel()
        return (SCALE * self.bias - (SCALE // 2 - 1) * even).astype(np.uint32).view(np.int32)


def words_of(blocks: np.ndarray, packed: bool) -> np.ndarray:
    """The words of weights int64 [..., BLOCK], uint8 [..., BLOCK]."""
    if not packed:
        return blocks.astype(np.int8).view(np.uint8)
    pairs = blocks[..., 0::2] + SCALE * blocks[..., 1::2]
    return np.ascontiguousarray(pairs.astype("<i2")).view(np.uint8)


def pack_stream(
    problem: Conv2d, weights: Sums, requantize: Requantize, tile: Channels
) -> tuple[np.ndarray, np.ndarray]:
    """The stream of `Channels`, int32 [words], and where each group begins in it, int32 [groups + 1]."""
    loop = tile.loop
    kept = kept_blocks(weights.weights, loop.channels)
    words = words_of(np.moveaxis(weights.blocks(), 2, 3), loop.packed)
    places = None
    if loop.line:
        order, places = block_order(problem, loop.line)
        kept, words = kept[:, :, order], words[:, order]
    firsts = first_channels(words.shape[2], loop.channels)
    steps = (np.append(np.diff(firsts), 0) - tile.moved).astype(np.int32)
    scaled, starts = rescale(requantize, loop.packed), weights.start(loop.packed)
    shifts, factors = (scaled.shifts - 1).astype(np.uint8), scaled.factors(requantize.zero)
    if tile.brief:
        factors = factors[:, :1]
    begins, out = [0], bytearray()
    for group, tiles in enumerate(kept):
        for first, used, step in zip(firsts, tiles, steps, strict=True):
            own = words[group, :, first : first + loop.channels]
            turns, entry = _sparse(own, used, places, loop) if loop.sparse else (_dense(own, loop), 0)
            channels = slice(group * words.shape[2] + first, group * words.shape[2] + first + loop.channels)
            out += starts[channels].tobytes()
            out += _heading(tile, shifts[channels], tile.size_of(len(turns), entry))
            out += turns + factors[channels].tobytes() + (step.tobytes() if tile.ragged else b"")
        begins.append(len(out) // 4)
    return np.frombuffer(bytes(out), np.int32), np.array(begins, np.int32)


def _heading(tile: Channels, shifts: np.ndarray, size: int) -> bytes:
    """The words before a tile's turns, of which `size` says how many bytes."""
    own = size.to_bytes(4, "little") if tile.apart else b""
    if not tile.brief:
        return own
    if tile.apart or not tile.sized:
        return shifts.tobytes().ljust(4, b"\0") + own
    return shifts.tobytes().ljust(2, b"\0") + size.to_bytes(2, "little")


def _dense(words: np.ndarray, loop: Loop) -> bytes:
    filled = np.pad(words, ((0, -len(words) % loop.turn), (0, 0), (0, 0)))
    return bytes(filled.tobytes())


def _sparse(words: np.ndarray, used: np.ndarray, places: np.ndarray | None, loop: Loop) -> tuple[bytes, int]:
    """Turns of blocks of weights, a header before the last of each; at which block of its turn the first enters."""
    nothing = np.zeros(words.shape[1:], np.uint8)
    entries = [(skip, nothing if block is None else words[block]) for skip, block in _skips(used, places, loop)]
    entries = entries or [(0, nothing)]
    left_out, out = -len(entries) % loop.turn, bytearray()
    entries = [(0, nothing[:0])] * left_out + entries
    for first in range(0, len(entries), loop.turn):
        *turn, last = entries[first : first + loop.turn]
        skips = [last[0], *(skip for skip, _ in turn)]
        header = sum(skip << loop.skip_bits * number for number, skip in enumerate(skips))
        out += b"".join(own.tobytes() for _, own in turn) + header.to_bytes(4, "little") + last[1].tobytes()
    return bytes(out), left_out


def _skips(used: np.ndarray, places: np.ndarray | None, loop: Loop) -> Iterator[tuple[int, int | None]]:
    """What is skipped before each block that is used, as headers say it; None bridges what they cannot say."""
    reach, unit = longest_skip(loop), 1 if loop.line else loop.skip_unit
    place, own = 0, 0 if loop.line else 1
    for block in np.flatnonzero(used):
        at = int(block if places is None else places[block])
        while at - place > reach:
            yield reach * unit, None
            place += reach + own
        yield (at - place) * unit, int(block)
        place = at + own


@dataclass(frozen=True)
class Rescale:
    """Factors of accumulators: (high word of sum * value + rounding) >> shift, shifts int64 [channels] from 1 on.

    `possible`: the high word has enough bits. `folded`: the output's zero fits into the rounding.
    """

    values: np.ndarray
    shifts: np.ndarray

    @property
    def possible(self) -> bool:
        """Whether half a unit of the result is at least one of the high word."""
        return bool(self.shifts.min(initial=1) >= 1)

    @property
    def folded(self) -> bool:
        """Whether the zero of an output, shifted, can be part of the rounding."""
        return bool(self.shifts.max(initial=1) <= _FOLDED_SHIFT)

    def factors(self, zero: int) -> np.ndarray:
        """int32 [channels, 3]: value, rounding, shift."""
        rounding = (np.int64(1) << (self.shifts - 1)) + (zero << self.shifts if self.folded else 0)
        return np.stack([self.values, rounding, self.shifts], axis=1).astype(np.int32)


def rescale(requantize: Requantize, packed: bool) -> Rescale:
    """The factors of `requantize` for accumulators."""
    totals = 31 - requantize.shifts.astype(np.int64) + (SCALE.bit_length() - 1 if packed else 0)
    values = np.where(totals > 62, 0, requantize.values).astype(np.int32)
    return Rescale(values, np.where(values == 0, 1, totals - 32))
