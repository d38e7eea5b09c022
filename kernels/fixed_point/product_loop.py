"""The loop of int8 products on cores with SMLAD, in the lines of assembly: sums of one tile of channels and pixels.

What is multiplied: a block is four consecutive elements b0..b3 along the reduction. Of inputs it is two words of
int16 pairs, of weights one word of bytes. Where `packed`, a word of weights is the pair of int16 (w0 + 256*w1,
w2 + 256*w3): it multiplies the inputs (b1, b3) as it is, and its low bytes, sign-extended by one SXTB16, multiply
(256*b0 - b1 + 127, 256*b2 - b3 + 127), which is REV16 and an exclusive or. Together that is 256 times the sum, and
127 times the even weights, which the bias takes back.

Where blocks are skipped, one word says for all blocks of a turn what is skipped before each. It comes before the
weights of the turn's last block, so that a tile whose blocks do not fill its first turn enters it at a later block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 4
"""Elements along the reduction that a word of weights holds."""

HEADER = 4
"""Bytes that say what is skipped before each block of a turn."""

_TURN = 3
_FIRST_LABEL = 20
_TABLE_LABEL = 19


@dataclass(frozen=True)
class Line:
    """Inputs that lie as rows of scratch of `words` words, rather than gathered for each tile.

    Rows of odd and even halves alternate. The columns of taps beside each other begin `places` words into a row.
    """

    words: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    """The multiplication of a tile: `channels` times `pixels` sums, `turn` blocks in each turn of the loop."""

    channels: int
    pixels: int
    turn: int
    sparse: bool
    packed: bool = True
    line: Line | None = None

    def __str__(self) -> str:
        """For labels."""
        kind = ("sparse" if self.sparse else "dense") + ("" if self.packed else " plain")
        return f"{self.channels}x{self.pixels}x{self.turn} {kind}" + (" lines" if self.line else "")

    @property
    def sums(self) -> int:
        """Accumulators."""
        return self.channels * self.pixels

    @property
    def block_bytes(self) -> int:
        """Bytes of scratch that a block of inputs takes."""
        return 2 * BLOCK * self.pixels

    @property
    def weight_bytes(self) -> int:
        """Bytes of a block's weights."""
        return self.channels * BLOCK

    @property
    def skip_bits(self) -> int:
        """Bits that say what is skipped before a block."""
        return 8 * HEADER // self.turn

    @property
    def skip_unit(self) -> int:
        """What these bits count for one block, where inputs do not lie in lines: they are shifted, not multiplied."""
        return self.block_bytes >> self.skip_shift

    @property
    def skip_shift(self) -> int:
        """How far these bits are shifted to be bytes."""
        return 2 if self.line else (self.block_bytes & -self.block_bytes).bit_length() - 1

    def bytes_of(self, blocks: np.ndarray) -> np.ndarray:
        """Bytes of the weights of as many blocks."""
        turns = -(-blocks // self.turn)
        if self.sparse:
            return blocks * self.weight_bytes + turns * HEADER
        return turns * self.turn * self.weight_bytes

    def instructions_of(self, blocks: np.ndarray) -> np.ndarray:
        """Instructions of as many blocks."""
        turns, own = -(-blocks // self.turn), count(turn_lines(self, Names.of(self))) - _TURN
        return turns * _TURN + (blocks * (own / self.turn) if self.sparse else turns * own)

    @property
    def first_step(self) -> int:
        """Bytes from where the inputs' pointer begins to the first block."""
        return 0 if self.line is None or self.sparse else _steps(self.line)[0]


@dataclass(frozen=True)
class Names:
    """The operands of the inline assembly, by what they hold."""

    sums: tuple[str, ...]
    weights: str
    inputs: str
    factors: tuple[str, ...]
    spare: str
    values: tuple[str, str]

    @classmethod
    def of(cls, loop: Loop) -> Names:
        """Those of `loop`."""
        first = loop.sums + 2
        names = [f"${{{i}}}" for i in range(first + max(loop.channels, 2) + 2)]
        return cls(
            tuple(names[: loop.sums]), names[loop.sums], names[loop.sums + 1],
            tuple(names[first : first + loop.channels]), names[first + 1], (names[-2], names[-1]),
        )  # fmt: skip


def turn_lines(loop: Loop, names: Names, alone: bool = False) -> list[str]:
    """One turn of the loop; one that is `alone` needs no loop."""
    lines = [] if alone else ["1:"]
    for number in range(loop.turn):
        lines += [f"{_FIRST_LABEL + number}:", *_skip(loop, names, number)] if loop.sparse else []
        for half in (0, 1):
            lines += _factors(loop, names, half)
            for pixel in range(0, loop.pixels, 2):
                lines += _pixels(loop, names, number, half, pixel)
    value = names.values[0]
    return lines if alone else [*lines, f"ldr {value}, [sp]", f"cmp {names.weights}, {value}", "bne 1b"]


def _steps(line: Line) -> list[int]:
    """Bytes from each block's inputs to the next ones, taps beside each other first, in ascending order."""
    ordered = sorted(line.places)
    before = [ordered[-1] - 2 * line.words, *ordered[:-1]]
    return [4 * (place - last) for place, last in zip(ordered, before, strict=True)]


def enter(loop: Loop, names: Names) -> list[str]:
    """To the block of a turn whose number is in the second of `names.values`."""
    places = ", ".join(f"({_FIRST_LABEL + block}f-{_TABLE_LABEL}b)/2" for block in range(loop.turn))
    return [f"tbh [pc, {names.values[1]}, lsl #1]", f"{_TABLE_LABEL}:", f".short {places}"]


def _skip(loop: Loop, names: Names, number: int) -> list[str]:
    """On by what the header says; that of the turn's last block comes first, where the weights then stand."""
    value, inputs = names.values[0], names.inputs
    bits = 0 if number == loop.turn - 1 else (number + 1) * loop.skip_bits
    ahead = (loop.turn - 1 - number) * loop.weight_bytes + bits // 8
    place = f"[{names.weights}, #{ahead}]" if bits else f"[{names.weights}], #{HEADER}"
    load = "ldrh" if loop.skip_bits == 16 else "ldrb"
    part = [] if loop.skip_bits >= 8 else [f"lsr {value}, {value}, #4" if bits % 8 else f"and {value}, {value}, #15"]
    return [f"{load} {value}, {place}", *part, f"add {inputs}, {inputs}, {value}, lsl #{loop.skip_shift}"]


def _factors(loop: Loop, names: Names, half: int) -> list[str]:
    """The weights of one half of a block, at hand in `factors`."""
    if loop.packed:
        return [f"sxtb16 {w}, {w}" for w in names.factors] if half else loads(names.factors, names.weights)
    lines = loads(names.factors, names.weights)
    if half == 0:
        rewind = f"sub {names.weights}, #{BLOCK * loop.channels}"
        return [*lines, rewind, *(f"sxtb16 {w}, {w}, ror #8" for w in names.factors)]
    return [*lines, *(f"sxtb16 {w}, {w}" for w in names.factors)]


def loads(registers: Sequence[str], pointer: str) -> list[str]:
    """Words from `pointer` on, which moves, two at a time."""
    lines = [f"ldrd {a}, {b}, [{pointer}], #8" for a, b in zip(registers[0::2], registers[1::2], strict=False)]
    return [*lines, f"ldr {registers[-1]}, [{pointer}], #4"] if len(registers) % 2 else lines


def _pixels(loop: Loop, names: Names, number: int, half: int, pixel: int) -> list[str]:
    at_hand = names.values[: min(2, loop.pixels - pixel)]
    lines = _inputs(loop, names, number, half, pixel) if loop.line else loads(at_hand, names.inputs)
    for offset, value in enumerate(at_hand):
        for channel, factor in enumerate(names.factors):
            total = names.sums[channel * loop.pixels + pixel + offset]
            lines.append(f"smlad {total}, {value}, {factor}, {total}")
    return lines


def _inputs(loop: Loop, names: Names, number: int, half: int, pixel: int) -> list[str]:
    """The inputs of one or two pixels from rows of scratch; the pointer stays at the block's first."""
    assert loop.line is not None
    both = loop.pixels - pixel > 1
    place = f"[{names.inputs}, #{4 * (pixel + half * loop.line.words)}]"
    if not loop.sparse and half == pixel == 0:
        steps = _steps(loop.line)
        place = f"[{names.inputs}, #{steps[number % len(steps)]}]!"
    return [f"ldrd {names.values[0]}, {names.values[1]}, {place}" if both else f"ldr {names.values[0]}, {place}"]


def count(lines: Sequence[str]) -> int:
    """Instructions among lines of assembly."""
    return sum(not (line.endswith(":") or line.startswith(".")) for line in lines)


def assembly(lines: Sequence[str], constraints: Sequence[str]) -> str:
    """LLVM's inline assembly."""
    text = "\\0A\\09".join(lines)
    return f'asm sideeffect "{text}", "{",".join(constraints)}"'
