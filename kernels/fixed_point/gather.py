"""What each output pixel of a tile reads, spread to int16 pairs in scratch: [block][half][pixel], a word each.

The elements of a pixel follow each other as (tap, channel), cut into blocks of four. Taps beside each other are one
run of memory where no channels lie between. What lies outside the image is its zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather_assembly import HIDE, blank_name, fill_name, spread_name
from edgeprune.kernels.fixed_point.product_loop import BLOCK
from edgeprune.kernels.fixed_point.wide_weights import repeated_blocks
from edgeprune.kernels.script import Memory, either, let, serial

_UNROLLED = 16
"""Blocks up to which the words of an inner pixel are put together one by one."""


@dataclass(frozen=True)
class Gather:
    """How a tile of `pixels` output pixels is gathered for one group of `problem`."""

    problem: Conv2d
    pixels: int
    packed: bool

    @property
    def elements(self) -> int:
        """Elements along the reduction."""
        return self.problem.taps * self.problem.group_inputs

    @property
    def blocks(self) -> int:
        """Blocks along the reduction, the last filled up."""
        return -(-self.elements // BLOCK)

    @property
    def tile_bytes(self) -> int:
        """Scratch of a gathered tile, with the blocks that are read again."""
        return (self.blocks + len(repeated_blocks(self.problem))) * self.block_bytes

    @property
    def block_bytes(self) -> int:
        """Scratch of a block of all pixels."""
        return 2 * BLOCK * self.pixels

    @property
    def scratch_bytes(self) -> int:
        """Scratch of a tile, and of one pixel's elements where they do not come in whole blocks."""
        return self.tile_bytes + (0 if self.whole else self.blocks * BLOCK)

    @property
    def whole(self) -> bool:
        """Whether every tap is of whole blocks."""
        return self.problem.group_inputs % BLOCK == 0

    @property
    def _joined(self) -> bool:
        return self.problem.groups == 1 and self.problem.dilations[1] == 1 and self._dense

    @property
    def _dense(self) -> bool:
        return self.problem.x.pixel_stride == self.problem.x.channels

    @property
    def run(self) -> int:
        """Elements that follow each other in memory."""
        return self.problem.group_inputs * (self.problem.kernel[1] if self._joined else 1)

    @property
    def runs(self) -> tuple[int, int]:
        """Runs below each other, and beside each other."""
        return self.problem.kernel[0], 1 if self._joined else self.problem.kernel[1]

    @property
    def always_inside(self) -> bool:
        """Whether no tap of any pixel lies outside the image."""
        return not any(self.problem.halo())

    @property
    def stitched(self) -> bool:
        """Whether blocks of an inner pixel are put together from the runs that they cross, each word unrolled."""
        count = self.runs[0] * self.runs[1]
        return self.blocks <= _UNROLLED and (self.run >= BLOCK or count == 1)


def gather_tile(gather: Gather, x: Memory, scratch: Memory, start: Any, group: Any) -> None:
    """Emit the gathering of the tile that begins at output pixel `start`, for one group."""
    problem = gather.problem
    with rolled(gather.pixels) as number:
        pixel = let(start + number)
        width, height = problem.y.width, problem.y.height
        row, column = let(tirx.floordiv(pixel, width)), let(tirx.floormod(pixel, width))
        image, down = (0, row) if problem.y.batch == 1 else (tirx.floordiv(row, height), tirx.floormod(row, height))
        at = _Pixel(
            gather, x, scratch,
            let(down * problem.strides[0] - problem.pads[0]),
            let(column * problem.strides[1] - problem.pads[1]),
            let(problem.x.offset + image * problem.x.batch_stride + group * problem.group_inputs),
            let(number * BLOCK),
        )  # fmt: skip
        inner = at.inner if gather.whole or gather.stitched or gather.run % BLOCK == 0 else at.bytewise
        if gather.always_inside:
            inner()
        else:
            either(at.is_inside(), inner, at.tapwise if gather.whole else at.bytewise)
    for number, block in enumerate(repeated_blocks(problem), gather.blocks):
        for place in range(0, gather.block_bytes, BLOCK):
            word = scratch.load(block * gather.block_bytes + place, BLOCK)
            scratch.store(number * gather.block_bytes + place, word, BLOCK)


