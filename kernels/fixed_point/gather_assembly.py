"""Inputs spread to int16 pairs on cores with SMLAD, as assembly within LLVM functions: see product_assembly."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.kernels.fixed_point.product_loop import BLOCK, assembly


@dataclass(frozen=True)
class Spread:
    """Pixels of `words` blocks of channels spread to columns of rows of `line` words; `skip` bytes follow each."""

    line: int
    words: int
    skip: int
    packed: bool

    @property
    def name(self) -> str:
        """The name of its LLVM function."""
        return "edge_line" + ("" if self.packed else "_plain")

    @property
    def _repeat(self) -> int:
        return self.words if self.words <= 8 else max(n for n in range(1, 9) if self.words % n == 0)

    @property
    def column_instructions(self) -> int:
        """Instructions of one column."""
        turns = self.words // self._repeat
        return 6 * self.words + 4 + (2 * turns + 1 if turns > 1 else 0)

    def function(self) -> str:
        """LLVM's text of `i32 name(ptr from, ptr to, i32 columns)`, columns > 0."""
        names = source, target, count, mask, even, odd, inner = [f"${{{i}}}" for i in range(7)]
        second = [f"rev16 {even}, {odd}", f"eor {even}, {mask}"] if self.packed else [f"sxtb16 {even}, {odd}"]
        block = [f"ldr {odd}, [{source}], #4", *second, f"sxtb16 {odd}, {odd}, ror #8",
                 f"str {odd}, [{target}], #{4 * self.line}", f"str {even}, [{target}], #{4 * self.line}"]  # fmt: skip
        blocks, turns = block * self._repeat, self.words // self._repeat
        if turns > 1:
            blocks = [f"mov {inner}, #{turns}", "2:", *blocks, f"subs {inner}, #1", "bne 2b"]
        skip = [f"add {source}, {source}, #{self.skip}"] if self.skip else []
        back = f"sub {target}, {target}, #{8 * self.line * self.words - 4}"
        lines = ["1:", *blocks, back, *skip, f"subs {count}, #1", "bne 1b"]
        kinds = "{ ptr, ptr, i32, i32, i32, i32, i32 }"
        constraints = ["=&r"] * len(names) + ["0", "1", "2", "3", "~{cc}", "~{memory}"]
        return (
            f"define internal i32 @{self.name}(ptr %from, ptr %to, i32 %columns) alwaysinline {{\n  %r = call {kinds} "
            f"{assembly(lines, constraints)}(ptr %from, ptr %to, i32 %columns, i32 {0x7F007F})\n"
            f"  %n = extractvalue {kinds} %r, 2\n  ret i32 %n\n}}\n"
        )


def spread_function(pixels: int, repeat: int, packed: bool) -> str:
    """LLVM's text of `i32 name(ptr from, ptr to, i32 turns)`, turns > 0: blocks of bytes to the int16 pairs of a pixel.

    A turn does `repeat` blocks.
    """
    names = source, target, count, mask, even, odd = [f"${{{i}}}" for i in range(6)]
    step = BLOCK * pixels
    second = [f"rev16 {even}, {odd}", f"eor {even}, {mask}"] if packed else [f"sxtb16 {even}, {odd}"]
    block = [f"ldr {odd}, [{source}], #4", *second, f"sxtb16 {odd}, {odd}, ror #8",
             f"str {odd}, [{target}], #{step}", f"str {even}, [{target}], #{step}"]  # fmt: skip
    lines = ["1:", *block * repeat, f"subs {count}, #1", "bne 1b"]
    kinds = "{ ptr, ptr, i32, i32, i32, i32 }"
    constraints = ["=&r"] * len(names) + ["0", "1", "2", "3", "~{cc}", "~{memory}"]
    return (
        f"define internal i32 @{spread_name(pixels, repeat, packed)}(ptr %from, ptr %to, i32 %turns) alwaysinline {{\n"
        f"  %r = call {kinds} {assembly(lines, constraints)}(ptr %from, ptr %to, i32 %turns, i32 {0x7F007F})\n"
        f"  %n = extractvalue {kinds} %r, 2\n  ret i32 %n\n}}\n"
    )


