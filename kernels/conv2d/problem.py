"""What a convolution is to its kernels: where its input and output lie and which taps it reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeprune.kernels.abi import EpilogueStep, Residual, View

LONGEST_SUM = 256
"""Products that float16 adds up: the error of a sum grows with the root of their number, and is one in 300 here."""


@dataclass(frozen=True)
class Conv2d:
    """A convolution; a linear layer on M rows is one of height 1, width M and kernel 1x1.

    `kernel`, `strides` and `dilations` are (vertical, horizontal); `pads` is (top, left): what is read below and
    to the right follows from the size of `y`. Wherever a tap reaches outside `x`, zeros must lie in memory. The
    float kernels compute in what `x` holds, float32 or float16, and store what `y` has; residuals may have any format.
    """

    x: View
    y: View
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    groups: int = 1
    bias: bool = False
    epilogue: tuple[EpilogueStep, ...] = ()

    @property
    def real(self) -> str:
        """The type that float kernels compute in, and hold weights and biases in."""
        return self.x.format.dtype

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return self.kernel[0] * self.kernel[1]

    @property
    def group_inputs(self) -> int:
        """Input channels of one group."""
        return self.x.channels // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.y.channels // self.groups

    @property
    def pixels(self) -> int:
        """Output pixels of the whole batch."""
        return self.y.batch * self.y.height * self.y.width

    @property
    def dense_macs(self) -> int:
        """Multiply-accumulates when every weight counts."""
        return self.pixels * self.taps * self.group_inputs * self.y.channels

    def halo(self) -> tuple[int, int, int, int]:
        """Cells of zeros that the kernel reads above, left of, below and right of `x`."""
        sides = []
        for axis, (inner, outer) in enumerate(((self.x.height, self.y.height), (self.x.width, self.y.width))):
            reach = (outer - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
            sides.append(max(0, reach - self.pads[axis] - inner))
        return (self.pads[0], self.pads[1], sides[0], sides[1])

    def tap_offsets(self) -> np.ndarray:
        """Elements of `x` from an output pixel's own input position to each tap, [taps] int64, row-major."""
        down = np.arange(self.kernel[0]) * self.dilations[0] - self.pads[0]
        right = np.arange(self.kernel[1]) * self.dilations[1] - self.pads[1]
        return np.add.outer(down * self.x.row_stride, right * self.x.pixel_stride).ravel()

    @cached_property
    def grid(self) -> tuple[Axis, Axis, Axis]:
        """The output pixels as at most three axes, outermost first: axes that run on in memory are one."""
        views = [self.y, *(step.view for step in self.epilogue if isinstance(step, Residual))]
        x, y = self.x, self.y
        axes = [
            Axis(y.batch, x.batch_stride, tuple(v.batch_stride for v in views)),
            Axis(y.height, x.row_stride * self.strides[0], tuple(v.row_stride for v in views)),
            Axis(y.width, x.pixel_stride * self.strides[1], tuple(v.pixel_stride for v in views)),
        ]
        return _merged(axes)


@dataclass(frozen=True)
class Axis:
    """`count` output pixels in a line: elements from one to the next in the input, and in output and residuals."""

    count: int
    input_step: int
    output_steps: tuple[int, ...]

    def runs_on_into(self, inner: Axis) -> bool:
        """Whether a step along this axis is `inner.count` steps along `inner`, in every tensor."""
        mine = (self.input_step, *self.output_steps)
        return mine == tuple(step * inner.count for step in (inner.input_step, *inner.output_steps))


def _merged(axes: list[Axis]) -> tuple[Axis, Axis, Axis]:
    kept: list[Axis] = []
    for axis in axes:
        if axis.count == 1:
            continue
        if kept and kept[-1].runs_on_into(axis):
            axis = Axis(kept.pop().count * axis.count, axis.input_step, axis.output_steps)
        kept.append(axis)
    single = Axis(1, 0, tuple(0 for _ in axes[0].output_steps))
    first, second, third = [single] * (3 - len(kept)) + kept
    return first, second, third