@dataclass(frozen=True)
class _Pixel:
    """One output pixel: the input row and column of its first tap, where the image's group and its own words begin."""

    gather: Gather
    x: Memory
    scratch: Memory
    row: Any
    column: Any
    origin: Any
    target: Any

    def is_inside(self) -> Any:
        """Whether all taps lie in the image."""
        sides = []
        for axis, (first, size) in enumerate(((self.row, self._image.height), (self.column, self._image.width))):
            reach = (self._problem.kernel[axis] - 1) * self._problem.dilations[axis]
            if size - reach < 1:
                return tirx.const(False, "bool")
            sides.append(tirx.all(first >= 0, first < size - reach))
        return tirx.all(*sides)

    def inner(self) -> None:
        """All taps lie in the image."""
        if not self.gather.whole and self.gather.run % BLOCK:
            self._stitched()
            return
        words = self.gather.run // BLOCK
        rows, columns = self.gather.runs
        with rolled(rows) as down, rolled(columns) as right:
            self._spread(self.x, self._place(down, right), (down * columns + right) * words, words)

    def tapwise(self) -> None:
        """Taps of whole blocks, each inside or not."""
        words, columns = self._problem.group_inputs // BLOCK, self._problem.kernel[1]
        with rolled(self._problem.kernel[0]) as down, rolled(columns) as right:
            block = let((down * columns + right) * words)
            either(
                self._tap_inside(down, right),
                lambda: self._spread(self.x, self._place(down, right), block, words),
                lambda: self._filled(block, words),
            )

    def bytewise(self) -> None:
        """Taps of any size, each inside or not: element by element, then spread."""
        inputs, columns = self._problem.group_inputs, self._problem.kernel[1]
        patch, zero = self.gather.tile_bytes, tirx.const(self._image.format.zero, "int8")
        with rolled(self._problem.kernel[0]) as down, rolled(columns) as right:
            first = let(patch + (down * columns + right) * inputs)

            def copied() -> None:
                with rolled(inputs) as channel:
                    value = self.x.load(self._place(down, right) + channel)
                    self.scratch.store(first + channel, value)

            def filled() -> None:
                with rolled(inputs) as channel:
                    self.scratch.store(first + channel, zero)

            either(self._tap_inside(down, right), copied, filled)
        self._spread(self.scratch, patch, 0, self.gather.blocks)

    @property
    def _problem(self) -> Conv2d:
        return self.gather.problem

    @property
    def _image(self) -> Any:
        return self.gather.problem.x

    def _place(self, down: Any, right: Any) -> Any:
        vertical, horizontal = self._problem.dilations
        row, column = self.row + down * vertical, self.column + right * horizontal
        return self.origin + row * self._image.row_stride + column * self._image.pixel_stride

    def _tap_inside(self, down: Any, right: Any) -> Any:
        vertical, horizontal = self._problem.dilations
        row, column = self.row + down * vertical, self.column + right * horizontal
        return tirx.all(row >= 0, row < self._image.height, column >= 0, column < self._image.width)

    def _word(self, block: Any, half: int) -> Any:
        return self.target + (block * 2 + half) * BLOCK * self.gather.pixels

    def _spread(self, memory: Memory, first: Any, block: Any, words: int) -> None:
        name = spread_name(self.gather.pixels, repeats(words), self.gather.packed)
        pointers = [tirx.address_of(memory.buffer[first]), tirx.address_of(self.scratch.buffer[self._word(block, 0)])]
        count = tirx.IntImm("int32", words // repeats(words))
        script.evaluate(tirx.call_extern("int32", name, *pointers, count))

    def _filled(self, block: Any, words: int) -> None:
        step = 2 * BLOCK * self.gather.pixels
        halves = [constant_word(word) for word in zero_halves(self._image.format.zero, self.gather.packed)]
        blank(self.scratch, self._word(block, 0), halves, tirx.IntImm("int32", words), step)

    def _store(self, block: Any, half: int, value: Any) -> None:
        self.scratch.store(self._word(block, half), tirx.reinterpret("int8x4", value), 4)

    def _stitched(self) -> None:
        """Every word by itself: loads at any address, two where it crosses from one run to the next."""
        for block in range(self.gather.blocks):
            word = let(self._stitched_word(block))
            self._store(block, 0, _odd(word))
            even = _even_packed(word) if self.gather.packed else _intrinsic("llvm.arm.sxtb16", word)
            self._store(block, 1, even)

    def _stitched_word(self, block: int) -> Any:
        run, columns = self.gather.run, self.gather.runs[1]
        first, last = block * BLOCK, min(block * BLOCK + BLOCK, self.gather.elements) - 1

        def place(element: int) -> Any:
            return self._place(element // run // columns, element // run % columns) + element % run

        if first // run == last // run and last - first == BLOCK - 1:
            return self._load(place(first))
        if run < BLOCK:
            return self._from_bytes([place(i) for i in range(first, last + 1)])
        before = run - first % run if first // run != last // run else last + 1 - first
        held = _logical_right(self._load(place(first + before - BLOCK)), 8 * (BLOCK - before))
        if first // run == last // run:
            return held
        following = place(first + before)
        if last - first == BLOCK - 1:
            return held | (self._load(following) << (8 * before))
        return held | (self._from_bytes([following + i for i in range(last + 1 - first - before)]) << (8 * before))

    def _load(self, place: Any) -> Any:
        return tirx.reinterpret("int32", self.x.load(place, BLOCK))

    def _from_bytes(self, places: list[Any]) -> Any:
        total: Any = tirx.IntImm("int32", 0)
        for number, place in enumerate(places):
            byte = tirx.Cast("int32", tirx.Cast("uint8", self.x.load(place)))
            total = total | (byte << (8 * number))
        return total


def rolled(count: int) -> Any:
    """A loop over [0, count) that LLVM cannot unroll, since it does not see the count."""
    return serial(0, 1 if count == 1 else hidden(tirx.IntImm("int32", count)))


def hidden(value: Any) -> Any:
    """An int32 value of which LLVM knows nothing."""
    return tirx.call_pure_extern("int32", HIDE, value)


def repeats(words: int) -> int:
    """Words that a turn of the spreading loop does, for a run of `words`."""
    return next(count for count in (4, 3, 2, 1) if words % count == 0)


def spread_counts(gather: Gather) -> set[int]:
    """The words in a run, for every loop that `gather_tile` calls."""
    counts: set[int] = set()
    if gather.run % BLOCK == 0:
        counts.add(gather.run // BLOCK)
    if gather.whole:
        counts.add(gather.problem.group_inputs // BLOCK)
    else:
        counts.add(gather.blocks)
    return counts


def fill(memory: Memory, place: Any, value: Any, count: Any, step: int) -> None:
    """Emit the storing of an int32 `value` every `step` bytes, from `place` on."""
    script.evaluate(tirx.call_extern("int32", fill_name(step), tirx.address_of(memory.buffer[place]), value, count))


def blank(memory: Memory, place: Any, words: Sequence[Any], count: Any, step: int) -> None:
    """Emit the storing of two int32 `words` half of `step` bytes apart, `count` times every `step`, from `place` on."""
    first = tirx.address_of(memory.buffer[place])
    script.evaluate(tirx.call_extern("int32", blank_name(step), first, *words, count))


def zero_halves(zero: int, packed: bool) -> tuple[int, int]:
    """The two words of a block that holds `zero` throughout."""
    return halves_of((zero & 0xFF) * 0x01010101, packed)


def halves_of(word: int, packed: bool) -> tuple[int, int]:
    """The two words that a block's bytes spread to: of odd elements, and of even ones."""
    signed = [(word >> (8 * i) & 0xFF ^ 0x80) - 0x80 for i in range(BLOCK)]
    even = [256 * signed[i] - signed[i + 1] + 127 if packed else signed[i] for i in (0, 2)]
    return _pair(signed[1], signed[3]), _pair(*even)


def _pair(low: int, high: int) -> int:
    return (low & 0xFFFF) | (high & 0xFFFF) << 16


def constant_word(word: int) -> Any:
    """The int32 constant of these 32 bits."""
    return tirx.IntImm("int32", word - (1 << 32) if word >> 31 else word)


def _odd(word: Any) -> Any:
    return _intrinsic("llvm.arm.sxtb16", _intrinsic("llvm.fshr.i32", word, word, tirx.IntImm("int32", 8)))


def _even_packed(word: Any) -> Any:
    swapped = _intrinsic("llvm.bswap.i32", word)
    halves = _intrinsic("llvm.fshr.i32", swapped, swapped, tirx.IntImm("int32", 16))
    return halves ^ constant_word(0x7F007F)


def _logical_right(word: Any, bits: int) -> Any:
    return word if bits == 0 else tirx.Cast("int32", tirx.Cast("uint32", word) >> tirx.const(bits, "uint32"))


def _intrinsic(name: str, *arguments: Any) -> Any:
    return tirx.call_llvm_pure_intrin("int32", name, *arguments)
