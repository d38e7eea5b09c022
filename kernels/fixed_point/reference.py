"""int8 products by numpy, as the TFLite 8-bit specification defines them."""

from __future__ import annotations

import numpy as np

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.arithmetic import Requantize


def product_reference(
    problem: Conv2d, x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None, requantize: Requantize
) -> np.ndarray:
    """int8 [batch, height, width, channels] of int8 `x` of that layout; `weights` is int8 [groups, taps, in, out]."""
    top, left, bottom, right = problem.halo()
    real = np.pad(x.astype(np.int64) - problem.x.format.zero, ((0, 0), (top, bottom), (left, right), (0, 0)))
    y = problem.y
    sums = np.zeros((y.batch, y.height, y.width, problem.groups, problem.group_outputs), np.int64)
    for tap in range(problem.taps):
        down, right_of = divmod(tap, problem.kernel[1])
        seen = real[
            :,
            down * problem.dilations[0] :: problem.strides[0],
            right_of * problem.dilations[1] :: problem.strides[1],
        ][:, : y.height, : y.width]
        apart = seen.reshape(*seen.shape[:3], problem.groups, problem.group_inputs)
        sums += np.einsum("nyxgi,gio->nyxgo", apart, weights[:, tap].astype(np.int64))
    flat = sums.reshape(y.batch, y.height, y.width, y.channels) + (0 if bias is None else bias.astype(np.int64))
    return requantize.apply(flat.astype(np.int32))
