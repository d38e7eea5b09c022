"""Units go in the order of what they matter for what they cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.search.units import UnitGroup, keep_units, step_for


def _share(groups: list[UnitGroup]):
    total = sum(group.cost * len(group.scores) for group in groups)

    def share(kept: dict[str, np.ndarray]) -> float:
        return sum(group.cost * len(kept.get(group.name, group.scores)) for group in groups) / total

    return share


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0.3, 1.0))
def test_the_share_is_kept_and_the_lowest_go_first(seed, count, density):
    generator = np.random.default_rng(seed)
    groups = [
        UnitGroup(f"g{index}", generator.random(8 * int(generator.integers(1, 5))), float(generator.random() + 0.1), 4)
        for index in range(count)
    ]
    kept = keep_units(groups, density, _share(groups))
    least = {
        g.name: np.argsort(g.scores)[len(g.scores) - max(4, round(0.25 * density * len(g.scores))) :] for g in groups
    }
    assert _share(groups)(kept) <= density + 1e-9 or _share(groups)(kept) <= _share(groups)(least) + 1e-9
    for group in groups:
        units = kept.get(group.name, np.arange(len(group.scores)))
        gone = np.setdiff1d(np.arange(len(group.scores)), units)
        assert len(gone) % 4 == 0 and len(units) >= 4
        assert not len(gone) or group.scores[gone].max() <= group.scores[units].min()


def test_nothing_goes_where_everything_may_stay():
    groups = [UnitGroup("a", np.ones(8), 1.0)]
    assert keep_units(groups, 1.0, _share(groups)) == {}


def test_a_branch_may_go_whole():
    groups = [UnitGroup("cheap", np.array([0.1]), 1.0), UnitGroup("dear", np.array([9.0]), 1.0)]
    kept = keep_units(groups, 0.5, _share(groups))
    assert list(kept) == ["cheap"] and len(kept["cheap"]) == 0


def test_dear_units_go_before_cheap_ones_of_the_same_score():
    groups = [UnitGroup("cheap", np.ones(8), 1.0), UnitGroup("dear", np.ones(8), 3.0)]
    assert list(keep_units(groups, 0.9, _share(groups))) == ["dear"]


@pytest.mark.parametrize(
    ("size", "lanes", "step"),
    [(64, 8, 8), (32, 8, 8), (16, 8, 4), (12, 8, 2), (10, 8, 2), (3, 8, 1), (1, 8, 1), (24, 16, 4)],
)
def test_steps_fill_registers(size, lanes, step):
    assert step_for(size, lanes) == step
