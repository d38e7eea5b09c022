"""What a channels variant costs, in cycles of a core that issues two multiply-adds and two loads in each.

Of the widest multiply-adds (sixteen lanes) some cores issue two in a cycle and some one; they count as in between.
"""

from __future__ import annotations

import numpy as np

from edgeprune.kernels.abi import LINE_BYTES, Machine
from edgeprune.kernels.conv2d.channels_packing import kept_entries
from edgeprune.kernels.conv2d.channels_variant import Part, Variant, multiplies_by_element
from edgeprune.kernels.conv2d.problem import Conv2d

_LATENCY = 4.4
_ISSUE = 5.0
_L2_BYTES = 24.0
_FAR_BYTES = 8.0
_UNHIDDEN = 0.25
_TILE_OVERHEAD = 12.0
_UNIT_OVERHEAD = 40.0
_WIDEST_ADDS = 1.4
_ELEMENT_LATENCY = 7.0
_ELEMENT_ISSUE = 1.5
_SETS = 64
_LINE_CYCLES = 1.5


def estimate(problem: Conv2d, weights: np.ndarray, variant: Variant, machine: Machine) -> float:
    """Cycles of one run on one core; `weights` is [groups, taps, in, out]."""
    kept = [kept_entries(weights, part, part.inputs) for part in variant.parts]
    return variant_cost(problem, variant, kept, machine)


def variant_cost(problem: Conv2d, variant: Variant, kept: list[np.ndarray], machine: Machine) -> float:
    """Cycles of one run on one core; `kept` holds what the blocks of each part keep."""
    arithmetic = sum(part_cost(problem, p, k, machine) for p, k in zip(variant.parts, kept, strict=True))
    waiting = sum(_traffic(problem, variant, p, k, machine) for p, k in zip(variant.parts, kept, strict=True))
    return arithmetic + _UNHIDDEN * waiting


def part_cost(problem: Conv2d, part: Part, entries: np.ndarray, machine: Machine) -> float:
    """Cycles of one part; `entries` holds what each of its blocks keeps."""
    images, _, _ = problem.grid
    padded = float((np.ceil(entries / part.chains) * part.chains).sum())
    stream = _stream_cost(problem, part, float(entries.mean()), machine)
    total = 0.0
    for rows, row_pieces in part.rows.pieces:
        for columns, column_pieces in part.columns.pieces:
            tiles = images.count * row_pieces * column_pieces
            fixed = _TILE_OVERHEAD + _LATENCY + 1.5 * rows * columns * len(part.vectors) * part.chains
            crowded = _LINE_CYCLES * crowded_lines(problem, part, rows, columns, machine)
            each = max(stream, crowded, entry_cost(part, rows * columns, machine))
            total += tiles * (padded * each + entries.size * fixed)
    units = images.count * part.rows.tiles * part.chunks * entries.size
    return total + units * _UNIT_OVERHEAD


def entry_cost(part: Part, pixels: int, machine: Machine) -> float:
    """Cycles that one entry takes on a tile of `pixels`; four lanes stand for SSE, without fused adds or broadcasts.

    On 64-bit Arm, with twice the registers, they stand for NEON: every instruction counts.
    """
    vectors = len(part.vectors)
    if multiplies_by_element(machine):
        return _by_element(part, pixels * part.chains) / part.chains
    loads = pixels + vectors + 1
    adds = pixels * vectors
    if machine.lanes <= 4:
        unhidden_shuffles = max(0.0, pixels - adds / 2)
        return max(adds + unhidden_shuffles / 2, loads / 2, _LATENCY / part.chains)
    broadcasts = 0 if machine.lanes > 8 and vectors == 1 else pixels
    instructions = adds + broadcasts + vectors + 1 + 2 / part.chains
    rate = _WIDEST_ADDS if machine.lanes > 8 else 2.0
    return max(adds / rate, loads / 2, _LATENCY / part.chains, instructions / _ISSUE)


def _by_element(part: Part, sums: int) -> float:
    """Cycles of one turn of the loop: multiply-adds by a lane, weights loaded in pairs, four for the loop."""
    vectors = len(part.vectors)
    weights = part.inputs * part.chains * vectors
    instructions = part.inputs * sums * vectors + sums + (weights + 1) // 2 + 2 * part.chains + 4
    return max(instructions / _ELEMENT_ISSUE, part.inputs * _ELEMENT_LATENCY)


def crowded_lines(problem: Conv2d, part: Part, rows: int, columns: int, machine: Machine) -> int:
    """How many of the lines that a tile of pixels reads do not stay in the first-level cache from entry to entry.

    Pixels that lie a power of two apart fall into few of its sets, and where a set has more than fit they all leave.
    """
    _, down, along = problem.grid
    size = problem.x.format.itemsize
    places = np.add.outer(np.arange(rows) * down.input_step, np.arange(columns) * along.input_step).ravel() * size
    lines = np.unique(places // LINE_BYTES)
    held = np.bincount(lines % _SETS)
    return int(held[held > machine.l1_bytes // (_SETS * LINE_BYTES)].sum())


def entry_bytes(problem: Conv2d, part: Part) -> float:
    """Bytes of the weights of one entry and of its offset."""
    return float(problem.x.format.itemsize * part.inputs * part.width + 4)


def _stream_cost(problem: Conv2d, part: Part, entries: float, machine: Machine) -> float:
    """Cycles to bring one entry's weights from the cache that holds a whole block: each tile reads it anew."""
    entry = entry_bytes(problem, part)
    block = entry * entries
    if block < 0.75 * machine.l1_bytes:
        return 0.0
    return entry / (_L2_BYTES if block < 0.75 * machine.l2_bytes else _FAR_BYTES)


def _traffic(problem: Conv2d, variant: Variant, part: Part, entries: np.ndarray, machine: Machine) -> float:
    """Cycles to fetch input and weights into the first-level cache, were nothing hidden behind arithmetic."""
    images, _, _ = problem.grid
    pixel_units = images.count * part.rows.tiles * part.chunks
    weights = entry_bytes(problem, part) * float(entries.sum())
    x = problem.x
    inputs = float(x.format.itemsize * x.batch * x.channels * x.height * x.width)
    if not variant.block_outer:
        return fetch_cycles(weights, pixel_units, machine) + fetch_cycles(inputs, 1, machine)
    reach = (problem.kernel[0] - 1) * problem.dilations[0] + 1, (problem.kernel[1] - 1) * problem.dilations[1] + 1
    overlap = reach[0] / (part.rows.most * problem.strides[0]), reach[1] / (part.columns.most * problem.strides[1])
    blocks = entries.size / problem.groups
    again = max(1.0, overlap[0]) * max(1.0, overlap[1]) if inputs / images.count > machine.l1_bytes / 2 else 1.0
    return fetch_cycles(inputs, blocks * again, machine) + fetch_cycles(weights, 1, machine)


def fetch_cycles(size: float, times: float, machine: Machine) -> float:
    """Cycles to read `size` bytes `times` over, from the cache that they fit."""
    if size < machine.l1_bytes / 2:
        return size / _L2_BYTES
    return size * times / (_L2_BYTES if size < 0.75 * machine.l2_bytes else _FAR_BYTES)
