"""int8 convolution and linear layers in integers alone: dense, or as sparse as the weights are in blocks of four."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import replace

import numpy as np

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.gather import Gather
from edgeprune.kernels.fixed_point.gather_lines import Lines
from edgeprune.kernels.fixed_point.pack_product import Sums, pack_stream, rescale
from edgeprune.kernels.fixed_point.product_assembly import Channels, Clip
from edgeprune.kernels.fixed_point.product_choice import Choice, cheapest
from edgeprune.kernels.fixed_point.product_loop import BLOCK, Loop
from edgeprune.kernels.fixed_point.product_mve import build_vector_product, estimate_vector_product, vectors_possible
from edgeprune.kernels.fixed_point.product_overlap import product_overlap
from edgeprune.kernels.fixed_point.product_plain import (
    PLAIN_AT_ONCE,
    Plain,
    pack_plain,
    plain_function,
    plain_instructions,
)
from edgeprune.kernels.fixed_point.product_shared import Kind, kind_and_sizes, shareable, shared_function
from edgeprune.kernels.fixed_point.product_template import product_function
from edgeprune.kernels.fixed_point.product_variant import (
    channels_of,
    instructions,
    kept_blocks,
    loops,
    stream_bytes,
    tile_count,
)
from edgeprune.kernels.fixed_point.wide_weights import repeated_blocks, within_int8

_PAIRED, _VECTORS = ("smlad", "mve"), "mve"
SHARED_TURNS = (1, 2, 4)
"""Blocks in a turn of shared code that skips none, few so that it is shared."""


def build_fixed_product(
    problem: Conv2d,
    weights: np.ndarray,
    bias: np.ndarray | None,
    requantize: Requantize,
    machine: Machine,
    known: set[Hashable] | None = None,
) -> Kernel:
    """The kernel of `problem`, channels last and dense, without a border around x: what lies outside is x's zero.

    `weights` are integers [groups, taps, in, out], zeros where pruned, of which those beyond int8 are best few; `bias`
    int32 [groups*out]. A unit is a tile of output pixels. `known` are the kinds of shared code that a program has
    already; that of this kernel joins them. Raises ValueError where a view is not channels-last and dense, or a bias
    leaves int32.
    """
    known = set() if known is None else known
    _check(problem)
    problem, weights = within_int8(problem, weights)
    if machine.dot == _VECTORS and vectors_possible(problem, weights, bias, requantize):
        return build_vector_product(problem, weights, bias, requantize, known=known)
    packed = Sums.of(problem, weights, bias).packable
    if machine.dot not in _PAIRED or not rescale(requantize, packed).possible:
        return build_plain(problem, weights, bias, requantize)
    _, tile, shared = choose(problem, weights, packed, requantize, known)
    if shared:
        known.add(Kind.of(problem, tile))
    return _build_tile(problem, weights, bias, requantize, tile, shared)


def build_plain(problem: Conv2d, weights: np.ndarray, bias: np.ndarray | None, requantize: Requantize) -> Kernel:
    """The kernel of `problem` one multiplication at a time; arguments as of `build_fixed_product`."""
    sums, channels = Sums.of(problem, weights, bias), min(PLAIN_AT_ONCE, problem.group_outputs)
    kept, wide = kept_blocks(weights, channels), not rescale(requantize, packed=False).possible
    plain = Plain(problem, not kept.all(), wide, requantize.zero, requantize.low, requantize.high)
    return Kernel(
        func=plain_function(plain),
        units=tile_count(problem, plain.pixels),
        constants=pack_plain(plain, sums, requantize),
        label="fixed product plain" + (" sparse" if plain.sparse else ""),
        macs=_macs(problem, kept, channels),
        dense_macs=problem.dense_macs,
        cycles=plain_instructions(problem, kept, channels),
        scratch_bytes=plain.scratch_bytes,
        overlaps=(product_overlap(problem, plain.pixels, plain.early),),
    )


def build_loop(
    problem: Conv2d,
    weights: np.ndarray,
    bias: np.ndarray | None,
    requantize: Requantize,
    loop: Loop,
    shared: bool = False,
) -> Kernel:
    """The kernel of `problem` with the given loop, its code `shared` by other problems or its own.

    Other arguments as of `build_fixed_product`.
    """
    tile = channels_of(problem, loop, _clip(requantize, loop.packed), shared)
    return _build_tile(problem, weights, bias, requantize, tile, shared)


def _build_tile(
    problem: Conv2d,
    weights: np.ndarray,
    bias: np.ndarray | None,
    requantize: Requantize,
    tile: Channels,
    shared: bool,
) -> Kernel:
    loop = tile.loop
    kept, unit = kept_blocks(weights, loop.channels), problem.y.width if loop.line else loop.pixels
    gather = Lines(problem, loop.packed) if loop.line else Gather(problem, loop.pixels, loop.packed)
    stream, begins = pack_stream(problem, Sums.of(problem, weights, bias), requantize, tile)
    if shared:
        kind, sizes = kind_and_sizes(problem, tile, requantize.zero, begins)
        func = shared_function(kind)
    else:
        func, sizes = product_function(problem, tile), np.append(begins, np.int32(2 * requantize.zero + 1))
    return Kernel(
        func=func,
        units=tile_count(problem, unit),
        constants=(stream, sizes),
        label=f"fixed product {loop}" + (" shared" if shared else ""),
        macs=_macs(problem, kept, loop.channels) if loop.sparse else problem.dense_macs,
        dense_macs=problem.dense_macs,
        cycles=instructions(problem, kept, tile),
        scratch_bytes=gather.tile_bytes if shared and isinstance(gather, Gather) else gather.scratch_bytes,
        overlaps=(product_overlap(problem, unit),),
    )


def estimate_fixed_product(problem: Conv2d, weights: np.ndarray, machine: Machine) -> float:
    """Instructions of one run of the best variant; `weights` as of `build_fixed_product`."""
    problem, weights = within_int8(problem, weights)
    if machine.dot == _VECTORS and not repeated_blocks(problem):
        return estimate_vector_product(problem, weights)
    if machine.dot not in _PAIRED:
        channels = min(PLAIN_AT_ONCE, problem.group_outputs)
        return plain_instructions(problem, kept_blocks(weights, channels), channels)
    return choose(problem, weights, True, None)[0]


def choose(
    problem: Conv2d,
    weights: np.ndarray,
    packed: bool,
    requantize: Requantize | None,
    known: Collection[Hashable] = (),
) -> tuple[float, Channels, bool]:
    """Instructions of one run with the tile for these weights, that tile, and whether its code is shared.

    Code of its own must be worth its bytes, and so must code of another kind than the `known` ones. Without
    `requantize` a usual one is meant.
    """
    kept = {channels: kept_blocks(weights, channels) for channels in (1, 2, 4) if channels <= problem.group_outputs}
    clip = Clip(None, -128, 127) if requantize is None else _clip(requantize, packed)
    found = []
    for loop in loops(problem, packed):
        common_turn = loop.sparse or loop.turn in SHARED_TURNS
        shared = loop.line is None and common_turn and shareable(problem)
        tile, of_loop = channels_of(problem, loop, clip, shared), kept[loop.channels]
        if shared:
            tile = _as_known(problem, tile, known)
        if tile.reachable:
            cost = instructions(problem, of_loop, tile)
            size, here = stream_bytes(problem, of_loop, tile), shared and Kind.of(problem, tile) in known
            found.append(Choice(cost, size, tile, shared, here))
    best = cheapest(found)
    return best.instructions, best.way, best.shared


def _as_known(problem: Conv2d, tile: Channels, known: Collection[Hashable]) -> Channels:
    """`tile`, as one for any number of channels where only code for that is `known`."""
    ragged = replace(tile, ragged=True)
    only = Kind.of(problem, tile) not in known and Kind.of(problem, ragged) in known
    return ragged if only else tile


def _macs(problem: Conv2d, kept: np.ndarray, channels: int) -> int:
    return min(int(kept.sum()) * channels * BLOCK * problem.pixels, problem.dense_macs)


def _clip(requantize: Requantize, packed: bool) -> Clip:
    folded = rescale(requantize, packed).folded
    return Clip(None if folded else requantize.zero, requantize.low, requantize.high)


def _check(problem: Conv2d) -> None:
    for view in (problem.x, problem.y):
        dense = view.row_stride == view.width * view.pixel_stride and view.batch_stride == view.height * view.row_stride
        if view.channel_stride != 1 or (view.height > 1 and not dense):
            raise ValueError("an int8 product needs images that are channels-last and dense")
