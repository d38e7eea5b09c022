"""Which channels, heads or branches to keep: those whose loss costs most for what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FLOOR = 0.25
"""A group of several units keeps at least this share of the density asked for."""

MIXES = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
"""The weights of the share of weights against the share of work, with which the price of a unit is tried."""

Kept = dict[str, np.ndarray]
Share = Callable[[Mapping[str, np.ndarray]], float]
"""From the units kept, by group, to the share of the model that is left."""


@dataclass(frozen=True)
class UnitGroup:
    """Units in the order in which they go, `step` at a time, so that what is left fills vector registers.

    `order` [size] holds their numbers, the least missed first; `errors` what is lost once none, one step, two steps
    and so on are gone, ascending from 0. `macs` and `weights` are the shares of the model in one unit.
    """

    name: str
    order: np.ndarray
    errors: np.ndarray
    macs: float
    weights: float
    step: int = 1


@dataclass(frozen=True)
class _Removal:
    """A run of steps of one group that go together: the steps gone after it, and its error for what it saves."""

    slope: float
    group: int
    steps: int


def step_for(size: int, lanes: int) -> int:
    """How many units of a group of `size` go at a time: whole registers of `lanes` where at least four are there."""
    step = lanes
    while step > 1 and (size < 4 * step or size % step):
        step //= 2
    return step


def keep_units(groups: Sequence[UnitGroup], density: float, share: Share) -> Kept:
    """The units to keep, ascending, of every group that loses some, so that at most `density` of the model is left.

    Steps go in the order of what they lose for what they save, lowest first; how many must go is found by bisection on
    `share`. What a unit saves is a mix of work and weights: of all MIXES the one that loses least in the end counts.
    (The greedy rule of the multiple-choice knapsack: Kellerer, Pferschy, Pisinger 2004, section 11.2.) Where even the
    floors leave more than `density`, they are the result.
    """
    found: list[tuple[bool, float, Kept]] = []
    for mix in MIXES:
        removals = _removals(groups, density, mix)
        gone = _least(groups, removals, density, share)
        kept = _kept(groups, gone)
        lost = sum(float(groups[index].errors[steps]) for index, steps in gone.items())
        found.append((share(kept) > density, lost, kept))
    return min(found, key=lambda each: each[:2])[2]


def _least(groups: Sequence[UnitGroup], removals: Sequence[_Removal], density: float, share: Share) -> dict[int, int]:
    """The steps gone of each group after the fewest removals that leave at most `density`; else after all."""
    low, high = 0, len(removals)
    while low < high:
        middle = (low + high) // 2
        if share(_kept(groups, _gone(removals[:middle]))) <= density:
            high = middle
        else:
            low = middle + 1
    return _gone(removals[:low])


def _removals(groups: Sequence[UnitGroup], density: float, mix: float) -> list[_Removal]:
    """Every removal that may be made, by rising slope: the corners of each group's lower convex hull."""
    removals = []
    for index, group in enumerate(groups):
        price = max(((1 - mix) * group.macs + mix * group.weights) * group.step, 1e-30)
        size = len(group.order)
        floor = max(group.step, round(FLOOR * density * size)) if size > 1 else 0
        last, here = (size - floor) // group.step, 0
        while here < last:
            slopes = (group.errors[here + 1 : last + 1] - group.errors[here]) / (price * np.arange(1, last - here + 1))
            further = int(np.argmin(slopes))
            here += further + 1
            removals.append(_Removal(float(slopes[further]), index, here))
    return sorted(removals, key=lambda removal: (removal.slope, removal.group, removal.steps))


def _gone(removals: Sequence[_Removal]) -> dict[int, int]:
    gone: dict[int, int] = {}
    for removal in removals:
        gone[removal.group] = max(removal.steps, gone.get(removal.group, 0))
    return gone


def _kept(groups: Sequence[UnitGroup], gone: Mapping[int, int]) -> Kept:
    return {
        groups[index].name: np.sort(groups[index].order[steps * groups[index].step :])
        for index, steps in sorted(gone.items())
    }
