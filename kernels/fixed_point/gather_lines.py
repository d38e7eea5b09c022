"""The rows of input that an output row reads, spread to int16 pairs in scratch once for all its pixels.

Scratch is [row of taps][four channels][half][column], a word each, columns apart by their remainder of the stride.
What lies outside the image stays its zero, beside the image since the kernel began.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather import constant_word, fill, rolled, zero_halves
from edgeprune.kernels.fixed_point.gather_assembly import Spread
from edgeprune.kernels.fixed_point.product_loop import BLOCK, Line
from edgeprune.kernels.script import Memory, either, let

_WIDEST = 63
_HIGHEST = 4095


@dataclass(frozen=True)
class Lines:
    """How the rows of one group of `problem` lie in scratch."""

    problem: Conv2d
    packed: bool

    @property
    def words(self) -> int:
        """Blocks of channels."""
        return self.problem.group_inputs // BLOCK

    @property
    def _remainders(self) -> list[int]:
        stride, dilation = self.problem.strides[1], self.problem.dilations[1]
        return sorted({tap * dilation % stride for tap in range(self.problem.kernel[1])})

    @property
    def _columns(self) -> int:
        """Columns of each remainder."""
        last = (self.problem.kernel[1] - 1) * self.problem.dilations[1] // self.problem.strides[1]
        return self.problem.y.width + last

    @property
    def line(self) -> Line:
        """What the loop over blocks must know."""
        stride, dilation = self.problem.strides[1], self.problem.dilations[1]
        taps = [tap * dilation for tap in range(self.problem.kernel[1])]
        places = tuple(self._remainders.index(tap % stride) * self._columns + tap // stride for tap in taps)
        return Line(len(self._remainders) * self._columns, places)

    @property
    def spread(self) -> Spread:
        """The loop that spreads a row."""
        skip = self.problem.strides[1] * self.problem.x.pixel_stride - self.words * BLOCK
        return Spread(self.line.words, self.words, skip, self.packed)

    @property
    def possible(self) -> bool:
        """Whether channels come in whole blocks, and instructions reach from row to row."""
        whole = self.problem.group_inputs % BLOCK == 0
        return whole and self.line.words <= _WIDEST and 8 * self.line.words * self.words <= _HIGHEST

    @property
    def tap_row_words(self) -> int:
        """Words of scratch of one row of taps."""
        return 2 * self.words * self.line.words

    @property
    def scratch_bytes(self) -> int:
        """Scratch of all rows of taps."""
        return 4 * self.problem.kernel[0] * self.tap_row_words

    @property
    def instructions(self) -> float:
        """Instructions that one output row is expected to take."""
        columns = sum(count for _, _, count in self._inside())
        return self.problem.kernel[0] * (columns * self.spread.column_instructions + 20 * len(self._remainders)) + 40.0

    def _inside(self) -> Iterator[tuple[int, int, int]]:
        """For each remainder the first column in the image, its place in a row of scratch, and how many there are."""
        stride, pad, width = self.problem.strides[1], self.problem.pads[1], self.problem.x.width
        for number, remainder in enumerate(self._remainders):
            first = max(0, -((remainder - pad) // stride))
            last = min(self._columns - 1, (width - 1 + pad - remainder) // stride)
            if last >= first:
                yield first * stride + remainder - pad, number * self._columns + first, last - first + 1

    def blank(self, scratch: Memory) -> None:
        """Emit what fills all of scratch with the zero of x."""
        with rolled(self.problem.kernel[0]) as down:
            self._blank_row(scratch, down)

    def gather(self, x: Memory, scratch: Memory, image: Any, row: Any, group: Any) -> None:
        """Emit the spreading of all that output row `row` reads."""
        view, problem = self.problem.x, self.problem
        with rolled(problem.kernel[0]) as down:
            at = let(row * problem.strides[0] - problem.pads[0] + down * problem.dilations[0])
            origin = let(view.offset + image * view.batch_stride + at * view.row_stride + group * problem.group_inputs)

            def spread() -> None:
                for column, place, count in self._inside():
                    pointers = [
                        tirx.address_of(x.buffer[origin + column * view.pixel_stride]),
                        tirx.address_of(scratch.buffer[(down * self.tap_row_words + place) * 4]),
                    ]
                    call = tirx.call_extern("int32", self.spread.name, *pointers, tirx.IntImm("int32", count))
                    script.evaluate(call)

            if problem.pads[0] == 0 and problem.halo()[2] == 0:
                spread()
            else:
                inside = tirx.all(at >= 0, at < view.height)
                either(inside, spread, lambda: self._blank_row(scratch, down))

    def _blank_row(self, scratch: Memory, down: Any) -> None:
        width = self.line.words
        with rolled(self.words) as block:
            for half, word in enumerate(zero_halves(self.problem.x.format.zero, self.packed)):
                place = (down * self.tap_row_words + (block * 2 + half) * width) * 4
                fill(scratch, place, constant_word(word), tirx.IntImm("int32", width), 4)
