"""What a depthwise convolution is: shapes, places in memory and what is fused behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.abi import EpilogueStep, View
from edgeprune.kernels.epilogue import element, residuals
from edgeprune.kernels.script import Memory


@dataclass(frozen=True)
class Depthwise:
    """Convolution of every channel with its own filter.

    `x` lies in zeros wide enough for `pads` (top, left) and for what the kernel reads beyond the bottom and right.
    Pairs are (vertical, horizontal). Both views are channels-last, or both planar; residuals have the layout of `y`
    and do not overlap it.
    """

    x: View
    y: View
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]
    bias: bool
    epilogue: tuple[EpilogueStep, ...] = ()

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return self.kernel[0] * self.kernel[1]

    @property
    def dtypes(self) -> list[str]:
        """Types of the kernel's pointers."""
        return [script.FLOAT] * (3 + len(residuals(self.epilogue)) + self.bias)


@dataclass(frozen=True)
class Pointers:
    """The kernel's pointer arguments by role."""

    x: Memory
    residuals: tuple[Memory, ...]
    weights: Memory
    bias: Memory | None
    y: Memory

    @classmethod
    def of(cls, problem: Depthwise, memories: Sequence[Memory]) -> Pointers:
        """Name the pointers of `problem`'s kernel, which come in the order (x, residuals, weights, [bias], y)."""
        count = len(residuals(problem.epilogue))
        constants = memories[1 + count : -1]
        bias = constants[1] if problem.bias else None
        return cls(memories[0], tuple(memories[1 : 1 + count]), constants[0], bias, memories[-1])

    def start(self, channel: Any, lanes: int) -> Any:
        """What the sum of `lanes` channels starts from: their bias, or zero."""
        return self.bias.load(channel, lanes) if self.bias else script.splat(0.0, lanes)

    def store(self, problem: Depthwise, total: Any, at: Sequence[Any], lanes: int, along: str) -> None:
        """Write `lanes` results at (image, channel, row, column), the epilogue applied."""
        value = script.finish(problem.epilogue, total, self.residuals, at, lanes, along)
        self.y.store(element(problem.y, *at), value, lanes)
