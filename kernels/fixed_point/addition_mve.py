"""int8 addition on cores with Helium: four elements at a time in int32, in a loop that ends within a vector.

The input with the larger scale is halved exactly, by a shift; the other is multiplied, as is the sum.

Source: Armv8-M Architecture Reference Manual, the M-profile vector extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.kernels.fixed_point.arithmetic import Multiplier
from edgeprune.kernels.fixed_point.product_mve_assembly import inlined

NAME = "edge_vector_sum"

_RAISED = 2
_MOST = 32
"""The widest shift of a vector to the right."""


@dataclass(frozen=True)
class VectorSum:
    """The sum of an input `finer` - 1 bits above the common grid, which is the `exact` of (0, 1), and of one times
    `factor`; then times `output`. `zeros` and `signs` are those of the inputs, `zero` the output's.
    """

    finer: int
    exact: int
    factor: Multiplier
    output: Multiplier
    zeros: tuple[int, int]
    signs: tuple[int, int]
    zero: int
    low: int
    high: int

    @property
    def possible(self) -> bool:
        """Whether the high word of a product has the bits that rounding needs."""
        return self._factor.shift <= 0 and 1 <= -1 - self.output.shift <= _MOST

    @property
    def _factor(self) -> Multiplier:
        """The other input's factor; none where its product is nothing on the common grid."""
        return self.factor if 1 - self.factor.shift <= _MOST else Multiplier(0, 0)

    def function(self) -> str:
        """LLVM's text of `i32 name(ptr left, ptr right, ptr y, i32 elements)`."""
        exact, other = f"r{self.exact}", f"r{1 - self.exact}"
        start = -self.signs[self.exact] * self.zeros[self.exact] << (self.finer - 1)
        add = "vadd.i32 q0, q0, q1" if self.signs == (1, 1) else f"vsub.i32 q0, q{self.exact}, q{1 - self.exact}"
        bounds = [("vmax", self.low, -128, 2), ("vmin", self.high, 127, 3)]
        used = [(name, bound, vector) for name, bound, end, vector in bounds if bound != end]
        lines = [
            *_number("r4", self.zeros[1 - self.exact]), *_number("r5", start), *_number("r6", self.zero),
            *_number("r7", self._factor.value), "vdup.32 q4, r7", *_number("r7", self.output.value), "vdup.32 q5, r7",
            *(f"vmov.i8 q{vector}, #{bound & 0xFF:#x}" for _, bound, vector in used),
            "wlstp.32 lr, r3, 2f", "1:",
            f"vldrb.s32 q0, [{exact}], #4", f"vldrb.s32 q1, [{other}], #4", "vsub.i32 q1, q1, r4",
            f"vshl.i32 q0, q0, #{self.finer - 1}", f"vshl.i32 q1, q1, #{self.finer + _RAISED}",
            "vmulh.s32 q1, q1, q4", f"vrshr.s32 q1, q1, #{1 - self._factor.shift}", add, "vadd.i32 q0, q0, r5",
            "vmulh.s32 q0, q0, q5", f"vrshr.s32 q0, q0, #{-1 - self.output.shift}", "vadd.i32 q0, q0, r6",
            "vqmovnb.s32 q0, q0", "vqmovnb.s16 q0, q0",
            *(f"{name}.s8 q0, q0, q{vector}" for name, _, vector in used),
            "vstrb.32 q0, [r2], #4", "letp lr, 1b", "2:",
        ]  # fmt: skip
        lost = ["r4", "r5", "r6", "r7", "lr", *(f"q{i}" for i in range(6))]
        return inlined(NAME, ["ptr", "ptr", "ptr", "i32"], lines, lost)


def _number(register: str, value: int) -> Sequence[str]:
    bits = value & 0xFFFFFFFF
    return [f"movw {register}, #{bits & 0xFFFF}", f"movt {register}, #{bits >> 16}"]
