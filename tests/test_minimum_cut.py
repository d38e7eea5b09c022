"""The labels of the smallest cut, against every labelling of small graphs."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from edgeprune.minimum_cut import cheapest

nodes = st.integers(1, 6)
figures = st.integers(0, 50)


def total(second: set[int], costs: dict[int, tuple[float, float]], edges: list[tuple[int, int, float, float]]) -> float:
    own = sum(pair[key in second] for key, pair in costs.items())
    cut = 0.0
    for left, right, forth, back in edges:
        cut += forth * (left not in second and right in second) + back * (left in second and right not in second)
    return own + cut


@given(st.data(), nodes)
def test_no_labelling_is_cheaper(data: st.DataObject, count: int) -> None:
    costs = {key: (data.draw(figures), data.draw(figures)) for key in range(count)}
    pairs = [(left, right) for right in range(count) for left in range(right)]
    edges = [(*pair, data.draw(figures), data.draw(figures)) for pair in pairs if data.draw(st.booleans())]
    choices = product((False, True), repeat=count)
    best = min(total({key for key in costs if choice[key]}, costs, edges) for choice in choices)
    assert abs(total(cheapest(costs, edges), costs, edges) - best) < 1e-4


def test_large_costs_do_not_overflow() -> None:
    costs = {key: (4e9 * (key + 1), 1e9) for key in range(8)}
    assert cheapest(costs, [(key, key + 1, 5e8, 5e8) for key in range(7)]) == set(costs)


def test_a_dear_change_keeps_neighbours_together() -> None:
    costs = {1: (0.0, 100.0), 2: (60.0, 0.0)}
    assert cheapest(costs, [(1, 2, 1000.0, 0.0)]) == set()
    assert cheapest(costs, [(1, 2, 1.0, 0.0)]) == {2}
    assert cheapest(costs, []) == {2}


def test_nothing_has_no_labels() -> None:
    assert cheapest({}, []) == set()
