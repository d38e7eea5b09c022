"""The kinds of entries that a block has: a loop goes through those of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.kernels.integer.dot import VECTORS, Idiom

CHANNELS = 4
"""Of a vector of sums of chains."""

_COMMON = 0.75
_COMMON_SHORT = 1.5
"""Entries of a kind in an average block that are worth a loop of their own."""


@dataclass(frozen=True)
class Kind:
    """Entries of as many `words`, read from `places` in x; chains of the vectors `short` are half as long."""

    words: int = 1
    short: tuple[int, ...] = ()
    places: int = 1

    def holds(self, other: Kind) -> bool:
        """Whether the entries of `other` may be among these."""
        return self.places == other.places and self.words >= other.words and {*self.short} >= {*other.short}


def known_kinds(outputs: int, mode: str, idiom: Idiom) -> list[Kind]:
    """The kinds that blocks of `outputs` channels may have, in the order of `entries.sections`."""
    if mode not in VECTORS:
        return [Kind(), Kind(places=2)] if mode == "pairs" else [Kind()]
    words = idiom.words(mode)
    fewer = [Kind(count) for count in range(words - 1, 0, -1)]
    return [*(Kind(words, short) for short in (short_chains(outputs) if idiom.chained else [()])), *fewer]


def short_chains(outputs: int) -> list[tuple[int, ...]]:
    """The vectors of `outputs` channels whose chains are half as long: none, any single one, all."""
    vectors = -(-outputs // CHANNELS)
    singles = [(vector,) for vector in range(vectors)] if vectors > 1 else []
    return [(), *singles, tuple(range(vectors))]


def common_kinds(counts: np.ndarray, known: Sequence[Kind]) -> tuple[Kind, ...]:
    """The kinds worth a loop of their own, which hold all others; `counts` [..., known] are entries of blocks.

    The first one has most entries; where there are pairs, those that are none come first.
    """
    average = dict(zip(known, counts.reshape(-1, len(known)).mean(0).tolist(), strict=True))
    if known[-1].places > 1:
        return tuple(known) if average[known[-1]] else (known[0],)
    chosen = [kind for kind in known if average[kind] >= (_COMMON_SHORT if kind.short else _COMMON)]
    longest = max(known, key=lambda kind: len(kind.short))
    for kind in sorted(known, key=lambda kind: (-len(kind.short), -kind.words)):
        if average[kind] and not any(other.holds(kind) for other in chosen):
            chosen.append(longest if kind.short else kind)
    chosen = chosen or [known[0]]
    kept = counts_by_kind(counts, known, chosen).reshape(-1, len(chosen)).sum(0)
    order = sorted(range(len(chosen)), key=lambda number: (-kept[number], known.index(chosen[number])))
    return tuple(chosen[number] for number in order)


def counts_by_kind(counts: np.ndarray, known: Sequence[Kind], kinds: Sequence[Kind]) -> np.ndarray:
    """`counts` [..., known] of `kinds`, each with the entries of those that it holds."""
    found = np.zeros((*counts.shape[:-1], len(kinds)), counts.dtype)
    for number, kind in enumerate(known):
        if counts[..., number].any():
            found[..., holder(kind, kinds)] += counts[..., number]
    return found


def holder(kind: Kind, kinds: Sequence[Kind]) -> int:
    """The number of that of `kinds` which takes the entries of `kind` at the least cost."""
    able = [number for number, other in enumerate(kinds) if other.holds(kind)]
    return min(able, key=lambda number: (kinds[number].words, len(kinds[number].short)))


def heir(kinds: Sequence[Kind]) -> int | None:
    """The number of a kind that takes single entries of the first, where those come in pairs; none may."""
    return next((number for number, kind in enumerate(kinds) if number and kind.holds(kinds[0])), None)
