"""What a fixed-point depthwise convolution gives, in numpy."""

from __future__ import annotations

import numpy as np

from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.fixed_point.arithmetic import Requantize


def fixed_depthwise(
    problem: Depthwise, x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None, requantize: Requantize
) -> np.ndarray:
    """int8 [batch, height, width, channels] of `problem` from int8 `x` of the same layout, weights [channels, taps]."""
    y, (rows, columns), (top, left) = problem.y, problem.kernel, problem.pads
    down, right = problem.strides
    below = (y.height - 1) * down + (rows - 1) * problem.dilations[0] + 1
    beside = (y.width - 1) * right + (columns - 1) * problem.dilations[1] + 1
    around = ((0, 0), (top, max(0, below - top - x.shape[1])), (left, max(0, beside - left - x.shape[2])), (0, 0))
    padded = np.pad(x.astype(np.int64) - problem.x.format.zero, around)
    sums = np.zeros((y.batch, y.height, y.width, y.channels), np.int64)
    sums += 0 if bias is None else bias
    for row in range(rows):
        for column in range(columns):
            first = (row * problem.dilations[0], column * problem.dilations[1])
            seen = padded[:, first[0] :: down, first[1] :: right][:, : y.height, : y.width]
            sums += seen * weights[:, row * columns + column].astype(np.int64)
    return requantize.apply(sums.astype(np.int32))
