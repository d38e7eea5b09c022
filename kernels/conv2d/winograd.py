"""Dense 3x3 convolution in fewer multiplications: F(2x2, 3x3) of Lavin and Gray, Fast Algorithms for Convolutional
Neural Networks, CVPR 2016."""

from __future__ import annotations

import numpy as np

from edgeprune.kernels.abi import Kernel
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.winograd_template import unit_count, winograd_function
from edgeprune.kernels.conv2d.winograd_variant import POSITIONS, Variant

_KERNEL_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def transformed(weights: np.ndarray, width: int, dtype: str = "float32") -> np.ndarray:
    """`weights` [1, 9, in, out] as the products read them: flat [16, blocks, in, `width`], of `dtype`."""
    _, _, inputs, outputs = weights.shape
    taps = weights.reshape(3, 3, inputs, outputs).astype(np.float64)
    tiles = np.einsum("pi,qj,ijco->pqco", _KERNEL_TRANSFORM, _KERNEL_TRANSFORM, taps)
    blocks = tiles.reshape(POSITIONS, inputs, outputs // width, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(blocks, dtype).ravel()


def build_winograd(
    problem: Conv2d, weights: np.ndarray, bias: np.ndarray | None, variant: Variant, cycles: float = 0.0
) -> Kernel:
    """The kernel of `problem` in the given variant; `winograd_variant.fits` holds. Arguments as of `build_channels`."""
    constants = (transformed(weights, variant.lanes * variant.vectors, problem.real),)
    return Kernel(
        func=winograd_function(problem, variant),
        units=unit_count(problem, variant),
        constants=constants if bias is None else (*constants, np.array(bias, problem.real)),
        label=f"conv2d winograd {variant}",
        macs=int(np.count_nonzero(weights)) * problem.pixels,
        dense_macs=problem.dense_macs,
        cycles=cycles,
    )
