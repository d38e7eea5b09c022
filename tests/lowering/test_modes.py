"""The choice of layouts, against every assignment of small graphs."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.lowering.modes import cheapest

nodes = st.integers(1, 6)
cycles = st.integers(0, 50)


def total(modes, costs, edges) -> float:
    return sum(costs[key][modes[key]] for key in costs) + sum(c for a, b, c in edges if modes[a] != modes[b])


@given(st.data(), nodes)
def test_no_assignment_is_cheaper(data: st.DataObject, count: int) -> None:
    costs = {key: {"channels": data.draw(cycles), "pixels": data.draw(cycles)} for key in range(count)}
    pairs = [(left, right) for right in range(count) for left in range(right)]
    edges = [(*pair, data.draw(cycles)) for pair in pairs if data.draw(st.booleans())]
    found = cheapest(costs, edges)
    best = min(total(dict(enumerate(choice)), costs, edges) for choice in product(("channels", "pixels"), repeat=count))
    assert total(found, costs, edges) == best


def test_large_costs_do_not_overflow() -> None:
    costs = {key: {"channels": 4e9 * (key + 1), "pixels": 1e9} for key in range(8)}
    edges = [(key, key + 1, 5e8) for key in range(7)]
    assert set(cheapest(costs, edges).values()) == {"pixels"}


def test_a_dear_change_keeps_neighbours_together() -> None:
    costs = {1: {"channels": 0.0, "pixels": 100.0}, 2: {"channels": 60.0, "pixels": 0.0}}
    assert cheapest(costs, [(1, 2, 1000.0)]) == {1: "channels", 2: "channels"}
    assert cheapest(costs, [(1, 2, 1.0)]) == {1: "channels", 2: "pixels"}
    assert pytest.approx(0.0) == total(cheapest(costs, []), costs, [])
