"""Pooling: the kernel for a problem, whichever of the two layouts its images have."""

from __future__ import annotations

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.pool.channels import channels_function
from edgeprune.kernels.pool.planar import planar_function
from edgeprune.kernels.pool.problem import Pool
from edgeprune.kernels.pool.whole import covers_image, whole_function

__all__ = ["Pool", "build_pool"]


def build_pool(problem: Pool, machine: Machine) -> Kernel:
    """The kernel of `problem`.

    Raises ValueError where the views are neither both channels-last nor both planar.
    """
    x, y = problem.x, problem.y
    label = f"{problem.kind} pool"
    if x.channel_stride == y.channel_stride == 1:
        func = channels_function(problem, machine.lanes, machine.registers)
        return Kernel(func, y.batch * y.height, label=f"{label} channels")
    if x.pixel_stride != 1 or (y.pixel_stride != 1 and y.width > 1):
        raise ValueError("a pooling needs two channels-last or two planar images")
    if covers_image(problem):
        return Kernel(whole_function(problem, machine.lanes), y.batch * y.channels, label=f"{label} whole")
    return Kernel(planar_function(problem, machine.lanes), y.batch * y.channels, label=f"{label} planar")
