"""The solver against every assignment there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.pattern import Level, Pattern
from edgeprune.search.knapsack import Choice, least, solve, undominated


def _random_choices(seed: int, layers: int, options: int) -> dict[str, list[Choice]]:
    generator = np.random.default_rng(seed)
    return {
        f"layer{layer}": [
            Choice(
                None if option == 0 else Level(Pattern(1, 16), 1 / (option + 1)),
                {
                    "error": float(generator.random()),
                    "latency": float(generator.random() * 100),
                    "size": float(generator.integers(1, 100000)),
                },
            )
            for option in range(options)
        ]
        for layer in range(layers)
    }


def _every(choices: dict[str, list[Choice]]) -> list[dict[str, float]]:
    return [
        {name: sum(choice.quantities[name] for choice in taken) for name in ("error", "latency", "size")}
        for taken in itertools.product(*choices.values())
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4), st.floats(0.05, 1.2), st.floats(0.2, 1.2))
def test_the_solution_is_the_best_of_all(seed, layers, options, latency_share, size_share):
    choices = _random_choices(seed, layers, options)
    limits = {"latency": latency_share * 50 * layers, "size": size_share * 50000 * layers}
    within = [sums for sums in _every(choices) if all(sums[name] <= limit for name, limit in limits.items())]
    found = solve(choices, "error", limits)
    if not within:
        assert found is None
        return
    assert found is not None
    best = min(sums["error"] for sums in within)
    assert found.totals["error"] == pytest.approx(best, rel=1e-3)
    assert all(found.totals[name] <= limit * (1 + 1e-6) for name, limit in limits.items())


def test_totals_are_those_of_the_levels_taken():
    choices = _random_choices(3, 4, 5)
    found = solve(choices, "latency", {"error": 1.5})
    assert found is not None
    for name in ("error", "latency", "size"):
        taken = [
            next(choice for choice in options if choice.level == found.levels.get(layer))
            for layer, options in choices.items()
        ]
        assert found.totals[name] == pytest.approx(sum(choice.quantities[name] for choice in taken))


def test_nothing_to_choose():
    found = solve({}, "error", {"latency": 1.0})
    assert found is not None and found.levels == {}


def test_least_is_the_floor_of_every_assignment():
    choices = _random_choices(5, 4, 3)
    assert least(choices, "latency") == pytest.approx(min(sums["latency"] for sums in _every(choices)))
    assert solve(choices, "error", {"latency": least(choices, "latency") * 0.99}) is None


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_an_option_goes_only_if_another_is_no_worse(seed, options):
    generator = np.random.default_rng(seed)
    given_options = [
        Choice(None, {"error": float(generator.integers(4)), "latency": float(generator.integers(4))})
        for _ in range(options)
    ]
    kept = undominated(given_options, ("error", "latency"))
    pairs = [(choice.quantities["error"], choice.quantities["latency"]) for choice in given_options]
    for choice in given_options:
        error, latency = choice.quantities["error"], choice.quantities["latency"]
        assert any(other.quantities["error"] <= error and other.quantities["latency"] <= latency for other in kept)
    assert len({tuple(choice.quantities.values()) for choice in kept}) == len(kept)
    front = {pair for pair in pairs if not any(o != pair and o[0] <= pair[0] and o[1] <= pair[1] for o in pairs)}
    assert {(c.quantities["error"], c.quantities["latency"]) for c in kept} == front


def test_quantities_of_very_different_size_do_not_disturb_each_other():
    choices = {
        f"layer{index}": [
            Choice(None, {"error": 0.0, "latency": 1e-3, "size": 4e8}),
            Choice(Level(Pattern(), 0.5), {"error": 1e-9, "latency": 6e-4, "size": 2e8}),
        ]
        for index in range(6)
    }
    found = solve(choices, "error", {"size": 2.0e9})
    assert found is not None
    assert math.isclose(found.totals["size"], 2.0e9) and len(found.levels) == 2
