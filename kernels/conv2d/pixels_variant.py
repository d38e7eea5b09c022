"""The tile shapes of the pixels kernel, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from edgeprune.kernels.abi import FLOAT32, LINE_BYTES, Machine, Residual
from edgeprune.kernels.conv2d.channels_variant import multiplies_by_element
from edgeprune.kernels.conv2d.lines import LANES, runs_of
from edgeprune.kernels.conv2d.pixels_loop import REGISTERS, TURN, Loop
from edgeprune.kernels.conv2d.problem import Conv2d

_LATENCY = 4.2
_ENTRY = 0.8
_LOAD = 0.97
_ALIGNED_LOAD = 0.75
_STRIDED_LOAD = 1.7
_OTHER_WIDTH = 1.3
_FAR_LOAD = 0.9
_NEAR = 0.9
_OUTPUT_OVERHEAD = 8.0
_TILE_OVERHEAD = 40.0
_CHANNELS_AT_ONCE = 8
_CHANNELS_BLOCKED = 64
_ENOUGH_UNITS = 8
_TOGETHER = (1, 2, 4, 8, 16)
_ENOUGH_UNITS_TOGETHER = 16
_LIST_OVERHEAD, _UNIT_OVERHEAD = 12, 30
_ELEMENT_ISSUE = 1.5


@dataclass(frozen=True)
class Variant:
    """A tile is `rows` x `vectors` registers of `width` pixels; the last tile of an axis overlaps the one before.

    One unit does `channels` output channels of a tile. Input channels come in blocks of `block`, so that what a tile
    reads of a block stays in the nearest cache; more than one block keeps its sums in memory in between.

    Where `together` is not 0, that many output channels share what is loaded: their weights are factors by element.
    """

    width: int
    rows: int
    vectors: int
    channels: int
    block: int
    together: int = 0

    def __str__(self) -> str:
        shared = f" {self.together} together" if self.together else f" block {self.block}"
        return f"{self.rows}x{self.vectors}x{self.width}{shared}"


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


def in_neighbours(problem: Conv2d, number: int) -> bool:
    """Whether pixels of the output (0) or of residual number - 1 are float32 next to each other."""
    views = [problem.y, *(step.view for step in problem.epilogue if isinstance(step, Residual))]
    return views[number].format == FLOAT32 and problem.grid[2].output_steps[number] == 1


def loop_of(problem: Conv2d, variant: Variant) -> Loop:
    """How the lists of a variant with channels together are added: to a residual where that comes first."""
    given = bool(problem.epilogue) and isinstance(problem.epilogue[0], Residual) and in_neighbours(problem, 1)
    return Loop(variant.rows, variant.vectors, variant.together, problem.grid[2].input_step, given)


def variants(problem: Conv2d, machine: Machine) -> list[Variant]:
    """Every tile that leaves a register for the weight and one for the input, in its best blocking."""
    _, rows, columns = problem.grid
    width = 1 << (min(machine.lanes_of(problem.x.format), columns.count).bit_length() - 1)
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
    return found + _together(problem, machine)


def _together(problem: Conv2d, machine: Machine) -> list[Variant]:
    """Every tile of several output channels whose sums stay in registers, where lanes are factors."""
    _, rows, columns = problem.grid
    alike = multiplies_by_element(machine) and problem.x.format == FLOAT32
    if not alike or not _in_lines(problem) or columns.count < LANES:
        return []
    across, found = columns.count // LANES, []
    for together in (size for size in _TOGETHER if problem.group_outputs % size == 0):
        for down, vectors in product(range(1, rows.count + 1), range(1, across + 1)):
            loop = Loop(down, vectors, together, columns.input_step)
            if (down == 1 or vectors == across) and loop.registers <= REGISTERS:
                tile = Variant(LANES, down, vectors, together, problem.group_inputs, together)
                found.append(replace(tile, channels=_unit_channels(problem, tile)))
    return found


def _unit_channels(problem: Conv2d, variant: Variant) -> int:
    """Output channels of a unit: as many lists as leave enough units for several threads."""
    down, across = tiles(problem, variant)
    lists = problem.y.channels // variant.together
    units = -(-_ENOUGH_UNITS_TOGETHER // (problem.grid[0].count * down * across))
    return max(1, lists // units) * variant.together


def _in_lines(problem: Conv2d) -> bool:
    """Whether rows are read in lines: of neighbours, or of every second pixel where one more is there to be read."""
    step, x = problem.grid[2].input_step, problem.x
    if step != 2 or problem.strides[1] != 2:
        return step == 1
    last = (problem.y.width - 1) * step + (problem.kernel[1] - 1) * problem.dilations[1] - problem.pads[1]
    return x.pixel_stride == 1 and x.offset % x.row_stride + last + 1 < x.row_stride


def _share(problem: Conv2d, variant: Variant) -> int:
    """Output channels of a unit that leave enough units for several threads."""
    down, across = tiles(problem, variant)
    return problem.y.channels * down * across * problem.grid[0].count // _ENOUGH_UNITS


def _channel_bytes(problem: Conv2d, variant: Variant) -> int:
    """Bytes of cache lines that one tile reads of one input channel."""
    columns = problem.grid[2]
    pixels, each = min(variant.vectors * variant.width, columns.count), problem.x.format.itemsize
    if columns.count != problem.y.width:
        return variant.rows * (pixels * each + LINE_BYTES)
    height = (variant.rows - 1) * problem.strides[0] + (problem.kernel[0] - 1) * problem.dilations[0] + 1
    length = (pixels - 1) * problem.strides[1] + (problem.kernel[1] - 1) * problem.dilations[1] + 1
    if length * each + 2 * LINE_BYTES >= problem.x.row_stride * each:
        return height * problem.x.row_stride * each + LINE_BYTES
    return height * (length * each + LINE_BYTES)


def _load_cost(problem: Conv2d, variant: Variant, machine: Machine) -> float:
    """Cycles from one multiply-add of a tile to the next: vectors that are not aligned straddle cache lines."""
    steps = (problem.x.offset, problem.x.batch_stride, problem.x.channel_stride, problem.grid[1].input_step)
    if problem.grid[2].input_step != 1:
        load = _STRIDED_LOAD
    elif problem.taps == 1 and not any(step % variant.width for step in steps):
        load = _ALIGNED_LOAD
    else:
        load = _LOAD
    return load * (_OTHER_WIDTH if machine.lanes < 8 or variant.width > 8 else 1.0)


def cost(problem: Conv2d, variant: Variant, entries: int, machine: Machine) -> float:
    """Cycles of one run on one core, with `entries` weights kept in all, or of those that are done together."""
    outer, _, _ = problem.grid
    if variant.together:
        return _together_cost(problem, variant, entries)
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


def _together_cost(problem: Conv2d, variant: Variant, entries: int) -> float:
    """By instructions: those of an entry, of a list, and of its sums once they are known."""
    outer, _, _ = problem.grid
    down, across = tiles(problem, variant)
    loop = loop_of(problem, variant)
    lists = problem.y.channels // variant.together
    stores = variant.together * variant.rows * len(runs_of(variant.vectors, loop.stride))
    each = loop.overhead + loop.sums + stores + _LIST_OVERHEAD
    units = _UNIT_OVERHEAD * problem.y.channels / variant.channels
    return outer.count * down * across * (entries * loop.turn / TURN + lists * each + units) / _ELEMENT_ISSUE


def entry_count(weights: np.ndarray, together: int) -> int:
    """How many entries `weights` [groups, taps, in, out] make where `together` outputs share them; 0: none do."""
    if together <= 1:
        return int(np.count_nonzero(weights))
    return int(np.count_nonzero(weights.reshape(*weights.shape[:3], -1, together).any(-1)))


def cheapest(problem: Conv2d, weights: np.ndarray, machine: Machine) -> tuple[float, Variant]:
    """The variant of lowest cost for `weights` [groups, taps, in, out], with its cost."""
    found = variants(problem, machine)
    entries = {together: entry_count(weights, together) for together in {variant.together for variant in found}}
    ranked = [(cost(problem, variant, entries[variant.together], machine), variant) for variant in found]
    return min(ranked, key=lambda pair: pair[0])
