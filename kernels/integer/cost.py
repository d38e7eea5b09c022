"""What an integer variant costs, in cycles of a core that issues two multiplies and two loads in each."""

from __future__ import annotations

import math

import numpy as np

from edgeprune.kernels.abi import Machine
from edgeprune.kernels.conv2d.channels_cost import fetch_cycles
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.integer.dot import VECTORS, Idiom, idiom_of
from edgeprune.kernels.integer.entries import VECTOR_BYTES
from edgeprune.kernels.integer.kinds import Kind
from edgeprune.kernels.integer.variant import Part, Variant

_ISSUE = 5.0
_OPERATIONS = 4.0
_L2_BYTES = 24.0
_FAR_BYTES = 8.0
_UNHIDDEN = 0.25
_TILE_OVERHEAD = 12.0
_UNIT_OVERHEAD = 40.0
_FINISH = 4.0
_OFFSET_BYTES = 2
_EXPANDING = 6.0
_CROWDED = 1.3
_ELEMENT_ISSUE = 1.5
_LOOP = 4.0
_TILE_INSTRUCTIONS = 12.0
_KIND_INSTRUCTIONS = 8.0
_FINISH_INSTRUCTIONS = 7.5


def variant_cost(problem: Conv2d, variant: Variant, counts: list[np.ndarray], machine: Machine) -> float:
    """Cycles of one run on one core; `counts` holds the entries of the blocks of each part."""
    arithmetic = sum(part_cost(problem, p, k, machine) for p, k in zip(variant.parts, counts, strict=True))
    waiting = sum(_traffic(problem, variant, p, k, machine) for p, k in zip(variant.parts, counts, strict=True))
    return arithmetic + _UNHIDDEN * waiting


def part_cost(problem: Conv2d, part: Part, entries: np.ndarray, machine: Machine) -> float:
    """Cycles of one part; `entries` [groups, blocks, kinds] holds those of each of its blocks, by its kinds."""
    images, _, _ = problem.grid
    blocks = entries[..., 0].size
    turns = [1 if number else part.chains for number in range(len(part.kinds))]
    padded = np.ceil(entries / turns) * turns
    stream = _stream_cost(part, float(entries.sum() / blocks), machine)
    total, factors = 0.0, idiom_of(machine).factor is not None
    for rows, row_pieces in part.rows.pieces:
        for columns, column_pieces in part.columns.pieces:
            tiles = images.count * row_pieces * column_pieces
            vectors = rows * columns * len(part.vectors)
            fixed = _TILE_OVERHEAD + vectors * (_FINISH + part.chains / 2)
            if factors:
                loops = _TILE_INSTRUCTIONS + len(part.kinds) * _KIND_INSTRUCTIONS
                fixed = (loops + vectors * _FINISH_INSTRUCTIONS) / _ELEMENT_ISSUE
            for kind, count in zip(part.kinds, padded.sum((0, 1)), strict=True):
                total += tiles * float(count) * max(stream, entry_cost(part, rows * columns, kind, machine))
            total += tiles * blocks * fixed
    units = images.count * part.rows.tiles * part.chunks * blocks
    return total + units * _UNIT_OVERHEAD


def entry_cost(part: Part, pixels: int, kind: Kind, machine: Machine) -> float:
    """Cycles that one entry takes on a tile of `pixels`; four lanes stand for SSE, which copies and shuffles more.

    Pairs of elements may lie apart: two loads and a blend where others take one load. Lanes that
    choose their own elements take codes that are expanded and a shuffle for each product, on few ports.
    """
    idiom, vectors = idiom_of(machine), len(part.vectors)
    if idiom.chained:
        return _by_chain(idiom, part, pixels, kind)
    if idiom.factor is not None:
        return _by_element(idiom, part, pixels, kind)
    loads = (pixels + 1) * kind.places + vectors
    products = pixels * vectors
    operations = products * idiom.operations + vectors * idiom.widening + pixels * (kind.places - 1)
    if part.mode == "lanes":
        operations = _CROWDED * (operations + products + vectors * _EXPANDING)
        loads += vectors
    if machine.lanes <= 4:
        operations += pixels + products
    instructions = operations + loads + 3 / part.chains
    return max(
        products * idiom.multiplies / 2,
        operations / _OPERATIONS,
        loads / 2,
        idiom.latency / part.chains,
        instructions / _ISSUE,
    )


def _by_element(idiom: Idiom, part: Part, pixels: int, kind: Kind) -> float:
    """Cycles where a lane is a factor: every instruction counts; vectors are loaded in pairs, four are for the loop."""
    words, products = kind.words, pixels * len(part.vectors) * kind.words
    loads = pixels if part.mode in VECTORS else 2 * pixels
    if part.picks:
        loads = pixels * (part.picks // 2 + 1) + 1
    weights = words * part.width * idiom.depth * (2 if idiom.wide_weights else 1) / VECTOR_BYTES
    return max((products + loads + math.ceil(weights / 2) + _LOOP) / _ELEMENT_ISSUE, words * idiom.latency)


def _by_chain(idiom: Idiom, part: Part, pixels: int, kind: Kind) -> float:
    """Cycles where products add up in chains, by instructions as `_by_element`; by `kind`, some are shorter."""
    words, vectors = kind.words, len(part.vectors)
    loads = pixels * (part.picks // 2 + 1 + words) + 1 if part.picks else 2 * pixels
    sums = pixels * (vectors + len(kind.short))
    instructions = pixels * vectors * words + sums + loads + words * math.ceil(vectors / 2) / 2 + _LOOP
    return instructions / _ELEMENT_ISSUE


def _entry_bytes(part: Part, machine: Machine) -> float:
    idiom = idiom_of(machine)
    codes = VECTOR_BYTES if part.picks else 0
    return part.width * idiom.depth * idiom.words(part.mode) + _OFFSET_BYTES + codes


def _stream_cost(part: Part, entries: float, machine: Machine) -> float:
    """Cycles to bring one entry's weights from the cache that holds a whole block: each tile reads it anew."""
    entry = _entry_bytes(part, machine)
    block = entry * entries
    if block < 0.75 * machine.l1_bytes:
        return 0.0
    return entry / (_L2_BYTES if block < 0.75 * machine.l2_bytes else _FAR_BYTES)


def _traffic(problem: Conv2d, variant: Variant, part: Part, entries: np.ndarray, machine: Machine) -> float:
    """Cycles to fetch input and weights into the first-level cache, were nothing hidden behind arithmetic."""
    images, _, _ = problem.grid
    x = problem.x
    pixel_units = images.count * part.rows.tiles * part.chunks
    weights = _entry_bytes(part, machine) * float(entries.sum())
    inputs = float(x.format.itemsize) * x.batch * x.channels * x.height * x.width
    if not variant.block_outer:
        return fetch_cycles(weights, pixel_units, machine) + fetch_cycles(inputs, 1, machine)
    reach = (problem.kernel[0] - 1) * problem.dilations[0] + 1, (problem.kernel[1] - 1) * problem.dilations[1] + 1
    overlap = reach[0] / (part.rows.most * problem.strides[0]), reach[1] / (part.columns.most * problem.strides[1])
    blocks = entries[..., 0].size / problem.groups
    again = max(1.0, overlap[0]) * max(1.0, overlap[1]) if inputs / images.count > machine.l1_bytes / 2 else 1.0
    return fetch_cycles(inputs, blocks * again, machine) + fetch_cycles(weights, 1, machine)
