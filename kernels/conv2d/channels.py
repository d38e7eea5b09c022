"""Convolution with vectors along output channels: dense, or as sparse as the weights are in blocks of channels."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.conv2d.channels_cost import estimate, part_cost, variant_cost
from edgeprune.kernels.conv2d.channels_packing import entry_offsets, kept_entries, pack
from edgeprune.kernels.conv2d.channels_template import channels_function, unit_count
from edgeprune.kernels.conv2d.channels_variant import Part, Variant, entry_inputs, tilings
from edgeprune.kernels.conv2d.problem import LONGEST_SUM, Conv2d
from edgeprune.kernels.conv2d.shares import Channels, channel_splits
from edgeprune.kernels.conv2d.winograd import build_winograd
from edgeprune.kernels.conv2d.winograd_variant import cheapest as cheapest_winograd
from edgeprune.kernels.conv2d.winograd_variant import fits
from edgeprune.kernels.vector_math import HALF

__all__ = ["build_channels", "build_variant", "choose", "estimate", "estimate_channels", "variants"]

_WORTH = 0.9
"""What Winograd's transform must save of the cycles: its weights take 16 / 9 of the memory."""


def build_channels(
    problem: Conv2d,
    weights: np.ndarray,
    bias: np.ndarray | None,
    machine: Machine,
    channel_offsets: np.ndarray | None = None,
) -> Kernel:
    """The kernel of `problem` in the variant the cost model likes best.

    `weights` is float32 [groups, taps, in, out], zeros where pruned; `bias` float32 [groups*out] where the problem
    has one; both are packed in the type it computes in. `channel_offsets` int32 [channels] gives each input channel's
    place, in elements from channel 0 of x, where that is not `channel_stride` times its number: gathers and shuffles of
    channels cost nothing here.
    """
    inputs = entry_inputs(problem, machine) if channel_offsets is None else (1,)
    cycles, variant = _cheapest(problem, weights, machine, inputs)
    if channel_offsets is None and fits(problem, machine):
        fewer, shape = cheapest_winograd(problem, machine)
        if fewer < _WORTH * cycles:
            return build_winograd(problem, weights, bias, shape, fewer)
    return replace(build_variant(problem, weights, bias, variant, channel_offsets), cycles=cycles)


def build_variant(
    problem: Conv2d,
    weights: np.ndarray,
    bias: np.ndarray | None,
    variant: Variant,
    channel_offsets: np.ndarray | None = None,
) -> Kernel:
    """The kernel of `problem` in the given variant; other arguments as of `build_channels`."""
    packed = pack(problem, variant, weights, bias, entry_offsets(problem, channel_offsets))
    bounded = problem.real == HALF and packed.longest > LONGEST_SUM
    return Kernel(
        func=channels_function(problem, variant, LONGEST_SUM if bounded else 0),
        units=unit_count(problem, variant),
        constants=packed.constants,
        label=f"conv2d channels {variant}",
        macs=packed.macs_per_pixel * problem.pixels,
        dense_macs=problem.dense_macs,
    )


def variants(problem: Conv2d, machine: Machine) -> list[Variant]:
    """Every variant that fits the machine's registers, for a search to try; a rest of channels takes its best tile."""
    found = []
    splits = channel_splits(problem.group_outputs, machine.lanes_of(problem.x.format))
    for split, inputs in product(splits, entry_inputs(problem, machine)):
        dense = [np.full((problem.groups, s.blocks), problem.taps * problem.group_inputs // inputs) for s in split]
        ranked = [_ranked(problem, share, kept, machine, inputs) for share, kept in zip(split, dense, strict=True)]
        for parts, block_outer in product(product(ranked[0], *(r[:1] for r in ranked[1:])), (False, True)):
            found.append(Variant(tuple(parts), block_outer))
    return found


def choose(problem: Conv2d, weights: np.ndarray, machine: Machine) -> Variant:
    """The variant with the lowest estimate for these weights."""
    return _cheapest(problem, weights, machine, entry_inputs(problem, machine))[1]


def estimate_channels(problem: Conv2d, weights: np.ndarray, machine: Machine) -> float:
    """Cycles of one run of the best variant on one core; `weights` is [groups, taps, in, out]."""
    cycles = _cheapest(problem, weights, machine, entry_inputs(problem, machine))[0]
    fewer = cheapest_winograd(problem, machine)[0] if fits(problem, machine) else cycles
    return fewer if fewer < _WORTH * cycles else cycles


def _cheapest(problem: Conv2d, weights: np.ndarray, machine: Machine, runs: tuple[int, ...]) -> tuple[float, Variant]:
    found: list[tuple[float, Variant]] = []
    for split, inputs in product(channel_splits(problem.group_outputs, machine.lanes_of(problem.x.format)), runs):
        kept = [kept_entries(weights, share, inputs) for share in split]
        parts = tuple(_ranked(problem, s, k, machine, inputs)[0] for s, k in zip(split, kept, strict=True))
        for variant in (Variant(parts, block_outer=False), Variant(parts, block_outer=True)):
            found.append((variant_cost(problem, variant, kept, machine), variant))
    return min(found, key=lambda pair: pair[0])


def _ranked(problem: Conv2d, share: Channels, kept: np.ndarray, machine: Machine, inputs: int) -> list[Part]:
    parts = tilings(problem, share, float(kept.mean()), machine, inputs)
    return sorted(parts, key=lambda part: part_cost(problem, part, kept, machine))
