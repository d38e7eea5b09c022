"""The entries of several output channels over a tile of pixels: what is loaded of x serves all of them.

Every weight is one lane of a vector, which multiply-adds of 64-bit Arm take as their factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.conv2d.lines import LANES, MOST_VECTORS, Load, after, beyond, loads_of, opaque
from edgeprune.kernels.conv2d.pixels_packing import TURN
from edgeprune.kernels.conv2d.pixels_variant import Variant
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.script import Memory

_BYTES = 4
_BUSY = 26


@dataclass(frozen=True)
class Lists:
    """What `pack_together` gives."""

    values: Memory
    steps: Memory
    table: Memory


def row_steps(problem: Conv2d, variant: Variant) -> list[int]:
    """Bytes from each load of an entry to the next."""
    within = [load.bytes for load in _row(problem, variant)[:-1]]
    back = problem.grid[1].input_step * _BYTES - sum(within)
    return ([*within, back] * variant.rows)[:-1]


def reach(problem: Conv2d, variant: Variant) -> int:
    """Bytes from the first load of an entry to its last."""
    return sum(row_steps(problem, variant))


def _row(problem: Conv2d, variant: Variant) -> list[Load]:
    return loads_of(variant.vectors, problem.grid[2].input_step)


def add_lists(problem: Conv2d, variant: Variant, lists: Lists, number: Any, x: Any, sums: Sequence[Memory]) -> None:
    """Add list `number` to `sums`, of which each output channel has one; `x` points to the tile's first input."""
    first, last = script.let(lists.table.load(number)), script.let(lists.table.load(number + 1))
    steps, loaded = row_steps(problem, variant), _row(problem, variant)[0].bytes
    known = {step: tirx.const(step, "int32") if step == loaded else opaque(step) for step in sorted(set(steps))}
    entries = _Entries(variant, lists, _loads(problem, variant), [known[step] for step in steps], x, sums)
    turns = script.let(tirx.truncdiv(last - first, TURN))
    with script.serial(0, turns) as turn:
        _add(entries, script.let(first + turn * TURN), TURN)
    with script.serial(first + turns * TURN, last) as entry:
        _add(entries, entry, 1)


@dataclass(frozen=True)
class _Entries:
    """What the entries of a list have in common: their loads, each with the first of the sums that it is for, and the
    bytes between them."""

    variant: Variant
    lists: Lists
    loads: Sequence[tuple[int, Load]]
    way: Sequence[Any]
    x: Any
    sums: Sequence[Memory]

    @property
    def ahead(self) -> int:
        """How many loads may be ahead of the sums that they are for, as registers allow; 0: as the compiler likes."""
        together = self.variant.together
        if len(self.loads) <= (1 if together == 1 else 2):
            return 0
        sums = together * self.variant.rows * self.variant.vectors
        return 2 if sums + 2 * max(load.vectors for _, load in self.loads) < _BUSY else 1


def _loads(problem: Conv2d, variant: Variant) -> list[tuple[int, Load]]:
    found, first = [], 0
    for load in _row(problem, variant) * variant.rows:
        found.append((first * LANES, load))
        first += load.vectors
    return found


def _add(entries: _Entries, entry: Any, count: int) -> None:
    """Add `count` entries from `entry` on."""
    together, ahead, place = entries.variant.together, entries.ahead, entries.x
    factors = _factors(entries.lists, entry * together, count * together)
    done: list[list[Any]] = []
    for number in range(count):
        place = beyond(place, entries.lists.steps.load(entry + number))
        own = factors[number * together : (number + 1) * together]
        for turn, (first, load) in enumerate(entries.loads):
            if ahead and len(done) >= ahead:
                place = after(place, done[-ahead])
            done.append(_multiply(load(place), own, entries.sums, first))
            if turn < len(entries.way):
                place = beyond(place, entries.way[turn])


def _factors(lists: Lists, first: Any, count: int) -> list[Any]:
    """`count` values from `first` on, each in all lanes of a vector."""
    size = min(count, LANES)
    vectors = [script.keep(lists.values.load(first + at, size)) for at in range(0, count, size)]
    if size == 1:
        return [script.splat(vectors[0], LANES)]
    return [script.splat(script.shuffle([vector], [lane]), LANES) for vector in vectors for lane in range(size)]


def _multiply(values: Sequence[Any], factors: Sequence[Any], sums: Sequence[Memory], first: int) -> list[Any]:
    """Add the products of vectors of x to `sums` from `first` on; returns the last of those, at most MOST_VECTORS."""
    for factor, own in zip(factors, sums, strict=True):
        for vector, value in enumerate(values):
            at = first + vector * LANES
            own.store(at, own.load(at, LANES) + value * factor, LANES)
    totals = [own.load(first + vector * LANES, LANES) for own in sums for vector in range(len(values))]
    return totals[-MOST_VECTORS:]
