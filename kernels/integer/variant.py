"""The shapes one integer kernel can take: blocks of output channels, tiles of pixels, order of work."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeprune.kernels.abi import LINE_BYTES, Machine
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shares import Channels, Split
from edgeprune.kernels.integer.dot import VECTORS, idiom_of
from edgeprune.kernels.integer.kinds import Kind

_MOST_ROWS = 4
_MOST_SUMS = 28
_FACTOR_WEIGHTS = 2
_CHAINS = 2
_UNIT_STEPS = 2048


@dataclass(frozen=True)
class Part:
    """A share of the output channels done in tiles of one shape.

    A tile of pixels is a piece of `rows` times a piece of `columns`; `chains` partial sums of the same outputs are
    kept apart, so that consecutive products do not wait for each other. A unit of work is one block on one piece of
    rows and one of `chunks` runs of column pieces.

    `mode` says how words are put together: in "runs" of elements that follow each other; in "pairs" of any two, where
    runs would be half empty; or by "lanes", each output channel choosing its own from a window of 16 bytes. `VECTORS`
    has the modes whose entries are of several words. `kinds` are those of the entries that its blocks have.
    """

    share: Channels
    rows: Split
    columns: Split
    chains: int
    chunks: int
    mode: str = "runs"
    kinds: tuple[Kind, ...] = (Kind(),)

    @property
    def vectors(self) -> tuple[int, ...]:
        """The lanes of each vector of a block."""
        return self.share.vectors

    @property
    def picks(self) -> int:
        """The vectors of x that make the table of an entry, 0 where elements follow each other."""
        return VECTORS[self.mode].tables if self.mode in VECTORS else 0

    @property
    def width(self) -> int:
        """Channels of a block as stored in the weights, padding included."""
        return sum(self.share.vectors)


@dataclass(frozen=True)
class Variant:
    """One way to do a problem; `block_outer` keeps a block's weights over all pixels, else pixels over all blocks."""

    parts: tuple[Part, ...]
    block_outer: bool
    dot: str

    @property
    def sections(self) -> int:
        """Kinds of entries that the table has of each block."""
        return max(len(part.kinds) for part in self.parts)

    def __str__(self) -> str:
        shapes = (
            f"{p.width}x{p.rows.most}x{p.columns.most}"
            + f"/{p.chains}" * (p.chains > 1)
            + f" {p.mode}" * (p.mode != "runs")
            for p in self.parts
        )
        return "+".join(shapes) + (" by block" if self.block_outer else " by pixel")


def tilings(
    problem: Conv2d, share: Channels, entries: float, mode: str, kinds: tuple[Kind, ...], machine: Machine
) -> list[Part]:
    """Every tile of pixels whose sums stay in registers; `entries`, of `kinds`, is what an average block keeps."""
    _, rows, columns = problem.grid
    vectors, idiom = len(share.vectors), idiom_of(machine)
    words = 1 + (idiom.temporaries if vectors > 1 or mode != "runs" else 0)
    kept = vectors * (2 if mode == "lanes" else 1)
    room = max(1, min(_MOST_SUMS, machine.registers - kept - words) // vectors)
    chains = (1, 2, 4) if idiom.latency > 1 else (1,)
    if idiom.factor is not None:
        taken = VECTORS[mode].tables if mode in VECTORS else 0
        picking = taken + 1 if taken else 0
        room, chains = max(1, (machine.registers - max(_FACTOR_WEIGHTS, picking)) // (vectors + 1)), (1,)
        if idiom.chained:
            weights = idiom.chained * -(-vectors // 2)
            room = max(1, (machine.registers - weights - max(idiom.chained, taken) - _CHAINS) // vectors)
    found: dict[tuple[Split, Split, int], None] = {}
    for height in range(1, min(_MOST_ROWS, rows.count, room) + 1):
        for width in range(1, min(columns.count, room // height) + 1):
            pieces = Split(rows.count, -(-rows.count // height)), Split(columns.count, -(-columns.count // width))
            pixels = pieces[0].most * pieces[1].most
            for count in chains:
                if pixels * count <= room and (count == 1 or pixels * vectors * count <= 16):
                    found[(*pieces, count)] = None
    return [
        Part(share, rows, columns, count, _chunks(problem, share, entries, rows, columns, machine), mode, kinds)
        for rows, columns, count in found
    ]


def _chunks(problem: Conv2d, share: Channels, entries: float, rows: Split, columns: Split, machine: Machine) -> int:
    """Runs of column pieces: a unit is worth its call, and blocks that follow each other find its pixels in cache.

    The output counts among those where blocks write parts of a cache line.
    """
    steps = (entries + 8) * rows.most * columns.count * len(share.vectors)
    strides = problem.strides[0] * problem.strides[1]
    line = LINE_BYTES // problem.y.format.itemsize
    written = problem.y.channels * problem.y.format.itemsize if sum(share.vectors) < line else 0
    pixels = rows.most * columns.count
    footprint = pixels * (problem.x.channels * strides * problem.x.format.itemsize + written)
    wanted = max(1.0, steps / _UNIT_STEPS, 2 * footprint / machine.l1_bytes)
    return min(columns.tiles, 1 << round(math.log2(wanted)))
