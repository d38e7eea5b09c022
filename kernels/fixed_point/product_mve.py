"""int8 convolution and linear layers on cores with Helium: sixteen products an instruction, blocks of zeros skipped."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.abi import Kernel
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.gather import rolled
from edgeprune.kernels.fixed_point.gather_mve import VectorGather
from edgeprune.kernels.fixed_point.pack_product import Rescale, Sums, rescale
from edgeprune.kernels.fixed_point.product_choice import Choice, cheapest
from edgeprune.kernels.fixed_point.product_mve_assembly import BLOCK, Tile
from edgeprune.kernels.fixed_point.product_mve_shared import (
    VectorKind,
    shared_turn,
    shared_vector_function,
    vector_kind,
    vectors_shareable,
)
from edgeprune.kernels.fixed_point.product_overlap import product_overlap
from edgeprune.kernels.fixed_point.product_template import DTYPES, importing, tile_start
from edgeprune.kernels.fixed_point.product_variant import first_channels, tile_count
from edgeprune.kernels.fixed_point.wide_weights import repeated_blocks
from edgeprune.kernels.script import Memory, kernel_function, let, serial

TILES = ((2, 3), (3, 2), (2, 2), (6, 1), (1, 6), (4, 1), (1, 4), (2, 1), (1, 2), (1, 1))
"""Output channels times pixels, in registers at once."""

_TILE_SETUP = 30.0
_LARGEST_BYTE, _LARGEST_PLACE = 2**8 - 1, 2**16 - 1


def vectors_possible(problem: Conv2d, weights: np.ndarray, bias: np.ndarray | None, requantize: Requantize) -> bool:
    """Whether this family computes the layer: its sums leave the room that rounding by the high word needs, and no
    block of inputs comes twice."""
    if repeated_blocks(problem):
        return False
    sums = Sums.of(problem, weights, bias)
    reach = np.abs(sums.bias) + 128 * np.abs(weights.astype(np.int64)).sum(axis=(1, 2)).ravel()
    return int(reach.max(initial=0)) << _raised(requantize)[1] < 2**31


def _raised(requantize: Requantize) -> tuple[Rescale, int]:
    """The factors of sums that are raised by as many bits as rounding lacks, and these bits."""
    plain = rescale(requantize, packed=False)
    raised = max(0, 1 - int(plain.shifts.min(initial=1)))
    return Rescale(plain.values, plain.shifts + raised), raised


def build_vector_product(
    problem: Conv2d,
    weights: np.ndarray,
    bias: np.ndarray | None,
    requantize: Requantize,
    tile: Tile | None = None,
    known: set[Hashable] | None = None,
) -> Kernel:
    """The kernel of `problem`; arguments as of `build_fixed_product`. `tile` is the fastest unless given."""
    known = set() if known is None else known
    chosen = choose_tile(problem, weights, requantize, known)[1] if tile is None else tile
    gather = VectorGather(problem, chosen.pixels)
    if chosen.shared:
        known.add(VectorKind(chosen, gather.direct))
    stream, begins = _stream(problem, Sums.of(problem, weights, bias), requantize, chosen)
    if chosen.shared:
        kind, sizes = vector_kind(problem, chosen, requantize.zero, begins)
        func = shared_vector_function(kind)
    else:
        func, sizes = _function(problem, chosen), np.append(begins, np.int32(2 * requantize.zero + 1))
    kept = kept_vectors(problem, weights, chosen.channels, gather)
    macs = min(int(kept.sum()) * chosen.channels * BLOCK * problem.pixels, problem.dense_macs)
    done = "dense" if chosen.blocks is not None else "sparse"
    return Kernel(
        func=func,
        units=tile_count(problem, chosen.pixels),
        constants=(stream, sizes),
        label=f"fixed product vectors {chosen.channels}x{chosen.pixels} {done}" + (" shared" if chosen.shared else ""),
        macs=problem.dense_macs if chosen.blocks is not None else macs,
        dense_macs=problem.dense_macs,
        cycles=_instructions(problem, kept, chosen),
        scratch_bytes=max(4, gather.scratch_bytes),
        overlaps=(product_overlap(problem, chosen.pixels, _early(problem, chosen, gather)),),
    )


def estimate_vector_product(problem: Conv2d, weights: np.ndarray) -> float:
    """Instructions of one run of the best tile; `weights` as of `build_vector_product`."""
    return choose_tile(problem, weights, None)[0]


def choose_tile(
    problem: Conv2d, weights: np.ndarray, requantize: Requantize | None, known: Collection[Hashable] = ()
) -> tuple[float, Tile]:
    """The tile for these weights, and the instructions of one run with it; without `requantize` a usual one.

    Shared code of another kind than the `known` ones must be worth its bytes.
    """
    found = []
    for tile in tiles(problem, requantize):
        gather = VectorGather(problem, tile.pixels)
        kept = kept_vectors(problem, weights, tile.channels, gather)
        blocks = int(kept.sum()) if tile.blocks is None else kept.size
        size = tile.bytes_of(blocks, kept.shape[0] * kept.shape[1])
        here = tile.shared and VectorKind(tile, gather.direct) in known
        found.append(Choice(_instructions(problem, kept, tile), size, tile, tile.shared, here))
    best = cheapest(found)
    return best.instructions, best.way


def tiles(problem: Conv2d, requantize: Requantize | None) -> Iterator[Tile]:
    """Every tile that the problem's size allows, dense and sparse, with code of its own and shared."""
    zero, low, high, raised = None, -128, 127, 0
    if requantize is not None:
        factors, raised = _raised(requantize)
        zero, low, high = None if factors.folded else requantize.zero, requantize.low, requantize.high
    for channels, pixels in TILES:
        if channels > problem.group_outputs or pixels > problem.pixels:
            continue
        gather, ragged = VectorGather(problem, pixels), problem.group_outputs % channels > 0
        last = (gather.blocks - 1) * gather.block_step // BLOCK
        for stride in (problem.y.pixel_stride, None):
            if stride is None and not vectors_shareable(problem):
                continue
            turn = gather.blocks if stride is not None else shared_turn(gather.blocks)
            for blocks in (turn, None):
                tile = Tile(channels, pixels, blocks, gather.block_step, gather.pixel_step, stride,
                            zero, low, high, ragged, raised, blocks is None and last > _LARGEST_BYTE)  # fmt: skip
                if tile.possible and not (blocks is None and last > _LARGEST_PLACE):
                    yield tile