def spread_name(pixels: int, repeat: int, packed: bool) -> str:
    """The name of `spread_function`."""
    return f"edge_spread_{pixels}x{repeat}" + ("" if packed else "_plain")


def tail_function(pixels: int, packed: bool) -> str:
    """LLVM's text of `i32 name(ptr from, ptr to, i32 shift)`: the last of a word's bytes to int16 pairs of a pixel.

    The first `shift` bits of the word are left out.
    """
    source, target, shift, mask, even, odd = [f"${{{i}}}" for i in range(6)]
    second = [f"rev16 {even}, {odd}", f"eor {even}, {mask}"] if packed else [f"sxtb16 {even}, {odd}"]
    lines = [f"ldr {odd}, [{source}]", f"lsr {odd}, {shift}", *second, f"sxtb16 {odd}, {odd}, ror #8",
             f"str {odd}, [{target}]", f"str {even}, [{target}, #{BLOCK * pixels}]"]  # fmt: skip
    kinds = "{ ptr, ptr, i32, i32, i32, i32 }"
    constraints = ["=&r"] * 6 + ["0", "1", "2", "3", "~{cc}", "~{memory}"]
    return (
        f"define internal i32 @{tail_name(pixels, packed)}(ptr %from, ptr %to, i32 %shift) alwaysinline {{\n"
        f"  %r = call {kinds} {assembly(lines, constraints)}(ptr %from, ptr %to, i32 %shift, i32 {0x7F007F})\n"
        f"  %n = extractvalue {kinds} %r, 2\n  ret i32 %n\n}}\n"
    )


def tail_name(pixels: int, packed: bool) -> str:
    """The name of `tail_function`."""
    return f"edge_tail_{pixels}" + ("" if packed else "_plain")


def fill_function(step: int) -> str:
    """LLVM's text of `i32 name(ptr to, i32 value, i32 count)`, count > 0: a word stored every `step` bytes."""
    target, value, count = ("${0}", "${1}", "${2}")
    lines = ["1:", f"str {value}, [{target}], #{step}", f"subs {count}, #1", "bne 1b"]
    constraints = ["=&r"] * 3 + ["0", "1", "2", "~{cc}", "~{memory}"]
    return (
        f"define internal i32 @{fill_name(step)}(ptr %to, i32 %value, i32 %count) alwaysinline {{\n"
        f"  %r = call {{ ptr, i32, i32 }} {assembly(lines, constraints)}(ptr %to, i32 %value, i32 %count)\n"
        f"  %n = extractvalue {{ ptr, i32, i32 }} %r, 2\n  ret i32 %n\n}}\n"
    )


def fill_name(step: int) -> str:
    """The name of `fill_function`."""
    return f"edge_fill_{step}"


def blank_function(step: int) -> str:
    """LLVM's text of `i32 name(ptr to, i32 odd, i32 even, i32 count)`, count > 0: two words in each `step` bytes."""
    target, odd, even, count = (f"${{{i}}}" for i in range(4))
    stores = [f"str {word}, [{target}], #{step // 2}" for word in (odd, even)]
    lines = ["1:", *stores, f"subs {count}, #1", "bne 1b"]
    constraints = ["=&r"] * 4 + ["0", "1", "2", "3", "~{cc}", "~{memory}"]
    kinds = "{ ptr, i32, i32, i32 }"
    return (
        f"define internal i32 @{blank_name(step)}(ptr %to, i32 %odd, i32 %even, i32 %count) alwaysinline {{\n"
        f"  %r = call {kinds} {assembly(lines, constraints)}(ptr %to, i32 %odd, i32 %even, i32 %count)\n"
        f"  %n = extractvalue {kinds} %r, 3\n  ret i32 %n\n}}\n"
    )


def blank_name(step: int) -> str:
    """The name of `blank_function`."""
    return f"edge_blank_{step}"


HIDE = "edge_hidden"
HIDE_FUNCTION = f"""define internal i32 @{HIDE}(i32 %value) alwaysinline {{
  %r = call i32 asm "", "=r,0"(i32 %value)
  ret i32 %r
}}
"""
"""LLVM's text of a function that gives back its argument, so that no loop is unrolled because its count is known."""
