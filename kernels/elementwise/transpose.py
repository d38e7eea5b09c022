"""Square blocks of vectors turned about their diagonal, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.vector_math import lanes_of


def transposed(rows: Sequence[Any]) -> list[Any]:
    """The columns of a square block of 1, 2, 4 or 8 rows, by unpacking neighbours, then pairs, then halves."""
    count = len(rows)
    if count == 1:
        return list(rows)
    if count == 2:
        return [_pick(rows, [0, 2]), _pick(rows, [1, 3])]
    upper = _quarter(rows[:4])
    if count == 4:
        return upper
    lower = _quarter(rows[4:])
    halves = ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])
    return [_pick(pair, order) for order in halves for pair in zip(upper, lower, strict=True)]


def _quarter(rows: Sequence[Any]) -> list[Any]:
    """Four rows of 4 or 8 lanes: each run of four lanes transposed by itself."""
    lanes = lanes_of(rows[0])
    runs = range(0, lanes, 4)
    low = [position for run in runs for position in (run, lanes + run, run + 1, lanes + run + 1)]
    high = [position + 2 for position in low]
    first = [position for run in runs for position in (run, run + 1, lanes + run, lanes + run + 1)]
    second = [position + 2 for position in first]
    pairs = [_pick(rows[:2], low), _pick(rows[2:], low), _pick(rows[:2], high), _pick(rows[2:], high)]
    return [
        _pick(pairs[:2], first),
        _pick(pairs[:2], second),
        _pick(pairs[2:], first),
        _pick(pairs[2:], second),
    ]


def _pick(vectors: Sequence[Any], order: Sequence[int]) -> Any:
    return script.let(script.shuffle(vectors, order))