def kept_vectors(problem: Conv2d, weights: np.ndarray, channels: int, gather: VectorGather) -> np.ndarray:
    """Which vectors of each tile of channels hold anything: bool [groups, tiles, blocks]."""
    used = np.any(_vectors(weights, gather) != 0, axis=3)
    columns = first_channels(problem.group_outputs, channels)[:, None] + np.arange(channels)
    return np.any(used[:, columns], axis=2)


def _vectors(weights: np.ndarray, gather: VectorGather) -> np.ndarray:
    """int8 [groups, out, blocks, BLOCK] of weights [groups, taps, in, out], in the order of scratch."""
    groups, _, inputs, outputs = weights.shape
    if gather.alternating:
        weights = np.pad(weights, ((0, 0), (0, 0), (0, -inputs % BLOCK), (0, 0)))
    flat = weights.reshape(groups, -1, outputs).transpose(0, 2, 1)
    flat = np.pad(flat, ((0, 0), (0, 0), (0, -flat.shape[2] % BLOCK)))
    return np.ascontiguousarray(flat.reshape(groups, outputs, -1, BLOCK))


def _stream(problem: Conv2d, sums: Sums, requantize: Requantize, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """The stream of `Tile`, int32 [words], and where each group begins in it, int32 [groups + 1]."""
    gather = VectorGather(problem, tile.pixels)
    vectors = _vectors(sums.weights, gather)
    kept = kept_vectors(problem, sums.weights, tile.channels, gather)
    factors, starts = _raised(requantize)[0].factors(requantize.zero), sums.start(packed=False)
    firsts = first_channels(problem.group_outputs, tile.channels)
    steps = (np.append(np.diff(firsts), 0) - tile.moved).astype(np.int32)
    begins, out = [0], bytearray()
    for group, used in enumerate(kept):
        for first, own, step in zip(firsts, used, steps, strict=True):
            own_channels = group * problem.group_outputs + first + np.arange(tile.channels)
            blocks = np.flatnonzero(own) if tile.blocks is None else np.arange(len(own))
            out += starts[own_channels].tobytes()
            out += _places(blocks, tile) if tile.blocks is None else b""
            words = vectors[group, first : first + tile.channels].transpose(1, 0, 2)[blocks]
            out += words.tobytes() + _factors(factors[own_channels], tile) + (step.tobytes() if tile.ragged else b"")
        begins.append(len(out) // 4)
    return np.frombuffer(bytes(out), np.int32), np.array(begins, np.int32)


def _places(blocks: np.ndarray, tile: Tile) -> bytes:
    """How many blocks there are and the bytes of their places in one word, and these places, filled up to words."""
    places = (blocks * tile.block_step // BLOCK).astype("<u2" if tile.far else np.uint8).tobytes()
    filled = places.ljust(-(-len(places) // 4) * 4, b"\0")
    return np.array([len(blocks), len(filled)], "<u2").tobytes() + filled


def _factors(factors: np.ndarray, tile: Tile) -> bytes:
    """What sums are rescaled by; `factors` is int32 [channels, 3]: value, rounding, shift."""
    if not tile.brief:
        return factors.tobytes()
    out = b""
    for first in range(0, len(factors), 4):
        part = factors[first : first + 4]
        out += (part[:, 2] - 1).astype(np.uint8).tobytes().ljust(4, b"\0") + part[:, 0].tobytes()
    return out


@lru_cache(maxsize=512)
def _function(problem: Conv2d, tile: Tile) -> Any:
    """The PrimFunc of `problem`; a unit is a tile of output pixels."""
    gather = VectorGather(problem, tile.pixels)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        x, scratch = memories[0], memories[3]
        with importing([tile.function(), *gather.functions()]), serial(begin, end) as number:
            start = let(tile_start(number, problem.pixels, tile.pixels))
            with rolled(problem.groups) as group:
                if not gather.direct:
                    gather.gather(x, scratch, start, group)
                inputs = (x, problem.x.offset + start * problem.x.pixel_stride) if gather.direct else (scratch, 0)
                _channels(problem, tile, memories, start, group, inputs)

    return kernel_function(DTYPES, body)


def _channels(
    problem: Conv2d, tile: Tile, memories: list[Memory], pixel: Any, group: Any, inputs: tuple[Memory, Any]
) -> None:
    """All channels of a group for the tile from output `pixel` on, whose inputs begin there."""
    _, stream, begins, _, y = memories
    place = problem.y.offset + pixel * problem.y.pixel_stride + group * problem.group_outputs
    pointers = [
        tirx.address_of(memory.buffer[index])
        for memory, index in ((stream, begins.load(group)), (stream, begins.load(group + 1)), inputs, (y, place))
    ]
    script.evaluate(tirx.call_extern("int32", tile.name, *pointers, begins.load(problem.groups + 1)))


def _early(problem: Conv2d, tile: Tile, gather: VectorGather) -> int:
    """The channels of a tile that are written while its inputs are still read."""
    return (-(-problem.group_outputs // tile.channels) - 1) * tile.channels if gather.direct else 0


def _instructions(problem: Conv2d, kept: np.ndarray, tile: Tile) -> float:
    """Instructions that one run is expected to take."""
    gather = VectorGather(problem, tile.pixels)
    count = kept.shape[0] * kept.shape[1]
    blocks = int(kept.sum()) if tile.blocks is None else kept.size
    pixel = gather.shared_instructions if tile.shared else gather.instructions
    each = tile.instructions(blocks, count) + problem.groups * (tile.pixels * pixel + _TILE_SETUP)
    return tile_count(problem, tile.pixels) * each
