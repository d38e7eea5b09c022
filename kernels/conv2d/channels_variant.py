"""The shapes one channels kernel can take: blocks of output channels, tiles of pixels, order of work."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeprune.kernels.abi import LINE_BYTES, Machine
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shares import Channels, Split

_MOST_ROWS = 4
_UNIT_STEPS = 2048
_RUN = 4


@dataclass(frozen=True)
class Part:
    """`blocks` blocks of equal shape in every group, from channel `start` of the group on.

    A block is `vectors`: the lanes of each of its vectors; the last `valid` channels count is what it stores.
    A tile of pixels is a piece of `rows` times a piece of `columns`; `chains` partial sums of the same outputs
    are kept apart, so that consecutive multiply-adds do not wait for each other. A unit of work is one block on
    one piece of rows and one of `chunks` runs of column pieces. An entry is `inputs` neighbouring input channels,
    whose values are loaded as one vector.
    """

    start: int
    blocks: int
    vectors: tuple[int, ...]
    valid: int
    rows: Split
    columns: Split
    chains: int
    chunks: int
    inputs: int = 1

    @property
    def width(self) -> int:
        """Channels of a block as stored in the weights, padding included."""
        return sum(self.vectors)


@dataclass(frozen=True)
class Variant:
    """One way to do a problem; `block_outer` keeps a block's weights over all pixels, else pixels over all blocks."""

    parts: tuple[Part, ...]
    block_outer: bool

    def __str__(self) -> str:
        shapes = (f"{p.width}x{p.rows.most}x{p.columns.most}" + f"/{p.chains}" * (p.chains > 1) for p in self.parts)
        runs = f" by {self.parts[0].inputs} inputs" * (self.parts[0].inputs > 1)
        return "+".join(shapes) + runs + (" by block" if self.block_outer else " by pixel")


def multiplies_by_element(machine: Machine) -> bool:
    """Whether a multiply-add takes one lane of a vector as its factor, as in NEON of 64-bit Arm."""
    return machine.lanes == _RUN and machine.registers > 16


def entry_inputs(problem: Conv2d, machine: Machine) -> tuple[int, ...]:
    """How many input channels an entry may have: runs where lanes are factors and channels lie next to each other."""
    if problem.x.channel_stride != 1 or not multiplies_by_element(machine):
        return (1,)
    runs = sorted({_RUN, machine.lanes_of(problem.x.format)})
    return (1, *(run for run in runs if problem.group_inputs % run == 0))


def tilings(problem: Conv2d, share: Channels, entries: float, machine: Machine, inputs: int = 1) -> list[Part]:
    """Every tile of pixels whose sums stay in registers, with as many chains as they leave room for.

    `entries` is what an average block keeps: units are cut so that each is worth calling, and there are many.
    """
    _, rows, columns = problem.grid
    vectors = len(share.vectors)
    fused = machine.lanes > _RUN or multiplies_by_element(machine)
    if inputs > 1:
        room = max(1, (machine.registers - 2) // (vectors + 1))
    else:
        room = (machine.registers - vectors - (1 if fused else 2)) // vectors
    found: dict[tuple[Split, Split, int], None] = {}
    for height in range(1, min(_MOST_ROWS, rows.count, room) + 1):
        for width in range(1, min(columns.count, room // height) + 1):
            pieces = Split(rows.count, -(-rows.count // height)), Split(columns.count, -(-columns.count // width))
            pixels = pieces[0].most * pieces[1].most
            for chains in (1, 2, 4, 8):
                if pixels * chains <= room and (chains == 1 or pixels * vectors * chains <= 16):
                    found[(*pieces, chains)] = None
    parts = []
    for row_pieces, column_pieces, chains in found:
        chunks = _chunks(problem, share, entries * inputs, row_pieces, column_pieces, machine)
        shape = (share.start, share.blocks, share.vectors, share.valid)
        parts.append(Part(*shape, row_pieces, column_pieces, chains, chunks, inputs))
    return parts


def _chunks(problem: Conv2d, share: Channels, entries: float, rows: Split, columns: Split, machine: Machine) -> int:
    """Runs of column pieces: a unit is worth its call, and blocks that follow each other find its pixels in cache.

    The output counts among those where blocks write parts of a cache line.
    """
    steps = (entries + 8) * rows.most * columns.count * len(share.vectors)
    strides = problem.strides[0] * problem.strides[1]
    written = problem.y.channels if sum(share.vectors) * problem.y.format.itemsize < LINE_BYTES else 0
    footprint = problem.x.format.itemsize * rows.most * columns.count * (problem.x.channels * strides + written)
    wanted = max(1.0, steps / _UNIT_STEPS, 2 * footprint / machine.l1_bytes)
    return min(columns.tiles, 1 << round(math.log2(wanted)))
