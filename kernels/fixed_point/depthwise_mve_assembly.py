"""A row of depthwise outputs on cores with Helium (MVE), sixteen channels at a time, as assembly in LLVM functions.

Each tap has a pointer of its own, nine at most: with the stream of weights, the outputs, what is left of a row and
the zero that is all but the loop's counter. Products of even and odd bytes are int16; two taps are added before four
int32 accumulators take them, in the order (0 4 8 12), (2 6 10 14), (1 5 9 13), (3 7 11 15) of the channels.

For sixteen channels the stream has where sums start, sixteen weights of each tap, values and shifts.

Source: Armv8-M Architecture Reference Manual, the M-profile vector extension.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.kernels.fixed_point.product_mve_assembly import inlined

LANES = 16
MOST_TAPS = 9
MOST_ROWS = 5

ORDER = (0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15)
"""The channel of each accumulator's lane."""

COPY, FILL, ROW = "edge_row_copy", "edge_row_fill", "edge_row_depthwise"
_STREAM, _OUTPUT, _LEFT, _ZERO = "r9", "r10", "r11", "r12"
_FARTHEST = 4095


@dataclass(frozen=True)
class RowOfOutputs:
    """A row of `kernel` taps (rows, columns) of `vectors` vectors of channels.

    Bytes: `tap` between taps beside each other, `step` between inputs of neighbouring outputs, `stride` between
    outputs. The first `size` bytes of an output are written; where `flat`, all of a row's outputs are one. Sums are
    times 2**`raised` before values multiply them.
    """

    kernel: tuple[int, int]
    vectors: int
    tap: int
    step: int
    stride: int
    size: int
    flat: bool
    raised: int
    zero: int
    low: int
    high: int

    @property
    def possible(self) -> bool:
        """Whether registers suffice and instructions reach."""
        moves = (self.tap * (self.kernel[1] - 1), *self._moves)
        few = self.kernel[0] * self.kernel[1] <= MOST_TAPS and self.kernel[0] <= MOST_ROWS
        return few and max(abs(move) for move in moves) <= _FARTHEST

    @property
    def _moves(self) -> tuple[int, int]:
        """What inputs and outputs still move after all vectors of a pixel."""
        return self.step - LANES * self.vectors, self.stride - LANES * self.vectors

    @property
    def _masked(self) -> bool:
        return self.size % LANES > 0

    def function(self) -> str:
        """LLVM's text of `i32 name(ptr stream, ptr outputs, i32 count, ptr row...)`, a row for each row of taps."""
        rows, columns = self.kernel
        lines = [f"sub sp, #{8 + 4 * rows + 4 * (rows % 2)}", "strd r0, r2, [sp]", f"mov {_OUTPUT}, r1"]
        lines += [f"str r{3 + row}, [sp, #{8 + 4 * row}]" for row in range(rows)]
        for row in range(rows):
            lines.append(f"ldr r{row * columns}, [sp, #{8 + 4 * row}]")
            lines += [f"addw r{row * columns + column}, r{row * columns}, #{column * self.tap}"
                      for column in range(1, columns)]  # fmt: skip
        lines += [f"mov {_ZERO}, #{self.zero}"]
        lines += [f"mov {_LEFT}, #{self.size}"] if self.flat and self._masked else []
        lines += ["2:", f"ldr {_STREAM}, [sp]", *self._pixel(), "ldr lr, [sp, #4]", "subs lr, lr, #1",
                  "str lr, [sp, #4]", "bne.w 2b", f"add sp, #{8 + 4 * rows + 4 * (rows % 2)}"]  # fmt: skip
        used = [*(f"r{i}" for i in range(3 + rows, 13)), "lr", *(f"q{i}" for i in range(8))]
        return inlined(ROW, ["ptr", "ptr", "i32", *["ptr"] * rows], lines, used)

    def _pixel(self) -> list[str]:
        inputs, outputs = self._moves
        lines = [f"mov {_LEFT}, #{self.size}"] if self._masked and not self.flat else []
        if self.vectors > 1:
            lines += [f"mov lr, #{self.vectors}", "dls lr, lr", "1:", *self._vector(), "le lr, 1b"]
        else:
            lines += self._vector()
        for tap in range(self.kernel[0] * self.kernel[1]):
            lines += _moved(f"r{tap}", inputs)
        return lines + _moved(_OUTPUT, outputs)

    def _vector(self) -> list[str]:
        """Sixteen channels."""
        lines = [f"vldrw.u32 q{i}, [{_STREAM}], #16" for i in range(4)]
        taps = range(self.kernel[0] * self.kernel[1])
        for first in taps[::2]:
            lines += [*_loaded(first), "vmullb.s8 q6, q4, q5", "vmullt.s8 q7, q4, q5"]
            if first + 1 in taps:
                lines += [*_loaded(first + 1), "vmullb.s8 q5, q4, q5", "vadd.i16 q6, q6, q5",
                          f"vldrw.u32 q5, [{_STREAM}, #-16]", "vmullt.s8 q5, q4, q5",
                          "vadd.i16 q7, q7, q5"]  # fmt: skip
            for number, source in enumerate(("b.s16 q4, q6", "t.s16 q4, q6", "b.s16 q4, q7", "t.s16 q4, q7")):
                lines += [f"vmovl{source}", f"vadd.i32 q{number}, q{number}, q4"]
        return lines + self._finish()

    def _finish(self) -> list[str]:
        """Sums are rescaled and stored."""
        lines = [f"vshl.i32 q{number}, q{number}, #{self.raised}" for number in range(4) if self.raised]
        for number in range(4):
            lines += [f"vldrw.u32 q4, [{_STREAM}], #16", f"vmulh.s32 q{number}, q{number}, q4"]
        for number in range(4):
            lines += [f"vldrw.u32 q4, [{_STREAM}], #16", f"vrshl.s32 q{number}, q{number}, q4"]
        lines += ["vqmovnb.s32 q6, q0", "vqmovnt.s32 q6, q1", "vqmovnb.s32 q7, q2", "vqmovnt.s32 q7, q3"]
        if self.zero:
            lines += [f"vqadd.s16 q6, q6, {_ZERO}", f"vqadd.s16 q7, q7, {_ZERO}"]
        lines += ["vqmovnb.s16 q4, q6", "vqmovnt.s16 q4, q7"]
        for name, bound, end in (("vmax", self.low, -128), ("vmin", self.high, 127)):
            lines += [f"vmov.i8 q5, #{bound & 0xFF:#x}", f"{name}.s8 q4, q4, q5"] if bound != end else []
        if self._masked:
            return [*lines, f"vctp.8 {_LEFT}", f"sub.w {_LEFT}, {_LEFT}, #16", "vpst",
                    f"vstrbt.8 q4, [{_OUTPUT}], #16"]  # fmt: skip
        return [*lines, f"vstrb.8 q4, [{_OUTPUT}], #16"]


def row_functions() -> list[str]:
    """LLVM's text of `i32 copy(ptr to, ptr from, i32 bytes)` and `i32 fill(ptr to, i32 value, i32 bytes)`."""
    loop = ["wlstp.8 lr, r2, 2f", "1:"], ["vstrb.8 q0, [r0], #16", "letp lr, 1b", "2:"]
    return [
        inlined(COPY, ["ptr", "ptr", "i32"], [*loop[0], "vldrb.u8 q0, [r1], #16", *loop[1]], ["lr", "q0"]),
        inlined(FILL, ["ptr", "i32", "i32"], ["vdup.8 q0, r1", *loop[0], *loop[1]], ["lr", "q0"]),
    ]


def _loaded(tap: int) -> list[str]:
    return [f"vldrb.u8 q4, [r{tap}], #16", f"vldrw.u32 q5, [{_STREAM}], #16"]


def _moved(register: str, step: int) -> list[str]:
    return [f"{'addw' if step > 0 else 'subw'} {register}, {register}, #{abs(step)}"] if step else []
