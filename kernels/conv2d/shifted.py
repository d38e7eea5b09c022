"""Planar images that are read in strides, copied once for every column of a kernel: its vectors are whole ones then.

After Cho and Brand, MEC: Memory-efficient Convolution for Deep Neural Networks, ICML 2017, with vectors along pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeprune.kernels.abi import FLOAT32, Machine
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.elementwise.move import Move

_PLANE_MULTIPLE, _LANES = 16, 8
_VECTOR, _ROW = 4.0, 3.0
"""Cycles to copy a vector, and what a row costs besides."""


@dataclass(frozen=True)
class Shifted:
    """A convolution over copies of the image that another one reads.

    `problem` is that over the copies, whose channels are (channel, column of the kernel) with the latter innermost;
    `move` writes them, and they take `elements`.
    """

    problem: Conv2d
    move: Move
    elements: int

    def weights(self, weights: np.ndarray) -> np.ndarray:
        """`weights` [groups, taps, in, out] of the original problem, for `problem`."""
        groups, taps, inputs, outputs = weights.shape
        columns = self.move.y.batch
        apart = weights.reshape(groups, taps // columns, columns, inputs, outputs)
        return np.ascontiguousarray(apart.swapaxes(2, 3)).reshape(groups, -1, inputs * columns, outputs)


def shifted(problem: Conv2d, machine: Machine) -> Shifted | None:
    """The copies of what `problem` reads; None where it is read in no strides, or is more than one image.

    There are none either where vectors are short: what they would save is little.
    """
    if problem.strides[1] == 1 or problem.x.batch != 1 or problem.x.format != FLOAT32 or machine.lanes < _LANES:
        return None
    (rows, columns), down, x = problem.kernel, problem.strides[0], problem.x
    width = problem.y.width
    row = width + -width % (1 << (min(machine.lanes, width).bit_length() - 1))
    height = (problem.y.height - 1) * down + (rows - 1) * problem.dilations[0] + 1
    plane = height * row
    plane += -plane % _PLANE_MULTIPLE
    source = replace(
        x,
        batch=columns,
        height=height,
        width=width,
        offset=x.offset - problem.pads[0] * x.row_stride - problem.pads[1] * x.pixel_stride,
        batch_stride=problem.dilations[1] * x.pixel_stride,
        pixel_stride=x.pixel_stride * problem.strides[1],
    )
    target = replace(
        source,
        offset=0,
        batch_stride=plane,
        channel_stride=columns * plane,
        row_stride=row,
        pixel_stride=1,
    )
    channels = x.channels * columns
    image = replace(target, batch=1, channels=channels, batch_stride=channels * plane, channel_stride=plane)
    over = replace(
        problem,
        x=image,
        kernel=(rows, 1),
        strides=(down, 1),
        dilations=(problem.dilations[0], 1),
        pads=(0, 0),
    )
    return Shifted(over, Move(source, target), channels * plane)


def copy_cycles(way: Shifted, machine: Machine) -> float:
    """Cycles to write the copies on one core."""
    image = way.problem.x
    return image.channels * image.height * (-(-image.width // machine.lanes) * _VECTOR + _ROW)
