"""Integer convolution in plain numpy, from the definitions of ONNX QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.reference import convolve
from edgeprune.kernels.epilogue import reference_epilogue
from edgeprune.kernels.storage import written_array


def convolve_integer(
    problem: Conv2d,
    x: np.ndarray,
    weights: np.ndarray,
    scales: np.ndarray,
    bias: np.ndarray | None,
    residual_values: Sequence[np.ndarray] = (),
    fused: bool = True,
) -> np.ndarray:
    """What the output of `problem` holds, in the dtype of its format.

    `x` [batch, channels, height, width] and `residual_values`, of the output's shape, are as stored; `weights` is
    [groups, taps, in, out], `scales` and `bias` [groups*out]. `fused`: a residual is scaled and added with one
    rounding.
    """
    centred = x.astype(np.int64) - problem.x.format.zero
    sums = convolve(
        centred,
        weights,
        bias,
        kernel=problem.kernel,
        strides=problem.strides,
        dilations=problem.dilations,
        pads=problem.pads,
        size=(problem.y.height, problem.y.width),
    )
    value = sums.astype(np.int32).astype(np.float32) * scales.astype(np.float32)[None, :, None, None]
    return written_array(reference_epilogue(problem.epilogue, value, residual_values, fused), problem.y.format)
