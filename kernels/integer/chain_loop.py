"""The loops over entries that are chains of words: how the places that they read follow each other.

The weights of a block follow each other, and so do its ways. Entries of the first kind come two in a turn: the first
goes through the pixels of a tile forwards, the second backwards, so that the way from one entry to the next is the same
for every tile, and a load goes it besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tvm import tirx

from edgeprune.kernels.integer.chain import (
    Pointer,
    again,
    bytes_at,
    chain_weights,
    chained,
    next_place,
    picked_words,
    place_of,
    pointer,
    spread_words,
    unknown,
    way_at,
)
from edgeprune.kernels.integer.entries import VECTOR_BYTES
from edgeprune.kernels.integer.kinds import Kind, heir
from edgeprune.kernels.integer.state import Code, Sums
from edgeprune.kernels.integer.variant import Part
from edgeprune.kernels.script import Memory, let, serial

_WAY_BYTES = 4


@dataclass(frozen=True)
class ChainBlock:
    """What is known of a block before its tiles: where its ways and weights begin, how many entries of each kind."""

    code: Code
    part: Part
    ways: Any
    weights: Any
    entries: Sequence[Any]


def chain_block(code: Code, part: Part, row: Any) -> ChainBlock:
    """The block whose rows of the table begin at `row`."""
    table, buffers = code.buffers.table, code.buffers
    ways, weights = place_of(buffers.offsets, table.load(row)), place_of(buffers.weights, table.load(row + 2))
    entries = [let(table.load(row + 3 * section + 1)) for section in range(len(part.kinds))]
    return ChainBlock(code, part, ways, weights, entries)


def load_sums(bias: Memory, first: Any, sums: Sums) -> None:
    """Begin `sums` with the bias from element `first` on, loaded anew for each pixel: that is cheaper than copies."""
    place = place_of(bias, first)
    for pixel in range(sums.pixels):
        place, step = again(place), 0
        for vector, lanes in enumerate(sums.vectors):
            loaded = bytes_at(place, step, 4 * lanes)
            sums.store(0, pixel, vector, tirx.reinterpret(f"int32x{lanes}", loaded))
            step += 4 * lanes


def add_chains(block: ChainBlock, sums: Sums, steps: Sequence[int], x: Any) -> None:
    """Add all entries of a block to `sums`.

    `steps` lead from the place of an entry to what each pixel of the tile reads there; `x` is the tile's own place.
    """
    code, part = block.code, block.part
    lengths = {later - now for now, later in pairwise(steps)}
    far = {way: unknown(way) for length in sorted(lengths) for way in (length, -length)}
    start = place_of(code.buffers.x, x + steps[0])
    tile = _Tile(code, part, sums, steps, far, start, pointer(block.ways), pointer(block.weights))
    tile.first_kind(block.entries[0])
    for kind, entries in zip(part.kinds[1:], block.entries[1:], strict=True):
        with serial(0, entries):
            tile.entry(tile.next_start(), range(len(steps)), kind, None)


@dataclass(frozen=True)
class _Tile:
    """A tile while entries are added to it: `far` has the ways between its pixels, `start` is where it begins in x."""

    code: Code
    part: Part
    sums: Sums
    steps: Sequence[int]
    far: Mapping[int, Any]
    start: Any
    ways: Pointer
    weights: Pointer

    def first_kind(self, entries: Any) -> None:
        """Add the entries of the first kind."""
        forwards, kind = range(len(self.steps)), self.part.kinds[0]
        place = pointer(self.next_start())
        with serial(0, tirx.truncdiv(entries, 2)):
            ways = [way_at(self.ways.load(), number) for number in range(2)]
            self.ways.move(2 * _WAY_BYTES)
            place.store(self.entry(place.load(), forwards, kind, ways[0]))
            place.store(self.entry(place.load(), forwards[::-1], kind, ways[1]))
        if heir(self.part.kinds) is None:
            with serial(0, tirx.truncmod(entries, 2)):
                self.entry(place.load(), forwards, kind, None)

    def next_start(self) -> Any:
        """The place of an entry that is given from the tile's beginning."""
        way = way_at(self.ways.load())
        self.ways.move(_WAY_BYTES)
        return next_place(self.start, way, [])

    def entry(self, place: Any, pixels: Sequence[int], kind: Kind, way: Any) -> Any:
        """Add an entry whose first of `pixels` is at `place`; the place that is `way` beyond the last one.

        At first the weights of all words, then one pixel after the other.
        """
        idiom, part, vectors = self.code.idiom, self.part, range(len(self.part.vectors))
        stored, size = self.weights.load(), part.width * idiom.depth
        codes = VECTOR_BYTES if part.picks else 0
        weights = [chain_weights(stored, codes + i * size, part.vectors) for i in range(kind.words)]
        picks = bytes_at(stored, 0, VECTOR_BYTES) if part.picks else None
        self.weights.move(codes + kind.words * size)
        ways = [self.far[self.steps[later] - self.steps[now]] for now, later in pairwise(pixels)]
        for pixel, step in zip(pixels, [*ways, way], strict=True):
            words = (
                picked_words(place, part.picks, picks, kind.words) if part.picks else spread_words(place, kind.words)
            )
            for vector in vectors:
                own, short = [of_word[vector // 2] for of_word in weights], vector in kind.short
                total, words = chained(self.sums.load(0, pixel, vector), words, own, vector, short, idiom)
                self.sums.store(0, pixel, vector, total)
            if step is not None:
                place = next_place(place, step, [self.sums.load(0, pixel, vector) for vector in vectors])
        return place
