"""All channels of a tile of depthwise outputs, as assembly within an LLVM function that is put in where it is called.

Sums, a row's weights, two words of inputs and four pointers are all fourteen registers that there are; LLVM, which
loads early, spills several of them for every channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

REGISTERS = 14
_POINTERS = 4
_VALUES = 2
_FARTHEST_PAIR = 1020
_FARTHEST_BYTE, _FARTHEST_BACK = 4095, 255


@dataclass(frozen=True)
class Product:
    """What one word of inputs adds to one output: the weight word, and which half of each (0, 1), or both (None)."""

    output: int
    word: int
    halves: tuple[int, int] | None

    @property
    def instruction(self) -> str:
        """Its multiply-accumulate."""
        return "smlad" if self.halves is None else "smla" + "".join("bt"[half] for half in self.halves)


@dataclass(frozen=True)
class ChannelsOfTile:
    """`pixels` neighbouring outputs of one row, channel after channel.

    `reads` are the words that a row of taps reads and what is done with each; `rows` where each row begins, and
    `step` from one channel to the next, in words. Outputs of neighbouring pixels are `stride` bytes apart.
    """

    pixels: int
    weights: int
    reads: tuple[tuple[int, tuple[Product, ...]], ...]
    rows: tuple[int, ...]
    step: int
    stride: int
    shift: int
    low: int
    high: int

    @property
    def name(self) -> str:
        """The name of its LLVM function."""
        return f"edge_depthwise_{self.pixels}_" + "_".join(str(row) for row in self.rows)

    @property
    def possible(self) -> bool:
        """Whether registers suffice and instructions reach."""
        near = all(_reaches(place, pair, moves) for place, pair, moves in self._places())
        fits = self.pixels + self.weights + _VALUES + _POINTERS <= REGISTERS
        return near and fits and (self.pixels - 1) * self.stride <= _FARTHEST_BYTE

    def _places(self) -> Iterator[tuple[int, bool, bool]]:
        """For each load of inputs the bytes from the pointer, whether it is of two words, and moves the pointer."""
        for number, row in enumerate(self.rows):
            for at_hand in _pairs([word for word, _ in self.reads]):
                moves = number == 0 and at_hand[0] == self.reads[0][0]
                place = self.step if moves else row + at_hand[0] - self.first
                yield 4 * place, len(at_hand) > 1, moves

    @property
    def first(self) -> int:
        """The word of a channel that is read first."""
        return self.rows[0] + self.reads[0][0]

    def function(self) -> str:
        """LLVM's text of `i32 name(ptr weights, ptr end, ptr inputs, ptr outputs)`, for at least one channel.

        `inputs` points `step` words before the first to be read.
        """
        count = self.pixels + self.weights + _VALUES
        written = count + _POINTERS - 1
        names = [f"${{{i}}}" for i in (*range(written), written + _POINTERS - 1)]
        lines = self._lines(names[: self.pixels], names[self.pixels : count - _VALUES], names[count - _VALUES : count],
                            names[count:])  # fmt: skip
        tied = range(count, written)
        constraints = ["=&r"] * written + [str(i) for i in tied] + ["r", "~{cc}", "~{memory}"]
        kinds = ", ".join("ptr" if i in tied else "i32" for i in range(written))
        text = "\\0A\\09".join(lines)
        return (
            f"define internal i32 @{self.name}(ptr %weights, ptr %end, ptr %inputs, ptr %outputs) alwaysinline {{\n"
            f'  %r = call {{ {kinds} }} asm sideeffect "{text}", "{",".join(constraints)}"'
            "(ptr %weights, ptr %inputs, ptr %outputs, ptr %end)\n  ret i32 0\n}\n"
        )

    def _lines(
        self, sums: Sequence[str], factors: Sequence[str], values: Sequence[str], pointers: Sequence[str]
    ) -> list[str]:
        weights, inputs, outputs, end = pointers
        start = sums[-1]
        lines = ["1:", f"ldr {start}, [{weights}], #4"]
        begun: set[int] = set()
        for number, row in enumerate(self.rows):
            lines += _loads(factors, weights)
            for at_hand in _pairs([word for word, _ in self.reads]):
                place = f"#{4 * (row + at_hand[0] - self.first)}]"
                if number == 0 and at_hand[0] == self.reads[0][0]:
                    place = f"#{4 * self.step}]!"
                lines.append(f"{'ldrd' if len(at_hand) > 1 else 'ldr'} {', '.join(values[: len(at_hand)])}, "
                             f"[{inputs}, {place}")  # fmt: skip
                for value, word in zip(values, at_hand, strict=False):
                    for product in dict(self.reads)[word]:
                        total = sums[product.output]
                        before = total if product.output in begun else start
                        begun.add(product.output)
                        lines.append(f"{product.instruction} {total}, {value}, {factors[product.word]}, {before}")
        lines.append(f"ldrd {values[0]}, {values[1]}, [{weights}], #8")
        for pixel, total in enumerate(sums):
            lines += [
                f"smmla {total}, {total}, {values[0]}, {values[1]}",
                f"ssat {total}, #8, {total}, asr #{self.shift}",
            ]
            lines += self._clipped(total)
            lines.append(f"strb {total}, [{outputs}, #{pixel * self.stride - 1}]" if pixel else
                         f"strb {total}, [{outputs}], #1")  # fmt: skip
        return [*lines, f"cmp {weights}, {end}", "bne 1b"]

    def _clipped(self, total: str) -> list[str]:
        lines = [f"cmp {total}, #{self.low}", "it lt", f"movlt {total}, #{self.low}"] if self.low > -128 else []
        return lines + (
            [f"cmp {total}, #{self.high}", "it gt", f"movgt {total}, #{self.high}"] if self.high < 127 else []
        )


def _reaches(place: int, pair: bool, moves: bool) -> bool:
    """Whether a load reaches `place` bytes from its pointer."""
    if pair:
        return abs(place) <= _FARTHEST_PAIR
    return abs(place) <= _FARTHEST_BACK if moves else -_FARTHEST_BACK <= place <= _FARTHEST_BYTE


def _pairs(words: Sequence[int]) -> list[list[int]]:
    """Ascending words, two together where they are neighbours."""
    found: list[list[int]] = []
    for word in words:
        if found and len(found[-1]) == 1 and found[-1][0] == word - 1:
            found[-1].append(word)
        else:
            found.append([word])
    return found


def _loads(registers: Sequence[str], pointer: str) -> list[str]:
    lines = [f"ldrd {a}, {b}, [{pointer}], #8" for a, b in zip(registers[0::2], registers[1::2], strict=False)]
    return [*lines, f"ldr {registers[-1]}, [{pointer}], #4"] if len(registers) % 2 else lines
