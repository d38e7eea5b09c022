"""The loops of int8 products on cores with Helium (MVE), as assembly within LLVM functions.

VMLADAVA.S8 adds sixteen products to one 32-bit register, which must be an even one: six sums, the loop's counter in
LR, and six odd registers for the rest are all that there are. Vectors need no more than four of eight: the smaller
set of operands stays, the larger streams through two.

Weights are one stream. A tile of channels takes from it: where each channel's sums start; where blocks are skipped,
a word of the blocks' count and in its upper half the bytes of their places, and these places, sixteen bytes of inputs
each, in one byte or two; weights; the shifts, a byte each, less one, filled up to words; of each channel the value; and
the step to the next tile's outputs where channels are no multiple of the tile's. Where the output's zero cannot be part
of the rounding no shifts come, but value, rounding and shift of each channel.

Source: Armv8-M Architecture Reference Manual, the M-profile vector extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.kernels.fixed_point.product_assembly import stored_apart
from edgeprune.kernels.fixed_point.product_loop import assembly

BLOCK = 16
"""Elements along the reduction that a vector holds."""

FARTHEST = 508
"""The most bytes that a vector load reaches from its pointer."""

_FARTHEST_BYTE = 4095
_SUMS = ("r0", "r2", "r4", "r6", "r8", "r10")
_INPUTS, _WEIGHTS, _OUTPUTS, _PLACES, _SPARE, _SHIFT, _START = "r1", "r3", "r7", "r9", "r11", "r5", "r12"
_FRAME, _ZERO, _STRIDE, _TURNS_LEFT = 16, 4, 8, 12
_UNROLLED = 5
_TURNS = (4, 3, 2)
_BYTE, _PLACE_BITS = 8, 4


@dataclass(frozen=True)
class Tile:
    """`channels` times `pixels` sums, over all output channels of a group.

    Blocks of one pixel's inputs are `block_step` bytes apart, those of neighbouring pixels `pixel_step`; `blocks` is
    their number, None where some are skipped: then their places take two bytes each where they are `far`. Outputs of
    neighbouring pixels are `stride` bytes apart; where that is None the caller says it, and how many turns of `blocks`
    there are. `zero` is added to rescaled sums, unless their rounding does that (None). Sums are times 2**`raised`
    before values multiply them.
    """

    channels: int
    pixels: int
    blocks: int | None
    block_step: int
    pixel_step: int
    stride: int | None
    zero: int | None
    low: int
    high: int
    ragged: bool
    raised: int = 0
    far: bool = False

    @property
    def name(self) -> str:
        """The name of its function."""
        return "edge_vector_channels"

    @property
    def possible(self) -> bool:
        """Whether registers suffice and instructions reach."""
        near = max((self.pixels - 1) * self.pixel_step, self.block_step) <= FARTHEST
        aligned = self.pixel_step % 4 == self.block_step % 4 == 0
        return near and aligned and (self.pixels - 1) * (self.stride or 0) + self.channels <= _FARTHEST_BYTE

    @property
    def shared(self) -> bool:
        """Whether the code serves problems of several sizes."""
        return self.stride is None

    @property
    def brief(self) -> bool:
        """Whether roundings are made from the shifts: the output's zero is part of them."""
        return self.zero is None

    @property
    def place_bytes(self) -> int:
        """Bytes of a block's place."""
        return 2 if self.far else 1

    @property
    def moved(self) -> int:
        """Bytes that the pointer to outputs has gone from channel to channel by the end of a tile."""
        return self.channels - 1 if self.shared else 0

    def bytes_of(self, blocks: int, tiles: int) -> int:
        """About the bytes of the stream with `blocks` blocks in `tiles` tiles."""
        each = 4 * (2 * self.channels + -(-self.channels // 4) if self.brief else 4 * self.channels) + 4 * self.ragged
        places = 0 if self.blocks is not None else blocks * self.place_bytes + 6 * tiles
        return blocks * self.channels * BLOCK + places + tiles * each

    @property
    def turn(self) -> int:
        """Blocks in a turn of the loop."""
        if self.blocks is None:
            return 1
        if self.shared:
            return self.blocks
        return next((turn for turn in _TURNS if self.blocks % turn == 0), 1)

    @property
    def block_instructions(self) -> int:
        """Instructions of one block."""
        return len(_block(self))

    def instructions(self, blocks: int, tiles: int) -> float:
        """Instructions of all channels, which have `blocks` blocks in `tiles` tiles."""
        ends = len(_begin(self)) + len(_finish(self))
        loop = 0.0 if self._straight else blocks / self.turn + 2 * tiles
        return blocks * self.block_instructions + loop + tiles * ends + _CALL

    @property
    def _straight(self) -> bool:
        return self.blocks is not None and not self.shared and self.blocks <= _UNROLLED

    @property
    def arguments(self) -> tuple[str, ...]:
        """The types of the function's arguments."""
        return ("ptr", "ptr", "ptr", "ptr", "i32", *(("i32", "i32") if self.shared else ()))

    def function(self) -> str:
        """LLVM's text of `i32 name(ptr stream, ptr end, ptr inputs, ptr outputs, i32 zero)`, for at least one tile.

        `zero` is twice the output's, plus one. Shared code takes two i32 more: the stride and the turns.
        """
        given = [f"str r5, [sp, #{_STRIDE}]", f"str r6, [sp, #{_TURNS_LEFT}]"] if self.shared else []
        lines = [
            f"sub sp, #{_FRAME}", "str r1, [sp]", f"str r4, [sp, #{_ZERO}]", *given,
            f"mov {_START}, r2", f"mov {_OUTPUTS}, r3", f"mov {_WEIGHTS}, r0",
            *_begin(self), *self._middle(), *_finish(self), f"add sp, #{_FRAME}",
        ]  # fmt: skip
        used = [*(f"r{i}" for i in range(len(self.arguments), 13)), "lr", "q0", "q1", "q2", "q3"]
        return inlined(self.name, self.arguments, lines, used)

    def _middle(self) -> list[str]:
        if self.blocks is None:
            return ["wls lr, lr, 3f", "1:", *_block(self), "le lr, 1b", "3:"]
        if self.shared:
            return [f"ldr lr, [sp, #{_TURNS_LEFT}]", "dls lr, lr", "1:", *_block(self) * self.blocks, "le lr, 1b"]
        if self._straight:
            return _block(self) * self.blocks
        return [f"mov lr, #{self.blocks // self.turn}", "dls lr, lr", "1:", *_block(self) * self.turn, "le lr, 1b"]


_CALL = 16


def _begin(tile: Tile) -> list[str]:
    """Sums start, and the inputs' pointer goes back."""
    firsts = [_SUMS[channel * tile.pixels] for channel in range(tile.channels)]
    lines = ["2:", *_loads(firsts)]
    for channel, start in enumerate(firsts):
        lines += [f"mov {_SUMS[channel * tile.pixels + pixel]}, {start}" for pixel in range(1, tile.pixels)]
    if tile.blocks is not None:
        return [*lines, f"mov {_INPUTS}, {_START}"]
    return [*lines, f"ldr {_SPARE}, [{_WEIGHTS}], #4", f"uxth lr, {_SPARE}", f"mov {_PLACES}, {_WEIGHTS}",
            f"add {_WEIGHTS}, {_WEIGHTS}, {_SPARE}, lsr #16"]  # fmt: skip


def _block(tile: Tile) -> list[str]:
    """Sixteen products for each sum."""
    lines = [] if tile.blocks is not None else [
        f"ldr{'h' if tile.far else 'b'} {_SPARE}, [{_PLACES}], #{tile.place_bytes}",
        f"add {_INPUTS}, {_START}, {_SPARE}, lsl #{_PLACE_BITS}",
    ]  # fmt: skip
    weights = [f"[{_WEIGHTS}], #{BLOCK}"] * tile.channels
    inputs = [f"[{_INPUTS}, #{pixel * tile.pixel_step}]" for pixel in range(tile.pixels)]
    if tile.blocks is not None:
        inputs = [*inputs[1:], f"[{_INPUTS}], #{tile.block_step}"]
    order = [*range(1, tile.pixels), 0] if tile.blocks is not None else list(range(tile.pixels))
    by_pixel = tile.channels <= tile.pixels
    held, passing = (weights, inputs) if by_pixel else (inputs, weights)
    lines += [f"vldrw.u32 q{number}, {place}" for number, place in enumerate(held)]
    for number, place in enumerate(passing):
        vector = len(held) + number % 2
        lines.append(f"vldrw.u32 q{vector}, {place}")
        for other in range(len(held)):
            channel, pixel = (other, order[number]) if by_pixel else (number, order[other])
            lines.append(f"vmladava.s8 {_SUMS[channel * tile.pixels + pixel]}, q{other}, q{vector}")
    return lines


def _finish(tile: Tile) -> list[str]:
    """Sums are rescaled and stored; on to the next tile."""
    value, rounding = _PLACES, _SPARE
    lines = [f"ldr lr, [sp, #{_STRIDE}]"] if tile.shared else []
    for channel in range(tile.channels):
        lines += [f"add {_OUTPUTS}, #1"] if channel and tile.shared else []
        lines += _factors(tile, channel)
        for pixel in range(tile.pixels):
            total = _SUMS[channel * tile.pixels + pixel]
            lines += [f"lsl {total}, {total}, #{tile.raised}"] if tile.raised else []
            lines += [f"smmla {total}, {total}, {value}, {rounding}", f"asr {total}, {total}, {_SHIFT}"]
            lines += _clipped(tile, total)
            if tile.stride is None:
                lines += stored_apart(total, _OUTPUTS, "lr", _SUMS[channel * tile.pixels], pixel)
            else:
                lines.append(f"strb {total}, [{_OUTPUTS}, #{pixel * tile.stride + channel}]")
    if tile.ragged:
        lines += [f"ldr {value}, [{_WEIGHTS}], #4", f"add {_OUTPUTS}, {value}"]
    else:
        lines.append(f"add {_OUTPUTS}, #{tile.channels - tile.moved}")
    return [*lines, f"ldr {value}, [sp]", f"cmp {_WEIGHTS}, {value}", "bne 2b"]


def _factors(tile: Tile, channel: int) -> list[str]:
    """Value, rounding and shift of one channel; shifts count from a register's lowest byte."""
    if not tile.brief:
        return [f"ldrd {_PLACES}, {_SPARE}, [{_WEIGHTS}], #8", f"ldr {_SHIFT}, [{_WEIGHTS}], #4"]
    word, byte = ([f"ldr {_INPUTS}, [{_WEIGHTS}], #4"] if channel % 4 == 0 else []), _BYTE * (channel % 4)
    return [*word, f"ldr {_PLACES}, [{_WEIGHTS}], #4", f"ldr {_SPARE}, [sp, #{_ZERO}]",
            f"lsr {_SHIFT}, {_INPUTS}, #{byte}" if byte else f"mov {_SHIFT}, {_INPUTS}",
            f"lsl {_SPARE}, {_SHIFT}"]  # fmt: skip


def _clipped(tile: Tile, total: str) -> list[str]:
    lines = [f"add {total}, #{tile.zero}"] if tile.zero else []
    lines.append(f"ssat {total}, #8, {total}" + (", asr #1" if tile.brief else ""))
    if tile.low > -128:
        lines += [f"cmp {total}, #{tile.low}", "it lt", f"movlt {total}, #{tile.low}"]
    if tile.high < 127:
        lines += [f"cmp {total}, #{tile.high}", "it gt", f"movgt {total}, #{tile.high}"]
    return lines


def _loads(registers: Sequence[str]) -> list[str]:
    pairs = zip(registers[0::2], registers[1::2], strict=False)
    lines = [f"ldrd {a}, {b}, [{_WEIGHTS}], #8" for a, b in pairs]
    return [*lines, f"ldr {registers[-1]}, [{_WEIGHTS}], #4"] if len(registers) % 2 else lines


def inlined(name: str, arguments: Sequence[str], lines: Sequence[str], used: Sequence[str]) -> str:
    """LLVM's text of a function `i32 name(arguments)` that is these lines of assembly, put in where it is called; LLVM
    makes no copies of it when it unrolls loops.

    `arguments` are LLVM's types; they come in r0, r1 and so on, which are lost as are the registers `used`.
    """
    count = len(arguments)
    constraints = [f"={{r{i}}}" for i in range(count)] + [str(i) for i in range(count)]
    constraints += [f"~{{{register}}}" for register in (*used, "cc", "memory")]
    given = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(arguments))
    return (
        f"define internal i32 @{name}({given}) alwaysinline {{\n"
        f"  %r = call {{ {', '.join(arguments)} }} {assembly(lines, constraints)}({given}) noduplicate\n"
        f"  ret i32 0\n}}\n"
    )
