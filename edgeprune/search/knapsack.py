"""Chooses one option for every layer: a multiple-choice knapsack, solved exactly by HiGHS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from edgeprune.pattern import Level

GAP = 1e-4
"""The relative gap to the optimum at which the solver may stop."""

SECONDS = 20.0
"""The longest that one solution may take; the best found until then counts."""


@dataclass(frozen=True)
class Choice:
    """One option of one layer: what it keeps (None: everything), and what it adds to each quantity."""

    level: Level | None
    quantities: Mapping[str, float]


@dataclass(frozen=True)
class Assignment:
    """An option for every layer, and the sums of their quantities."""

    levels: Mapping[str, Level]
    totals: Mapping[str, float]


def solve(choices: Mapping[str, Sequence[Choice]], minimise: str, limits: Mapping[str, float]) -> Assignment | None:
    """The assignment with the least sum of `minimise` whose other sums keep to `limits`; None where there is none.

    (The multiple-choice knapsack of Kellerer, Pferschy, Pisinger 2004, chapter 11, as an integer program.)
    """
    owners, flat = _flattened(choices)
    if not flat:
        return Assignment({}, {})
    objective = _column(flat, minimise)
    scale = max(float(np.abs(objective).max()), 1e-30)
    result = milp(
        objective / scale,
        constraints=[_one_each(owners, len(choices)), *_limits(flat, limits)],
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": GAP, "time_limit": SECONDS},
    )
    if result.x is None:
        return None
    taken = [_taken(result.x, owners, index) for index in range(len(choices))]
    return _assignment(choices, [flat[place] for place in taken])


def least(choices: Mapping[str, Sequence[Choice]], quantity: str) -> float:
    """The smallest sum of `quantity` that any assignment has."""
    return sum(min(choice.quantities[quantity] for choice in options) for options in choices.values())


def undominated(options: Sequence[Choice], quantities: Sequence[str]) -> list[Choice]:
    """The options that no other beats or equals in every one of `quantities`; of equals the first stays."""
    rows = np.array([[choice.quantities[name] for name in quantities] for choice in options])
    kept = []
    for index, row in enumerate(rows):
        no_worse = (rows <= row).all(axis=1)
        better = no_worse & (rows < row).any(axis=1)
        same_before = no_worse & (rows == row).all(axis=1) & (np.arange(len(rows)) < index)
        if not (better | same_before).any():
            kept.append(options[index])
    return kept


def _flattened(choices: Mapping[str, Sequence[Choice]]) -> tuple[np.ndarray, list[Choice]]:
    owners = [index for index, options in enumerate(choices.values()) for _ in options]
    return np.array(owners, np.int64), [choice for options in choices.values() for choice in options]


def _column(flat: Sequence[Choice], quantity: str) -> np.ndarray:
    return np.array([choice.quantities[quantity] for choice in flat], np.float64)


def _one_each(owners: np.ndarray, layers: int) -> LinearConstraint:
    matrix = csr_matrix((np.ones(len(owners)), (owners, np.arange(len(owners)))), shape=(layers, len(owners)))
    return LinearConstraint(matrix, 1, 1)


def _limits(flat: Sequence[Choice], limits: Mapping[str, float]) -> list[LinearConstraint]:
    """One row a limit, scaled to 1 so that the solver's tolerances mean the same for bytes and milliseconds."""
    rows = []
    for name, limit in limits.items():
        scale = max(abs(limit), float(np.abs(_column(flat, name)).max()), 1e-30)
        rows.append(LinearConstraint(_column(flat, name)[None] / scale, -np.inf, limit / scale))
    return rows


def _taken(solution: np.ndarray, owners: np.ndarray, layer: int) -> int:
    places = np.flatnonzero(owners == layer)
    return int(places[np.argmax(solution[places])])


def _assignment(choices: Mapping[str, Sequence[Choice]], taken: Sequence[Choice]) -> Assignment:
    levels = {name: choice.level for name, choice in zip(choices, taken, strict=True) if choice.level is not None}
    names = set().union(*(choice.quantities for choice in taken))
    totals = {name: float(sum(choice.quantities.get(name, 0.0) for choice in taken)) for name in sorted(names)}
    return Assignment(levels, totals)
