"""The loops of int8 products on cores with SMLAD, as assembly within LLVM functions that are put in where called.

Registers decide here: eight sums, four temporaries and two pointers are all fourteen that there are. LLVM, which
schedules loads early, spills several of them in every turn; as assembly the loop takes a third fewer instructions.

Weights are one stream. A tile of channels takes from it: where each channel's sums start; the shifts, a byte each,
less one, and in the upper half of their word the bytes of weights, or these in a word of their own, where they differ
from tile to tile; where blocks are skipped instead the words of weights, times eight, and the block of its turn at
which the first one enters; its turns; the value of each channel; and the step to the next tile's outputs, where it is
not always the same. Where the output's zero cannot be part of the rounding no shifts come first, but value, rounding
and shift last.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.kernels.fixed_point.product_loop import Loop, Names, assembly, count, enter, loads, turn_lines

_FARTHEST = 4095
_FRAME = 32
_HALF = 16
_ENTRY_BITS = 3


@dataclass(frozen=True)
class Clip:
    """What is done to rescaled sums: `zero` added, unless their rounding does that (None); kept to [low, high]."""

    zero: int | None
    low: int
    high: int


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
        return self.turns is None or self.turns * self.loop.turn * self.loop.weight_bytes > _FARTHEST

    @property
    def brief(self) -> bool:
        """Whether roundings are made from the shifts: the output's zero is part of them."""
        return self.clip.zero is None

    @property
    def apart(self) -> bool:
        """Whether the bytes of a tile's weights have a word of their own."""
        return self.sized and (not self.brief or self.far or self.loop.channels > 2)

    def size_of(self, size: int, entry: int) -> int:
        """What the stream says of weights of `size` bytes, the first `entry` blocks of their first turn left out."""
        return size // 4 << _ENTRY_BITS | entry if self.loop.sparse else size

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
        names = Names.of(self.loop)
        return count(_begin(self, names)) + count(_finish(self, names))


def channels_function(tile: Channels) -> str:
    """LLVM's text of `i32 name(ptr stream, ptr end, ptr inputs, ptr outputs)`, for at least one tile.

    It takes an i32 more where roundings are made: twice the output's zero, plus one; and one where `stride` is None.
    """
    loop, names = tile.loop, Names.of(tile.loop)
    first, second = names.values
    lines = [
        f"sub sp, #{_FRAME}", f"str {names.inputs}, [sp, #4]", f"str {first}, [sp, #8]", f"str {second}, [sp, #12]",
        *([f"str {names.spare}, [sp, #16]"] if tile.stride is None else []),
        *([f"str {names.factors[0]}, [sp, #20]"] if tile.brief else []),
        *_begin(tile, names), *turn_lines(loop, names, tile.turns == 1), *_finish(tile, names), f"add sp, #{_FRAME}",
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


def _begin(tile: Channels, names: Names) -> list[str]:
    """Sums start, and the end of the weights is noted."""
    loop, value = tile.loop, names.values[0]
    firsts = [names.sums[channel * loop.pixels] for channel in range(loop.channels)]
    lines = ["2:", *loads(firsts, names.weights)]
    for channel, start in enumerate(firsts):
        lines += [f"mov {names.sums[channel * loop.pixels + pixel]}, {start}" for pixel in range(1, loop.pixels)]
    if tile.brief:
        lines += [f"ldr {value}, [{names.weights}], #4", f"str {value}, [sp, #24]"]
    if tile.turns == 1:
        return lines
    if tile.apart:
        lines.append(f"ldr {value}, [{names.weights}], #4")
    if loop.sparse:
        return [*lines, *_entered(tile, names)]
    if tile.sized:
        lines.append(f"add {value}, {names.weights}, {value}" + ("" if tile.apart else f", lsr #{_HALF}"))
    else:
        lines.append(f"addw {value}, {names.weights}, #{(tile.turns or 0) * loop.turn * loop.weight_bytes}")
    return [*lines, f"str {value}, [sp]"]


def _entered(tile: Channels, names: Names) -> list[str]:
    """The end of weights whose blocks are skipped is noted; to the first block."""
    (value, entry), bit = names.values, 0 if tile.apart else _HALF
    return [f"ubfx {entry}, {value}, #{bit}, #{_ENTRY_BITS}", f"lsr {value}, {value}, #{bit + _ENTRY_BITS}",
            f"add {value}, {names.weights}, {value}, lsl #2", f"str {value}, [sp]",
            *enter(tile.loop, names)]  # fmt: skip


def _finish(tile: Channels, names: Names) -> list[str]:
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


def _factors_of(tile: Channels, names: Names, channel: int) -> list[str]:
    """Value, rounding and shift of one channel; shifts count from a register's lowest byte."""
    value, (shift, rounding) = names.factors[0], names.values
    if not tile.brief:
        return [f"ldrd {value}, {rounding}, [{names.weights}], #8", f"ldr {shift}, [{names.weights}], #4"]
    own = [f"lsr {shift}, #{8 * channel}"] if channel else []
    return [f"ldr {value}, [{names.weights}], #4", f"ldrd {rounding}, {shift}, [sp, #20]", *own,
            f"lsl {rounding}, {shift}"]  # fmt: skip


def _stored(tile: Channels, names: Names, channel: int, pixel: int) -> list[str]:
    """One result is stored; the sum of pixel 0 has been, and is free."""
    total, output = names.sums[channel * tile.loop.pixels + pixel], names.inputs
    if tile.stride is not None:
        return [f"strb {total}, [{output}, #{pixel * tile.stride + channel}]"]
    return stored_apart(total, output, names.spare, names.sums[channel * tile.loop.pixels], pixel)


def stored_apart(total: str, output: str, stride: str, free: str, pixel: int) -> list[str]:
    """`total` stored `pixel` times the register `stride` after `output`, the register `free` lost."""
    if pixel == 0:
        return [f"strb {total}, [{output}]"]
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
