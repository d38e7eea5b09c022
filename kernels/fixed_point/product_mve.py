"""int8 convolution and linear layers on cores with Helium: sixteen products an instruction, blocks of zeros skipped."""

from __future__ import annotations

from collections.abc import Iterator
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
from edgeprune.kernels.fixed_point.product_mve_assembly import BLOCK, Tile
from edgeprune.kernels.fixed_point.product_overlap import product_overlap
from edgeprune.kernels.fixed_point.product_template import DTYPES, importing, tile_start
from edgeprune.kernels.fixed_point.product_variant import first_channels, tile_count
from edgeprune.kernels.script import Memory, kernel_function, let, serial

TILES = ((2, 3), (3, 2), (2, 2), (6, 1), (1, 6), (4, 1), (1, 4), (2, 1), (1, 2), (1, 1))
"""Output channels times pixels, in registers at once."""

_TILE_SETUP = 30.0
_LARGEST_PLACE = 65535


def vectors_possible(problem: Conv2d, weights: np.ndarray, bias: np.ndarray | None, requantize: Requantize) -> bool:
    """Whether this family computes the layer: its sums leave the room that rounding by the high word needs."""
    sums = Sums.of(problem, weights, bias)
    reach = np.abs(sums.bias) + 128 * np.abs(weights.astype(np.int64)).sum(axis=(1, 2)).ravel()
    return int(reach.max(initial=0)) << _raised(requantize)[1] < 2**31


def _raised(requantize: Requantize) -> tuple[Rescale, int]:
    """The factors of sums that are raised by as many bits as rounding lacks, and these bits."""
    plain = rescale(requantize, packed=False)
    raised = max(0, 1 - int(plain.shifts.min(initial=1)))
    return Rescale(plain.values, plain.shifts + raised), raised


def build_vector_product(
    problem: Conv2d, weights: np.ndarray, bias: np.ndarray | None, requantize: Requantize, tile: Tile | None = None
) -> Kernel:
    """The kernel of `problem`; arguments as of `build_fixed_product`. `tile` is the fastest unless given."""
    chosen = choose_tile(problem, weights, requantize)[1] if tile is None else tile
    gather = VectorGather(problem, chosen.pixels)
    kept = kept_vectors(problem, weights, chosen.channels, gather)
    macs = min(int(kept.sum()) * chosen.channels * BLOCK * problem.pixels, problem.dense_macs)
    kind = "dense" if chosen.blocks is not None else "sparse"
    return Kernel(
        func=_function(problem, chosen),
        units=tile_count(problem, chosen.pixels),
        constants=_stream(problem, Sums.of(problem, weights, bias), requantize, chosen),
        label=f"fixed product vectors {chosen.channels}x{chosen.pixels} {kind}",
        macs=problem.dense_macs if chosen.blocks is not None else macs,
        dense_macs=problem.dense_macs,
        cycles=_instructions(problem, kept, chosen),
        scratch_bytes=max(4, gather.scratch_bytes),
        overlaps=(product_overlap(problem, chosen.pixels, _early(problem, chosen, gather)),),
    )


def estimate_vector_product(problem: Conv2d, weights: np.ndarray) -> float:
    """Instructions of one run of the best tile; `weights` as of `build_vector_product`."""
    return choose_tile(problem, weights, None)[0]


def choose_tile(problem: Conv2d, weights: np.ndarray, requantize: Requantize | None) -> tuple[float, Tile]:
    """The tile for these weights, and the instructions of one run with it; without `requantize` a usual one."""
    found = []
    for tile in tiles(problem, requantize):
        kept = kept_vectors(problem, weights, tile.channels, VectorGather(problem, tile.pixels))
        found.append((_instructions(problem, kept, tile), tile))
    return min(found, key=lambda entry: entry[0])


def tiles(problem: Conv2d, requantize: Requantize | None) -> Iterator[Tile]:
    """Every tile that the problem's size allows, dense and sparse."""
    zero, low, high, raised = None, -128, 127, 0
    if requantize is not None:
        factors, raised = _raised(requantize)
        zero, low, high = None if factors.folded else requantize.zero, requantize.low, requantize.high
    for channels, pixels in TILES:
        if channels > problem.group_outputs or pixels > problem.pixels:
            continue
        gather = VectorGather(problem, pixels)
        ragged = problem.group_outputs % channels > 0
        for blocks in (gather.blocks, None):
            tile = Tile(channels, pixels, blocks, gather.block_step, gather.pixel_step, problem.y.pixel_stride,
                        zero, low, high, ragged, raised)  # fmt: skip
            far = gather.blocks * gather.block_step > _LARGEST_PLACE
            if tile.possible and not (blocks is None and far):
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
    steps = np.append(np.diff(firsts), 0).astype(np.int32)
    begins, out = [0], bytearray()
    for group, used in enumerate(kept):
        for first, own, step in zip(firsts, used, steps, strict=True):
            own_channels = group * problem.group_outputs + first + np.arange(tile.channels)
            blocks = np.flatnonzero(own) if tile.blocks is None else np.arange(len(own))
            out += starts[own_channels].tobytes()
            out += _places(blocks, tile) if tile.blocks is None else b""
            words = vectors[group, first : first + tile.channels].transpose(1, 0, 2)[blocks]
            out += words.tobytes() + factors[own_channels].tobytes() + (step.tobytes() if tile.ragged else b"")
        begins.append(len(out) // 4)
    return np.frombuffer(bytes(out), np.int32), np.array(begins, np.int32)


def _places(blocks: np.ndarray, tile: Tile) -> bytes:
    """How many blocks there are, the bytes of their places, and these places, filled up to words."""
    places = (blocks * tile.block_step).astype("<u2").tobytes()
    filled = places.ljust(-(-len(places) // 4) * 4, b"\0")
    return np.array([len(blocks), len(filled)], "<i4").tobytes() + filled


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
    script.evaluate(tirx.call_extern("int32", tile.name, *pointers))


def _early(problem: Conv2d, tile: Tile, gather: VectorGather) -> int:
    """The channels of a tile that are written while its inputs are still read."""
    return (-(-problem.group_outputs // tile.channels) - 1) * tile.channels if gather.direct else 0


def _instructions(problem: Conv2d, kept: np.ndarray, tile: Tile) -> float:
    """Instructions that one run is expected to take."""
    gather = VectorGather(problem, tile.pixels)
    count = kept.shape[0] * kept.shape[1]
    blocks = int(kept.sum()) if tile.blocks is None else kept.size
    each = tile.instructions(blocks, count) + problem.groups * (tile.pixels * gather.instructions + _TILE_SETUP)
    return tile_count(problem, tile.pixels) * each
