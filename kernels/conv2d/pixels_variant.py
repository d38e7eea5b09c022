"""The tile shapes of the pixels kernel, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from edgeprune.kernels.abi import Machine
from edgeprune.kernels.conv2d.problem import Conv2d

_LINE = 64
_LATENCY = 4.2
_ENTRY = 0.8
_LOAD = 0.97
_ALIGNED_LOAD = 0.75
_STRIDED_LOAD = 1.7
_FAR_LOAD = 0.9
_NEAR = 0.9
_OUTPUT_OVERHEAD = 8.0
_TILE_OVERHEAD = 40.0
_CHANNELS_AT_ONCE = 8
_CHANNELS_BLOCKED = 64
_ENOUGH_UNITS = 8


@dataclass(frozen=True)
class Variant:
    """A tile is `rows` x `vectors` registers of `width` pixels; the last tile of an axis overlaps the one before.

    One unit does `channels` output channels of a tile. Input channels come in blocks of `block`, so that what a tile
    reads of a block stays in the nearest cache; more than one block keeps its sums in memory in between.
    """

    width: int
    rows: int
    vectors: int
    channels: int
    block: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.vectors}x{self.width} block {self.block}"


def tiles(problem: Conv2d, variant: Variant) -> tuple[int, int]:
    """Tiles of one image: (along rows, along columns)."""
    rows = problem.grid[1]
    return -(-rows.count // variant.rows), -(-vector_count(problem, variant.width) // variant.vectors)


def vector_count(problem: Conv2d, width: int) -> int:
    """Vectors of `width` pixels that cover one row of the grid."""
    return -(-problem.grid[2].count // width)


def blocks(problem: Conv2d, variant: Variant) -> int:
    """Blocks of input channels of one group."""
    return -(-problem.group_inputs // variant.block)


def variants(problem: Conv2d, machine: Machine) -> list[Variant]:
    """Every tile that leaves a register for the weight and one for the input, in its best blocking."""
    _, rows, columns = problem.grid
    width = 1 << (min(machine.lanes, columns.count).bit_length() - 1)
    most = machine.registers - 2 if machine.registers <= 16 else machine.registers - 6
    across = vector_count(problem, width)
    found = []
    for down, vectors in product(range(1, min(rows.count, most) + 1), range(1, min(across, most) + 1)):
        if down * vectors > most or (down > 1 and vectors < across):
            continue
        tile = Variant(width, down, vectors, _CHANNELS_AT_ONCE, problem.group_inputs)
        near = int(_NEAR * machine.l1_bytes / _channel_bytes(problem, tile))
        found.append(tile)
        if near < problem.group_inputs:
            count = -(-problem.group_inputs // max(near, 8))
            channels = min(_CHANNELS_BLOCKED, max(_CHANNELS_AT_ONCE, _share(problem, tile)))
            found.append(Variant(width, down, vectors, channels, -(-problem.group_inputs // count)))
    return found


def _share(problem: Conv2d, variant: Variant) -> int:
    """Output channels of a unit that leave enough units for several threads."""
    down, across = tiles(problem, variant)
    return problem.y.channels * down * across * problem.grid[0].count // _ENOUGH_UNITS


def _channel_bytes(problem: Conv2d, variant: Variant) -> int:
    """Bytes of cache lines that one tile reads of one input channel."""
    columns = problem.grid[2]
    pixels = min(variant.vectors * variant.width, columns.count)
    if columns.count != problem.y.width:
        return variant.rows * (pixels * 4 + _LINE)
    height = (variant.rows - 1) * problem.strides[0] + (problem.kernel[0] - 1) * problem.dilations[0] + 1
    length = (pixels - 1) * problem.strides[1] + (problem.kernel[1] - 1) * problem.dilations[1] + 1
    if length * 4 + 2 * _LINE >= problem.x.row_stride * 4:
        return height * problem.x.row_stride * 4 + _LINE
    return height * (length * 4 + _LINE)


def _load_cost(problem: Conv2d, variant: Variant, machine: Machine) -> float:
    """Cycles from one multiply-add of a tile to the next: vectors that are not aligned straddle cache lines."""
    steps = (problem.x.offset, problem.x.batch_stride, problem.x.channel_stride, problem.grid[1].input_step)
    if problem.grid[2].input_step != 1:
        load = _STRIDED_LOAD
    elif problem.taps == 1 and not any(step % variant.width for step in steps):
        load = _ALIGNED_LOAD
    else:
        load = _LOAD
    return load * (1.3 if machine.lanes <= 4 else 1.0)


def cost(problem: Conv2d, variant: Variant, entries: int, machine: Machine) -> float:
    """Cycles of one run on one core, with `entries` weights kept in all."""
    outer, _, _ = problem.grid
    down, across = tiles(problem, variant)
    registers = variant.rows * variant.vectors
    load = _load_cost(problem, variant, machine)
    beyond = variant.block * _channel_bytes(problem, variant) / machine.l1_bytes - _NEAR
    load += _FAR_LOAD * min(1.0, max(0.0, beyond / 3))
    each = max(_LATENCY, registers * load) + _ENTRY
    turns = blocks(problem, variant)
    traffic = registers * (1.0 if turns == 1 else 3.0)
    outputs = problem.y.channels * turns * (_OUTPUT_OVERHEAD + traffic)
    tile = entries * each + outputs + _TILE_OVERHEAD * problem.y.channels / variant.channels
    return outer.count * down * across * tile


def cheapest(problem: Conv2d, weights: np.ndarray, machine: Machine) -> tuple[float, Variant]:
    """The variant of lowest cost for `weights` [groups, taps, in, out], with its cost."""
    entries = int(np.count_nonzero(weights))
    ranked = [(cost(problem, variant, entries, machine), variant) for variant in variants(problem, machine)]
    return min(ranked, key=lambda pair: pair[0])
