"""Convolution with vectors along pixels: any zero pattern of the weights is time saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.conv2d.channels_packing import entry_offsets
from edgeprune.kernels.conv2d.pixels_packing import pack_entries, pack_together
from edgeprune.kernels.conv2d.pixels_template import pixels_function, unit_count
from edgeprune.kernels.conv2d.pixels_together import reach
from edgeprune.kernels.conv2d.pixels_variant import Variant, cheapest, loop_of
from edgeprune.kernels.conv2d.problem import LONGEST_SUM, Conv2d
from edgeprune.kernels.conv2d.shifted import Shifted, copy_cycles, shifted
from edgeprune.kernels.vector_math import HALF


def build_pixels(
    problem: Conv2d,
    weights: np.ndarray,
    bias: np.ndarray | None,
    machine: Machine,
    channel_offsets: np.ndarray | None = None,
) -> Kernel:
    """The kernel of `problem` in the variant the cost model likes best.

    Images are planar. `weights` is float32 [groups, taps, in, out], zeros where pruned; `bias` float32 [groups*out]
    where the problem has one. `channel_offsets` int32 [channels] gives each input channel's place, in elements
    from channel 0 of x, where that is not `channel_stride` times its number. Residuals do not overlap `y`: pixels
    where tiles meet are computed twice.

    It is fastest where few vectors straddle cache lines: in a buffer that begins on one, the row stride of an image
    with a halo, or the channel stride of one without, is best a multiple of the lanes.
    """
    cycles, variant = cheapest(problem, weights, machine)
    return replace(build_variant(problem, weights, bias, variant, channel_offsets), cycles=cycles)


def build_variant(
    problem: Conv2d,
    weights: np.ndarray,
    bias: np.ndarray | None,
    variant: Variant,
    channel_offsets: np.ndarray | None = None,
) -> Kernel:
    """The kernel of `problem` in the given variant; other arguments as of `build_pixels`."""
    offsets = entry_offsets(problem, channel_offsets)
    packed: tuple[np.ndarray, ...]
    bound = 0
    if variant.together:
        packed = pack_together(weights, bias, offsets, loop_of(problem, variant), reach(problem, variant))
    else:
        values, places, table = pack_entries(weights, offsets, variant.block)
        longest = int(np.diff(table).max(initial=0))
        bound = LONGEST_SUM if problem.real == HALF and longest > LONGEST_SUM else 0
        packed = (values.astype(problem.real), places, table, *_own(bias, problem.real))
    return Kernel(
        func=pixels_function(problem, variant, bound),
        units=unit_count(problem, variant),
        constants=packed,
        label=f"conv2d pixels {variant}",
        macs=int(np.count_nonzero(weights)) * problem.pixels,
        dense_macs=problem.dense_macs,
    )


def _own(bias: np.ndarray | None, dtype: str) -> tuple[np.ndarray, ...]:
    return () if bias is None else (np.array(bias, dtype, order="C"),)


def estimate_pixels(problem: Conv2d, weights: np.ndarray, machine: Machine) -> float:
    """Cycles of one run of the best variant on one core, copies included; `weights` is [groups, taps, in, out]."""
    return _cheapest_copies(problem, weights, machine)[0]


def choose_copies(problem: Conv2d, weights: np.ndarray, machine: Machine) -> Shifted | None:
    """The copies of its image from which `problem` is fastest, if any are worth their making."""
    return _cheapest_copies(problem, weights, machine)[1]


def _cheapest_copies(problem: Conv2d, weights: np.ndarray, machine: Machine) -> tuple[float, Shifted | None]:
    straight, way = cheapest(problem, weights, machine)[0], shifted(problem, machine)
    if way is None:
        return straight, None
    cycles = cheapest(way.problem, way.weights(weights), machine)[0] + copy_cycles(way, machine)
    return (cycles, way) if cycles < straight else (straight, None)
