"""Which channels, heads or branches to keep: those that matter most for what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FLOOR = 0.25
"""A group of several units keeps at least this share of the density asked for."""

Share = Callable[[Mapping[str, np.ndarray]], float]
"""From the units kept, by group, to the share of the model that is left."""


@dataclass(frozen=True)
class UnitGroup:
    """Units that can go one by one: how much each matters, [size], and the share of the model's cost in one unit.

    Units go `step` at a time, so that what is left fills vector registers.
    """

    name: str
    scores: np.ndarray
    cost: float
    step: int = 1


def step_for(size: int, lanes: int) -> int:
    """How many units of a group of `size` go at a time: whole registers of `lanes` where at least four are there."""
    step = lanes
    while step > 1 and (size < 4 * step or size % step):
        step //= 2
    return step


def keep_units(groups: Sequence[UnitGroup], density: float, share: Share) -> dict[str, np.ndarray]:
    """The units to keep, ascending, of every group that loses some, so that at most `density` of the model is left.

    Steps of units go in the order of what they matter for what they cost, lowest first; how many must go is found
    by bisection on `share`. Where even the floors leave more than `density`, they are the result.
    """
    order = _order(groups, density)
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if share(_kept(groups, order[:middle])) <= density:
            high = middle
        else:
            low = middle + 1
    return _kept(groups, order[:low])


def _order(groups: Sequence[UnitGroup], density: float) -> list[tuple[int, int]]:
    """Every step that may go, as (group, number of units gone after it), by rising score for cost."""
    steps = []
    for index, group in enumerate(groups):
        size = len(group.scores)
        floor = max(group.step, round(FLOOR * density * size)) if size > 1 else 0
        ranked = np.sort(group.scores)
        worst = 0.0
        for gone in range(group.step, size - floor + 1, group.step):
            worth = float(ranked[gone - group.step : gone].sum()) / max(group.cost * group.step, 1e-30)
            worst = max(worst, worth)
            steps.append((worst, index, gone))
    return [(index, gone) for _, index, gone in sorted(steps)]


def _kept(groups: Sequence[UnitGroup], steps: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    gone: dict[int, int] = {}
    for index, count in steps:
        gone[index] = max(count, gone.get(index, 0))
    return {
        groups[index].name: np.sort(np.argsort(groups[index].scores, kind="stable")[count:])
        for index, count in sorted(gone.items())
    }
