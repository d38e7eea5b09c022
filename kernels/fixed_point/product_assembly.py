"""The loops of int8 products on cores with SMLAD, as assembly within LLVM functions that are put in where called.

Registers decide here: eight sums, four temporaries and two pointers are all fourteen that there are. LLVM, which
schedules loads early, spills several of them in every turn; as assembly the loop takes a third fewer instructions.

What is multiplied: a block is four consecutive elements b0..b3 along the reduction. Of inputs it is two words of
int16 pairs, of weights one word of bytes. Where `packed`, a word of weights is the pair of int16 (w0 + 256*w1,
w2 + 256*w3): it multiplies the inputs (b1, b3) as it is, and its low bytes, sign-extended by one SXTB16, multiply
(256*b0 - b1 + 127, 256*b2 - b3 + 127), which is REV16 and an exclusive or. Together that is 256 times the sum, and
127 times the even weights, which the bias takes back.

Weights are one stream. A tile of channels takes from it: where each channel's sums start; the shifts, a byte each, less
one, and in the upper half of their word the bytes of weights, or these in a word of their own, where they differ from
tile to tile; its turns; the value of each channel; and the step to the next tile's outputs, where it is not always the
same. Where the output's zero cannot be part of the rounding no shifts come first, but value, rounding and shift last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 4
"""Elements along the reduction that a word of weights holds."""

_FARTHEST = 4095
_FRAME = 32
_HALF = 16


@dataclass(frozen=True)
class Clip:
    """What is done to rescaled sums: `zero` added, unless their rounding does that (None); kept to [low, high]."""

    zero: int | None
    low: int
    high: int


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
    def turn_bytes(self) -> int:
        """Bytes of weights that a turn reads."""
        return self.turn * self.channels * BLOCK + self.header_bytes

    @property
    def header_bytes(self) -> int:
        """What precedes a turn's weights where blocks are skipped: what is skipped before each, filled up to words."""
        return -(-self.turn * self.skip_bytes // 4) * 4 if self.sparse else 0

    @property
    def skip_bytes(self) -> int:
        """Bytes of one entry of a header."""
        return 2 if self.line else 1

    @property
    def first_step(self) -> int:
        """Bytes from where the inputs' pointer begins to the first block."""
        return 0 if self.line is None or self.sparse else _steps(self.line)[0]

    @property
    def turn_instructions(self) -> int:
        """Instructions of one turn."""
        return len(_turn(self, _Names.of(self))) - 1


@dataclass(frozen=True)
class _Names:
    """The operands of the inline assembly, by what they hold."""

    sums: tuple[str, ...]
    weights: str
    inputs: str
    factors: tuple[str, ...]
    spare: str
    values: tuple[str, str]

    @classmethod
    def of(cls, loop: Loop) -> _Names:
        first = loop.sums + 2
        names = [f"${{{i}}}" for i in range(first + max(loop.channels, 2) + 2)]
        return cls(
            tuple(names[: loop.sums]), names[loop.sums], names[loop.sums + 1],
            tuple(names[first : first + loop.channels]), names[first + 1], (names[-2], names[-1]),
        )  # fmt: skip


@dataclass(frozen=True)
class Channels:
    """All output channels of a tile of pixels: `turns` of every tile of channels, None where they differ.

    Outputs of neighbouring pixels are `stride` bytes apart; None where the caller says how many. `ragged`: channels are
    no multiple of the loop's. `far`: the bytes of weights may not fit 16 bits.
    """

    loop: Loop
    clip: Clip
    turns: int | None
    stride: int | None
    ragged: bool
    far: bool = False

    @property
    def name(self) -> str:
        """The name of its LLVM function."""
        return "edge_channels"

    @property
    def sized(self) -> bool:
        """Whether the stream says how long a tile's weights are."""
        return self.turns is None or self.turns * self.loop.turn_bytes > _FARTHEST

    @property
    def brief(self) -> bool:
        """Whether roundings are made from the shifts: the output's zero is part of them."""
        return self.clip.zero is None

    @property
    def apart(self) -> bool:
        """Whether the bytes of a tile's weights have a word of their own."""
        return self.sized and (not self.brief or self.far or self.loop.channels > 2)

    @property
    def own_bytes(self) -> int:
        """Bytes of a tile in the stream but for its turns."""
        each = 8 if self.brief else 16
        return each * self.loop.channels + 4 * (self.brief + self.apart + self.ragged)

    @property
    def reachable(self) -> bool:
        """Whether one instruction reaches from a tile's first output to each other."""
        return self.stride is None or (self.loop.pixels - 1) * self.stride + self.loop.channels <= _FARTHEST

    @property
    def moved(self) -> int:
        """Bytes that the pointer to outputs has gone from channel to channel by the end of a tile."""
        return self.loop.channels - 1 if self.stride is None else 0

    @property
    def tile_instructions(self) -> int:
        """Instructions of a tile of channels, but for its turns."""
        names = _Names.of(self.loop)
        return len(_begin(self, names)) + len(_finish(self, names)) - 1


def channels_function(tile: Channels) -> str:
    """LLVM's text of `i32 name(ptr stream, ptr end, ptr inputs, ptr outputs)`, for at least one tile.

    It takes an i32 more where roundings are made: twice the output's zero, plus one; and one where `stride` is None.
    """
    loop, names = tile.loop, _Names.of(tile.loop)
    first, second = names.values
    lines = [
        f"sub sp, #{_FRAME}", f"str {names.inputs}, [sp, #4]", f"str {first}, [sp, #8]", f"str {second}, [sp, #12]",
        *([f"str {names.spare}, [sp, #16]"] if tile.stride is None else []),
        *([f"str {names.factors[0]}, [sp, #20]"] if tile.brief else []),
        *_begin(tile, names), *_turn(loop, names, tile.turns == 1), *_finish(tile, names), f"add sp, #{_FRAME}",
    ]  # fmt: skip
    results = loop.sums + 4 + max(loop.channels, 2)
    tied = {
        loop.sums: "ptr %stream", loop.sums + 1: "ptr %inputs", results - 2: "ptr %outputs", results - 1: "ptr %end",
    }  # fmt: skip
    if tile.brief:
        tied[loop.sums + 2] = "i32 %zero"
    if tile.stride is None:
        tied[loop.sums + 3] = "i32 %stride"
    constraints = ["=&r"] * results + [str(i) for i in tied] + ["~{cc}", "~{memory}"]
    kinds = ", ".join(tied[i].split()[0] if i in tied else "i32" for i in range(results))
    parameters = "ptr %stream, ptr %end, ptr %inputs, ptr %outputs" + (", i32 %zero" if tile.brief else "")
    parameters += ", i32 %stride" if tile.stride is None else ""
    return (
        f"define internal i32 @{tile.name}({parameters}) alwaysinline {{\n"
        f"  %r = call {{ {kinds} }} {assembly(lines, constraints)}({', '.join(tied.values())})\n  ret i32 0\n}}\n"
    )


def _begin(tile: Channels, names: _Names) -> list[str]:
    """Sums start, and the end of the weights is noted."""
    loop, value = tile.loop, names.values[0]
    firsts = [names.sums[channel * loop.pixels] for channel in range(loop.channels)]
    lines = ["2:", *_loads(firsts, names.weights)]
    for channel, start in enumerate(firsts):
        lines += [f"mov {names.sums[channel * loop.pixels + pixel]}, {start}" for pixel in range(1, loop.pixels)]
    if tile.brief:
        lines += [f"ldr {value}, [{names.weights}], #4", f"str {value}, [sp, #24]"]
    if tile.turns == 1:
        return lines
    if tile.sized and not tile.apart:
        lines.append(f"add {value}, {names.weights}, {value}, lsr #{_HALF}")
    elif tile.sized:
        lines += [f"ldr {value}, [{names.weights}], #4", f"add {value}, {names.weights}"]
    else:
        lines.append(f"addw {value}, {names.weights}, #{(tile.turns or 0) * loop.turn_bytes}")
    return [*lines, f"str {value}, [sp]"]


def _finish(tile: Channels, names: _Names) -> list[str]:
    """Sums are rescaled and stored; on to the next tile."""
    loop, clip, output = tile.loop, tile.clip, names.inputs
    value, (shift, rounding) = names.factors[0], names.values
    lines = [f"ldr {output}, [sp, #8]"]
    if tile.stride is None:
        lines.append(f"ldr {names.spare}, [sp, #16]")
    for channel in range(loop.channels):
        lines += [f"add {output}, #1"] if channel and tile.stride is None else []
        lines += _factors_of(tile, names, channel)
        for pixel in range(loop.pixels):
            total = names.sums[channel * loop.pixels + pixel]
            lines += [f"smmla {total}, {total}, {value}, {rounding}", f"asr {total}, {total}, {shift}"]
            lines += _clipped(clip, total)
            lines += _stored(tile, names, channel, pixel)
    if tile.ragged:
        lines += [f"ldr {value}, [{names.weights}], #4", f"add {output}, {value}"]
    else:
        lines.append(f"add {output}, #{loop.channels - tile.moved}")
    return [*lines, f"str {output}, [sp, #8]", f"ldr {output}, [sp, #4]", f"ldr {value}, [sp, #12]",
            f"cmp {names.weights}, {value}", "bne 2b"]  # fmt: skip


def _factors_of(tile: Channels, names: _Names, channel: int) -> list[str]:
    """Value, rounding and shift of one channel; shifts count from a register's lowest byte."""
    value, (shift, rounding) = names.factors[0], names.values
    if not tile.brief:
        return [f"ldrd {value}, {rounding}, [{names.weights}], #8", f"ldr {shift}, [{names.weights}], #4"]
    own = [f"lsr {shift}, #{8 * channel}"] if channel else []
    return [f"ldr {value}, [{names.weights}], #4", f"ldrd {rounding}, {shift}, [sp, #20]", *own,
            f"lsl {rounding}, {shift}"]  # fmt: skip


def _stored(tile: Channels, names: _Names, channel: int, pixel: int) -> list[str]:
    """One result is stored; the sum of pixel 0 has been, and is free."""
    total, output = names.sums[channel * tile.loop.pixels + pixel], names.inputs
    if tile.stride is not None:
        return [f"strb {total}, [{output}, #{pixel * tile.stride + channel}]"]
    if pixel == 0:
        return [f"strb {total}, [{output}]"]
    stride, free = names.spare, names.sums[channel * tile.loop.pixels]
    odd = pixel // (pixel & -pixel)
    made = {1: [], 3: [f"add {free}, {stride}, {stride}, lsl #1"], 5: [f"add {free}, {stride}, {stride}, lsl #2"],
            7: [f"rsb {free}, {stride}, {stride}, lsl #3"]}[odd]  # fmt: skip
    index = stride if odd == 1 else free
    return [*made, f"strb {total}, [{output}, {index}, lsl #{(pixel & -pixel).bit_length() - 1}]"]


def _clipped(clip: Clip, total: str) -> list[str]:
    if clip.zero is None:
        lines = [f"ssat {total}, #8, {total}, asr #1"]
    else:
        lines = [*([f"add {total}, #{clip.zero}"] if clip.zero else []), f"ssat {total}, #8, {total}"]
    if clip.low > -128:
        lines += [f"cmp {total}, #{clip.low}", "it lt", f"movlt {total}, #{clip.low}"]
    if clip.high < 127:
        lines += [f"cmp {total}, #{clip.high}", "it gt", f"movgt {total}, #{clip.high}"]
    return lines


def _turn(loop: Loop, names: _Names, alone: bool = False) -> list[str]:
    """One turn of the loop; one that is `alone` needs no loop."""
    lines = [] if alone else ["1:"]
    for number in range(loop.turn):
        lines += _skip(loop, names, number) if loop.sparse else []
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


def _skip(loop: Loop, names: _Names, number: int) -> list[str]:
    value, inputs = names.values[0], names.inputs
    back = number * (loop.channels * BLOCK - loop.skip_bytes) + loop.header_bytes
    place = f"[{names.weights}, #-{back}]" if number else f"[{names.weights}], #{loop.header_bytes}"
    load = "ldrh" if loop.line else "ldrb"
    return [f"{load} {value}, {place}", f"add {inputs}, {inputs}, {value}, lsl #{_shift(loop)}"]


def _shift(loop: Loop) -> int:
    return 2 if loop.line else (loop.block_bytes & -loop.block_bytes).bit_length() - 1


def skip_unit(loop: Loop) -> int:
    """What the bytes of a header count for one block: they are shifted, not multiplied."""
    return loop.block_bytes >> _shift(loop)


def _factors(loop: Loop, names: _Names, half: int) -> list[str]:
    """The weights of one half of a block, at hand in `factors`."""
    if loop.packed:
        return [f"sxtb16 {w}, {w}" for w in names.factors] if half else _loads(names.factors, names.weights)
    lines = _loads(names.factors, names.weights)
    if half == 0:
        rewind = f"sub {names.weights}, #{BLOCK * loop.channels}"
        return [*lines, rewind, *(f"sxtb16 {w}, {w}, ror #8" for w in names.factors)]
    return [*lines, *(f"sxtb16 {w}, {w}" for w in names.factors)]


def _loads(registers: Sequence[str], pointer: str) -> list[str]:
    lines = [f"ldrd {a}, {b}, [{pointer}], #8" for a, b in zip(registers[0::2], registers[1::2], strict=False)]
    return [*lines, f"ldr {registers[-1]}, [{pointer}], #4"] if len(registers) % 2 else lines


def _pixels(loop: Loop, names: _Names, number: int, half: int, pixel: int) -> list[str]:
    at_hand = names.values[: min(2, loop.pixels - pixel)]
    lines = _inputs(loop, names, number, half, pixel) if loop.line else _loads(at_hand, names.inputs)
    for offset, value in enumerate(at_hand):
        for channel, factor in enumerate(names.factors):
            total = names.sums[channel * loop.pixels + pixel + offset]
            lines.append(f"smlad {total}, {value}, {factor}, {total}")
    return lines


def _inputs(loop: Loop, names: _Names, number: int, half: int, pixel: int) -> list[str]:
    """The inputs of one or two pixels from rows of scratch; the pointer stays at the block's first."""
    assert loop.line is not None
    both = loop.pixels - pixel > 1
    place = f"[{names.inputs}, #{4 * (pixel + half * loop.line.words)}]"
    if not loop.sparse and half == pixel == 0:
        steps = _steps(loop.line)
        place = f"[{names.inputs}, #{steps[number % len(steps)]}]!"
    return [f"ldrd {names.values[0]}, {names.values[1]}, {place}" if both else f"ldr {names.values[0]}, {place}"]


def assembly(lines: Sequence[str], constraints: Sequence[str]) -> str:
    """LLVM's inline assembly."""
    text = "\\0A\\09".join(lines)
    return f'asm sideeffect "{text}", "{",".join(constraints)}"'
