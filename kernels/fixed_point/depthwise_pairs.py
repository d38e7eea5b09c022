"""Depthwise convolution by the dual multiply-accumulate of Arm's DSP extension: two neighbours of a row a word.

Rows lie in scratch as int16, channel after channel, [channel][slot][word]; each input is widened once. Taps that
share a word with their neighbour cost half an instruction, the others one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder

from edgeprune.kernels import script
from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.depthwise_assembly import ChannelsOfTile, Product
from edgeprune.kernels.fixed_point.depthwise_ring import Ring, even_tiles, offsets_of
from edgeprune.kernels.fixed_point.depthwise_scale import Folded, finish, rounding
from edgeprune.kernels.fixed_point.gather import rolled
from edgeprune.kernels.fixed_point.gather_assembly import HIDE_FUNCTION
from edgeprune.kernels.fixed_point.rescaling import int32_of, intrinsic, whole
from edgeprune.kernels.script import Memory

_PIXELS = 6
_PHASES = 5
_GROUP = 4
HIGHER = 3
"""How many times as high as it must be a ring may be, so that it needs little code."""

_UNROLLED = 6
"""Words of a row up to which it is widened without a loop."""


@dataclass(frozen=True)
class Pairs:
    """How the taps of a row share words: `words` are the weights (low, high; None is zero) that are kept."""

    problem: Depthwise

    @property
    def words(self) -> list[tuple[int, int | None]]:
        """Pairs of neighbouring taps that some output finds in one word, and what is left."""
        found: dict[tuple[int, int | None], None] = {}
        for parity in self._parities():
            found.update(dict.fromkeys(pair for pair in self._split(parity) if pair[1] is not None))
        held = {tap for pair in found for tap in pair}
        lone = [tap for tap in range(self.problem.kernel[1]) if tap not in held]
        for first, second in zip(lone[::2], [*lone[1::2], None], strict=False):
            found[(first, second)] = None
        return sorted(found, key=lambda pair: pair[0])

    def _parities(self) -> list[int]:
        return [0, 1] if self.problem.strides[1] % 2 else [0]

    def _split(self, parity: int) -> list[tuple[int, int | None]]:
        """The taps of an output whose first tap has `parity`, those in one word together."""
        taps, dilation = range(self.problem.kernel[1]), self.problem.dilations[1]
        parts: list[tuple[int, int | None]] = []
        for tap in taps:
            joined = dilation == 1 and (parity + tap) % 2 == 1 and parts and parts[-1][0] == tap - 1
            if joined:
                parts[-1] = (tap - 1, tap)
            else:
                parts.append((tap, None))
        return parts

    def products(self, outputs: int) -> list[tuple[int, list[Product]]]:
        """For `outputs` neighbours, the first at an even place: words of a row, and what is done with each."""
        words = self.words
        place = {tap: (index, half) for index, pair in enumerate(words) for half, tap in enumerate(pair)}
        found: dict[int, list[Product]] = {}
        for output in range(outputs):
            first = output * self.problem.strides[1]
            for tap, joined in self._split(first % 2):
                position = first + tap * self.problem.dilations[1]
                if joined is None:
                    index, half = place[tap]
                    product = Product(output, index, (position % 2, half))
                else:
                    product = Product(output, words.index((tap, joined)), None)
                found.setdefault(position // 2, []).append(product)
        return sorted(found.items())

    def packed(self, folded: Folded, requantize: Requantize) -> np.ndarray:
        """int32, per channel: bias, the weight words of each row of taps, value, and rounding constant or shift."""
        rows, columns = self.problem.kernel
        taps = folded.weights.reshape(-1, rows, columns)
        empty = np.zeros(taps.shape[:2], np.int32)
        pairs = [(taps[:, :, low], empty if high is None else taps[:, :, high]) for low, high in self.words]
        halves = np.stack([np.stack(pair, axis=-1) for pair in pairs], axis=2).astype("<i2")
        words = np.ascontiguousarray(halves).view("<i4").reshape(len(taps), -1)
        last = folded.shifts if folded.shift is None else np.full(len(taps), rounding(requantize, folded.shift))
        entries = np.column_stack([folded.bias, words, folded.values, last])
        return entries.astype(np.int32).ravel()

    @property
    def entry(self) -> int:
        """Words of a channel's constants."""
        return 3 + len(self.words) * self.problem.kernel[0]

    @property
    def pixels(self) -> int:
        """Outputs of a tile at most, such that it and a row's weights fit the registers; even."""
        return max(2, min(_PIXELS, (8 - len(self.words)) // 2 * 2))


def pairs_function(problem: Depthwise, requantize: Requantize, shift: int | None, higher: int = HIGHER) -> Any:
    """The function over (x, weights, scratch, y); a unit is an image. The ring may be `higher` times as high."""
    ring = Ring(problem, _PHASES, higher)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        with builder.attr(tirx.IntImm("int32", 0), "pragma_import_llvm", HIDE_FUNCTION):
            images(memories, begin, end)

    def images(memories: list[Memory], begin: Any, end: Any) -> None:
        x, weights, scratch, y = memories
        taker = _Taker(problem, ring, x, scratch)
        maker = _Maker(problem, ring, requantize, shift, weights, scratch, y)
        with script.serial(begin, end) as image:
            ring.walk(image, lambda row, slot: taker.take(image, row, slot), taker.blank,
                      lambda row, slots: maker.row(image, row, slots))  # fmt: skip

    return script.kernel_function(["int8", "int32", "int32", "int8"], body)


def row_words(ring: Ring) -> int:
    """Words of one row of one channel."""
    return (ring.positions + 1) // 2


@dataclass(frozen=True)
class _Taker:
    """Widens rows of the image into the ring."""

    problem: Depthwise
    ring: Ring
    x: Memory
    scratch: Memory

    def blank(self, slot: Any) -> None:
        """A row of zeros."""
        words = row_words(self.ring)
        with script.serial(0, self.problem.x.channels) as channel:
            base = script.let((channel * self.ring.slots + slot) * words)
            with script.serial(0, words) as word:
                self.scratch.store(base + word, self._zeros())

    def take(self, image: Any, row: Any, slot: Any) -> None:
        """An input row, four channels at once where there are as many."""
        channels = self.problem.x.channels
        groups = channels // _GROUP
        if groups:
            with script.serial(0, groups) as group:
                self._channels(image, row, slot, group * _GROUP, _GROUP)
        if channels % _GROUP:
            with script.serial(groups * _GROUP, channels) as channel:
                self._channels(image, row, slot, channel, 1)

    def _channels(self, image: Any, row: Any, slot: Any, channel: Any, count: int) -> None:
        first, last = self.ring.columns
        inner = range((first + 1) // 2, max((first + 1) // 2, last // 2))
        base = script.let((channel * self.ring.slots + slot) * row_words(self.ring))
        source = script.let(element(self.problem.x, image, channel, row, 0))

        def store(index: Any, inside: Sequence[tuple[bool, bool]]) -> None:
            words = [self._word(source, index + number, pair, count) for number, pair in enumerate(inside)]
            for number in range(count):
                place = base + number * self.ring.slots * row_words(self.ring)
                for offset, values in enumerate(words):
                    self.scratch.store(place + (index + offset), values[number])

        def at_ends(start: int, stop: int) -> None:
            for index in range(start, stop, 2):
                pair = range(index, min(index + 2, stop))
                store(index, [(first <= 2 * word < last, first <= 2 * word + 1 < last) for word in pair])

        words = row_words(self.ring)
        if words <= _UNROLLED:
            at_ends(0, words)
            return
        begin = inner.start + inner.start % 2
        turns = max(0, inner.stop - begin) // 2
        at_ends(0, begin)
        with script.serial(0, turns) as turn:
            store(begin + 2 * turn, [(True, True)] * 2)
        at_ends(begin + 2 * turns, words)

    def _word(self, source: Any, index: Any, inside: tuple[bool, bool], count: int) -> list[Any]:
        """Two neighbouring columns of `count` channels, a word each."""
        loaded = [self._pixel(source, 2 * index + half, count) if inside[half] else None for half in (0, 1)]
        if loaded == [None, None]:
            return [self._zeros()] * count
        return _woven(loaded, self.problem.x.format.zero, count)

    def _pixel(self, source: Any, position: Any, count: int) -> Any:
        place = source + (position - self.problem.pads[1]) * self.problem.x.pixel_stride
        value = self.x.load(place, count)
        return script.let(tirx.Cast("int32", value) if count == 1 else tirx.reinterpret("int32", value))

    def _zeros(self) -> Any:
        zero = self.problem.x.format.zero & 0xFFFF
        return int32_of(zero | zero << 16)


def _woven(loaded: Sequence[Any], zero: int, count: int) -> list[Any]:
    """Words (left, right) of each channel from two pixels, of which one may be None: the zero of the input."""
    fill = zero & 0xFFFF if count == 1 else (zero & 0xFF) * 0x0101
    left, right = loaded
    fills = (int32_of(fill), int32_of(fill << 16))
    low = script.let((fills[0] if left is None else left & 0xFFFF) | (fills[1] if right is None else right << 16))
    if count == 1:
        return [low]
    kept = fills[1] if right is None else right & int32_of(0xFFFF0000)
    high = script.let((fills[0] if left is None else _upper(left)) | kept)
    return [script.let(value) for half in (low, high) for value in (_widened(half, 0), _widened(half, 8))]


def _upper(value: Any) -> Any:
    """The upper half of a word, as the lower half."""
    return _funnel(int32_of(0), value, 16)


def _widened(value: Any, rotation: int) -> Any:
    """Bytes 0 and 2 of a word rotated right, as two int16."""
    return intrinsic("sxtb16", _funnel(value, value, rotation) if rotation else value)


def _funnel(high: Any, low: Any, count: int) -> Any:
    return tirx.call_llvm_pure_intrin("int32", "llvm.fshr.i32", high, low, int32_of(count))


@dataclass(frozen=True)
class _Maker:
    """Makes output rows from the ring."""

    problem: Depthwise
    ring: Ring
    requantize: Requantize
    shift: int | None
    weights: Memory
    scratch: Memory
    y: Memory

    @property
    def pairs(self) -> Pairs:
        """How the taps share words."""
        return Pairs(self.problem)

    def row(self, image: Any, row: Any, slots: Sequence[Any]) -> None:
        """One output row; the channels of a tile come one after the other, so that its weights are read in order."""
        words = row_words(self.ring)
        tiles = even_tiles(self.problem.y.width, self.pairs.pixels)
        fixed = [self._assembly(slots, size) for _, _, size in tiles]
        base = script.let(row * self.problem.strides[0] * words) if self.ring.whole else whole(0)
        offsets = [] if all(fixed) else [script.let(base + offset) for offset in offsets_of(slots, words)]
        for (start, count, size), assembly in zip(tiles, fixed, strict=True):
            with rolled(count) as tile:
                column = start + tile * size
                if assembly:
                    self._channels(assembly, image, row, column, base)
                else:
                    with script.serial(0, self.problem.y.channels) as channel:
                        self._tile((image, channel, row, column), offsets, size)

    def _assembly(self, slots: Sequence[Any], pixels: int) -> ChannelsOfTile | None:
        """The tile as assembly, where it can be."""
        if self.shift is None or not all(isinstance(slot, int) for slot in slots):
            return None
        words = row_words(self.ring)
        tile = ChannelsOfTile(
            pixels=pixels,
            weights=len(self.pairs.words),
            reads=tuple((word, tuple(products)) for word, products in self.pairs.products(pixels)),
            rows=tuple(slot * words for slot in slots),
            step=self.ring.slots * words,
            stride=self.problem.y.pixel_stride,
            shift=self.shift,
            low=self.requantize.low,
            high=self.requantize.high,
        )
        return tile if tile.possible else None

    def _channels(self, tile: ChannelsOfTile, image: Any, row: Any, column: Any, base: Any) -> None:
        problem = self.problem
        first = base + column * problem.strides[1] // 2 + (tile.first - tile.step)
        pointers = [
            tirx.address_of(memory.buffer[index])
            for memory, index in (
                (self.weights, 0),
                (self.weights, self.pairs.entry * problem.y.channels),
                (self.scratch, first),
                (self.y, element(problem.y, image, 0, row, column)),
            )
        ]
        with builder.attr(tirx.IntImm("int32", 0), "pragma_import_llvm", tile.function()):
            builder.evaluate(tirx.call_extern("int32", tile.name, *pointers))

    def _tile(self, at: Sequence[Any], offsets: Sequence[Any], pixels: int) -> None:
        channel, column, words = at[1], at[3], len(self.pairs.words)
        entry = script.let(channel * self.pairs.entry)
        base = script.let(channel * (self.ring.slots * row_words(self.ring)) + column * self.problem.strides[1] // 2)
        bias = script.let(self.weights.load(entry))
        sums = [bias] * pixels
        for tap_row, offset in enumerate(offsets):
            first = entry + (1 + tap_row * words)
            taps = [script.let(self.weights.load(first + word)) for word in range(words)]
            for word, products in self.pairs.products(pixels):
                value = script.let(self.scratch.load(base + (offset + word)))
                for product in products:
                    total = sums[product.output]
                    arguments = (value, taps[product.word], total)
                    sums[product.output] = script.let(intrinsic(product.instruction, *arguments))
        value, last = (script.let(self.weights.load(entry + (self.pairs.entry - back))) for back in (2, 1))
        for pixel, total in enumerate(sums):
            place = element(self.problem.y, at[0], channel, at[2], column + pixel)
            finish(self.y, place, total, value, last, self.requantize, self.shift)
