"""Tables of one layout: what a model of fewer channels costs, and the best of several tables."""

from __future__ import annotations

import pytest

from edgeprune.pattern import Level, parse_pattern
from edgeprune.search.candidates import QUANTITIES, LayoutTable, best_of
from edgeprune.search.knapsack import Choice

HALF = Level(parse_pattern("1x1"), 0.5)


def quantities(error: float, latency: float) -> dict[str, float]:
    return {"error": error, "latency": latency, "size": 100 * latency, "energy": latency / 10}


def table() -> LayoutTable:
    """Two layers of 10 and 6 microseconds, 4 beside them; half of a layer's weights take 0.6 of its time."""
    choices = {
        "a": [Choice(None, quantities(0.0, 10.0)), Choice(HALF, quantities(3.0, 6.0))],
        "b": [Choice(None, quantities(0.0, 6.0)), Choice(HALF, quantities(1.0, 3.6))],
    }
    return LayoutTable("channels", choices, {"error": 0.0, "latency": 4.0, "size": 50.0, "energy": 1.0})


def test_fewer_channels_cost_their_shares_and_what_was_lost():
    thinned = table().thinned(3, {"a": 0.5}, 0.75, 2.0)
    assert thinned.start == 3 and table().start == 0
    assert table().dense == {"error": 0.0, "latency": 20.0, "size": 1650.0, "energy": 2.6}
    assert thinned.dense == pytest.approx({"error": 2.0, "latency": 14.0, "size": 1150.0, "energy": 1.85})
    assert [choice.quantities["error"] for choice in thinned.choices["a"]] == [0.0, 3.0]
    assert set(thinned.fixed) == set(QUANTITIES)


def test_the_best_of_several_tables():
    whole = table()
    tables = [whole, whole.thinned(1, {"a": 0.5, "b": 0.5}, 0.5, 2.5)]
    for limit, error, start in ((20.0, 0.0, 0), (17.6, 1.0, 0), (16.5, 2.5, 1), (8.9, 3.5, 1)):
        found = best_of(tables, "error", {"latency": limit})
        assert found is not None
        assignment, best = found
        assert (assignment.totals["error"], best.start) == (pytest.approx(error), start)
        assert assignment.totals["latency"] <= limit
    assert best_of(tables, "error", {"latency": 1.0}) is None


def test_errors_may_be_scaled():
    whole = table().thinned(1, {}, 1.0, 2.0)
    scaled = whole.scaled("error", 3.0)
    assert scaled.dense == pytest.approx({**whole.dense, "error": 6.0})
    assert [each.quantities["error"] for each in scaled.choices["a"]] == pytest.approx(
        [3.0 * each.quantities["error"] for each in whole.choices["a"]]
    )
    assert scaled.start == 1


def test_what_is_there_in_any_case_may_be_shifted():
    whole = table()
    assert whole.shifted("size", -50.0).dense == pytest.approx({**whole.dense, "size": whole.dense["size"] - 50.0})
