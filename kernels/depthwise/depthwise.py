"""Depthwise convolution: the kernel for a problem, whichever of the two layouts its images have."""

from __future__ import annotations

import numpy as np

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.depthwise.channels import channels_function, pack_channels, tile_pixels
from edgeprune.kernels.depthwise.planar import planar_function, tile_rows
from edgeprune.kernels.depthwise.problem import Depthwise

__all__ = ["Depthwise", "build_depthwise"]


def build_depthwise(problem: Depthwise, weights: np.ndarray, bias: np.ndarray | None, machine: Machine) -> Kernel:
    """The kernel of `problem` with float32 `weights` [C, taps] and `bias` [C].

    Raises ValueError where the views are neither both channels-last nor both planar.
    """
    x, y = problem.x, problem.y
    if x.channel_stride == y.channel_stride == 1:
        func = channels_function(problem, machine.lanes, tile_pixels(problem, machine.registers))
        packed, units, label = pack_channels(weights, machine.lanes), y.batch * y.height, "depthwise channels"
    elif x.pixel_stride == y.pixel_stride == 1:
        func = planar_function(problem, machine.lanes, tile_rows(problem, machine.registers))
        packed, units, label = np.array(weights, np.float32, order="C"), y.batch * y.channels, "depthwise planar"
    else:
        raise ValueError("a depthwise convolution needs two channels-last or two planar images")
    macs = y.batch * y.channels * y.height * y.width * problem.taps
    constants = (packed,) if bias is None else (packed, np.array(bias, np.float32, order="C"))
    return Kernel(func, units, constants, label, macs, macs)
