"""Integer convolution and linear layers: dense, or as sparse as the weights are in blocks of channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shares import Channels, channel_splits
from edgeprune.kernels.integer.cost import part_cost, variant_cost
from edgeprune.kernels.integer.dot import idiom_of
from edgeprune.kernels.integer.entries import Rows, block_rows, entry_counts, group_rows
from edgeprune.kernels.integer.kinds import common_kinds, counts_by_kind, known_kinds
from edgeprune.kernels.integer.packing import pack
from edgeprune.kernels.integer.template import integer_function
from edgeprune.kernels.integer.variant import Part, Variant, tilings
from edgeprune.kernels.integer.walk import unit_count

_SCATTERED = 0.6
_NARROWEST = 4
"""Lanes of the narrowest vector of sums."""

SLACK_BYTES = 64
"""How far beyond the last element of x a kernel may read; what lies there does not matter."""


def build_integer(
    problem: Conv2d,
    weights: np.ndarray,
    scales: np.ndarray,
    bias: np.ndarray | None,
    machine: Machine,
    channel_offsets: np.ndarray | None = None,
) -> Kernel:
    """The kernel of `problem` in the variant the cost model likes best.

    x is stored as int16 or uint8, as `machine.dot` wants it. `weights` is int16 [groups, taps, in, out] of values in
    -255..255, zeros where pruned; `scales` float32 [groups*out] is what the int32 sums are multiplied by; `bias` int32
    [groups*out] where the problem has one. `channel_offsets` int32 [channels] gives each input channel's place, in
    elements from channel 0 of x, where that is not `channel_stride` times its number.
    """
    cycles, variant = _cheapest(problem, weights, machine, channel_offsets)
    return replace(build_variant(problem, weights, scales, bias, variant, channel_offsets), cycles=cycles)


def build_variant(
    problem: Conv2d,
    weights: np.ndarray,
    scales: np.ndarray,
    bias: np.ndarray | None,
    variant: Variant,
    channel_offsets: np.ndarray | None = None,
) -> Kernel:
    """The kernel of `problem` in the given variant; other arguments as of `build_integer`."""
    packed = pack(problem, variant, weights, scales, bias, channel_offsets)
    return Kernel(
        func=integer_function(problem, variant, packed.layout),
        units=unit_count(problem, variant),
        constants=packed.constants,
        label=f"integer {variant.dot} {variant}",
        macs=packed.macs_per_pixel * problem.pixels,
        dense_macs=problem.dense_macs,
    )


def estimate_integer(problem: Conv2d, weights: np.ndarray, machine: Machine) -> float:
    """Cycles of one run of the best variant on one core; `weights` is [groups, taps, in, out]."""
    return _cheapest(problem, weights, machine, None)[0]


def choose(problem: Conv2d, weights: np.ndarray, machine: Machine) -> Variant:
    """The variant with the lowest estimate for these weights."""
    return _cheapest(problem, weights, machine, None)[1]


def estimate_variant(problem: Conv2d, weights: np.ndarray, variant: Variant, machine: Machine) -> float:
    """Cycles of one run of `variant` on one core."""
    rows, idiom = group_rows(problem, weights, None), idiom_of(machine)
    return variant_cost(
        problem,
        variant,
        [
            counts_by_kind(
                entry_counts(rows, part.share, part.mode, idiom),
                known_kinds(part.share.valid, part.mode, idiom),
                part.kinds,
            )
            for part in variant.parts
        ],
        machine,
    )


def variants(problem: Conv2d, weights: np.ndarray, machine: Machine) -> list[Variant]:
    """Every variant that fits the machine's registers, for a search to try; a rest of channels takes its best tile."""
    found = []
    rows = group_rows(problem, weights, None)
    for split, modes in _choices(problem, rows, machine):
        ranked = [[part for part, _ in _ranked(problem, share, rows, modes, machine)] for share in split]
        for parts, block_outer in product(product(ranked[0], *(r[:1] for r in ranked[1:])), (False, True)):
            found.append(Variant(tuple(parts), block_outer, machine.dot))
    return found


def _cheapest(
    problem: Conv2d, weights: np.ndarray, machine: Machine, channel_offsets: np.ndarray | None
) -> tuple[float, Variant]:
    found: list[tuple[float, Variant]] = []
    rows = group_rows(problem, weights, channel_offsets)
    for split, modes in _choices(problem, rows, machine):
        best = [_ranked(problem, share, rows, modes, machine)[0] for share in split]
        for block_outer in (False, True):
            variant = Variant(tuple(part for part, _ in best), block_outer, machine.dot)
            found.append((variant_cost(problem, variant, [entries for _, entries in best], machine), variant))
    return min(found, key=lambda pair: pair[0])


def _choices(
    problem: Conv2d, rows: list[Rows], machine: Machine
) -> Iterator[tuple[tuple[Channels, ...], tuple[str, ...]]]:
    """The ways to cut the output channels, each with the modes that its parts may mix."""
    known = idiom_of(machine).modes
    for split in channel_splits(problem.group_outputs, machine.lanes, _NARROWEST):
        yield split, tuple(mode for mode in known if mode != "lanes")
        if "lanes" in known and _scattered(rows, split):
            yield split, ("lanes",)


def _ranked(
    problem: Conv2d, share: Channels, rows: list[Rows], modes: tuple[str, ...], machine: Machine
) -> list[tuple[Part, np.ndarray]]:
    """The parts that can do `share`, cheapest first, each with the entries of its blocks."""
    idiom = idiom_of(machine)
    found = []
    for mode in modes:
        entries = entry_counts(rows, share, mode, idiom)
        known = known_kinds(share.valid, mode, idiom)
        kinds = common_kinds(entries, known)
        if mode == "pairs" and len(kinds) == 1:
            continue
        average, kept = float(entries.sum(2).mean()), counts_by_kind(entries, known, kinds)
        found += [(part, kept) for part in tilings(problem, share, average, mode, kinds, machine)]
    return sorted(found, key=lambda pair: part_cost(problem, pair[0], pair[1], machine))


def _scattered(rows: list[Rows], split: tuple[Channels, ...]) -> bool:
    """Whether the rows that blocks keep are empty enough for lanes to choose their own elements."""
    if any(len(share.vectors) > 1 for share in split):
        return False
    blocks = [block for share in split for group in rows for block in block_rows(group, share)]
    size = sum(block.values.size for block in blocks)
    return sum(int(np.count_nonzero(block.values)) for block in blocks) < _SCATTERED * size
