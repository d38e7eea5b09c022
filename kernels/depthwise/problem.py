"""What a depthwise convolution is: shapes, places in memory and what is fused behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.abi import EpilogueStep, Residual, View
from edgeprune.kernels.epilogue import element, residuals
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import apart, converted, stored
from edgeprune.kernels.vector_math import lanes_of

EXACT = 2**24
"""Whole numbers up to here are exact in float32."""


@dataclass(frozen=True)
class Depthwise:
    """Convolution of every channel with its own filter.

    `x` lies in zeros wide enough for `pads` (top, left) and for what the kernel reads beyond the bottom and right.
    Pairs are (vertical, horizontal). Both views are channels-last, or both planar; residuals have the layout of `y`
    and do not overlap it. Where `x` stores integers the sum is of whole numbers, and exact; it is scaled once. Else it
    is of the type that `x` holds, float32 or float16, as are weights and bias.
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
    def integer(self) -> bool:
        """Whether whole numbers are summed."""
        return self.x.format.quantized

    @property
    def real(self) -> str:
        """The type of the sums where real numbers are summed; whole ones that are added in vectors have float32."""
        return script.FLOAT if self.integer else self.x.format.dtype

    @property
    def residuals(self) -> tuple[Residual, ...]:
        """The residual steps of the epilogue."""
        return residuals(self.epilogue)

    @property
    def has_slack(self) -> bool:
        """Whether all that is read may be read past its end, as far as buffers of integers reach."""
        return self.integer and all(step.view.format.quantized for step in self.residuals)

    def dtypes(self, constants: Sequence[str]) -> list[str]:
        """Types of the kernel's pointers, those of its constants given."""
        views = (self.x, *(step.view for step in residuals(self.epilogue)))
        return [*(view.format.dtype for view in views), *constants, self.y.format.dtype]


@dataclass(frozen=True)
class Pointers:
    """The kernel's pointer arguments by role; `wide` where the bias is int32 because float32 sums would not be exact.

    `scales` are those of whole-number sums, one a channel.
    """

    x: Memory
    residuals: tuple[Memory, ...]
    weights: Memory
    bias: Memory | None
    scales: Memory | None
    y: Memory
    wide: bool
    real: str

    @classmethod
    def of(cls, problem: Depthwise, memories: Sequence[Memory], dtypes: Sequence[str]) -> Pointers:
        """Name the pointers of `problem`'s kernel, in the order (x, residuals, weights, [bias], [scales], y).

        `dtypes` are those of its constants.
        """
        count = len(residuals(problem.epilogue))
        constants = memories[1 + count : -1]
        bias = constants[1] if problem.bias else None
        scales = constants[-1] if problem.integer else None
        return cls(
            memories[0], tuple(memories[1 : 1 + count]), constants[0], bias, scales, memories[-1],
            "int32" in dtypes, problem.real,
        )  # fmt: skip

    def start(self, channel: Any, lanes: int) -> Any:
        """What the sum of `lanes` channels starts from: their bias, or zero."""
        return self.bias.load(channel, lanes) if self.bias and not self.wide else script.splat(0.0, lanes, self.real)

    def weight(self, index: Any, lanes: int) -> Any:
        """`lanes` weights in the type of the sums."""
        return converted(self.weights.load(index, lanes), self.real)

    def store(self, problem: Depthwise, total: Any, at: Sequence[Any], lanes: int, along: str) -> None:
        """Write `lanes` results at (image, channel, row, column), scaled, the epilogue applied."""
        if self.scales:
            total = self._scaled(total, at[1], lanes if along == "channel" else 1)
        value = script.finish(problem.epilogue, total, self.residuals, at, lanes, along)
        self.y.store(element(problem.y, *at), stored(value, problem.y.format), lanes)

    def _scaled(self, total: Any, channel: Any, channels: int) -> Any:
        """Whole-number sums times the scales of their channels: of `channels`, or all of one."""
        lanes = lanes_of(total)
        assert self.scales is not None
        if self.wide:
            assert self.bias is not None
            bias = self.bias.load(channel, channels)
            bias = bias if channels == lanes else script.splat(bias, lanes)
            total = converted(converted(total, script.INTEGER) + bias, script.FLOAT)
        scales = self.scales.load(channel, channels)
        return apart(total * (scales if channels == lanes else script.splat(scales, lanes)))
