"""Cost tables: interpolation, sums, and layouts against every choice of small tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import EdgepruneError
from edgeprune.pattern import Level, parse_pattern
from edgeprune.search.costs import Change, CostTable, LayerCost, LayoutCosts, layout_of, layouts_of, mixed

BLOCK, SINGLE = parse_pattern("1x16"), parse_pattern("1x1")


def row(layer: str, pattern: str, dense: float) -> LayerCost:
    shares = (0.1, 0.25, 0.5, 1.0)
    return LayerCost(layer, pattern, shares, tuple(dense * s for s in shares), tuple(round(400 * s) for s in shares))


def view(layout: str, pattern: str, dense: dict[str, float], fixed: float) -> LayoutCosts:
    rows = {name: {pattern: row(name, pattern, time)} for name, time in dense.items()}
    whole = {name: LayerCost(name, "1x1", (1.0,), (time,), (400,)) for name, time in dense.items()}
    return LayoutCosts(layout, rows, whole, fixed, 64, 1000)


def table(channels: dict[str, float], pixels: dict[str, float], changes: list[Change]) -> CostTable:
    views = (view("channels", "1x16", channels, 12.0), view("pixels", "1x1", pixels, 14.0))
    return CostTable("t", "measured", 1, (*views, mixed(*views, tuple(changes))), {"pool": (2.0, 4.0)}, tuple(changes))


def test_a_row_is_linear_between_its_entries() -> None:
    cost = LayerCost("a", "1x16", (0.25, 0.5, 1.0), (3.0, 4.0, 10.0), (100, 150, 350))
    assert [cost.at(d) for d in (0.25, 0.375, 0.5, 0.75, 1.0)] == [3.0, 3.5, 4.0, 7.0, 10.0]
    assert cost.at(0.125) == pytest.approx(2.5)
    assert cost.bytes_at(0.75) == 250
    assert LayerCost("a", "1x1", (1.0,), (5.0,), (10,)).at(0.3) == 5.0
    assert LayerCost("a", "1x1", (0.5, 1.0), (1.0, 9.0), (10, 20)).at(0.1) == 0.0


def test_costs_add_up_and_unnamed_layers_are_dense() -> None:
    costs = view("channels", "1x16", {"a": 10.0, "b": 20.0}, fixed=5.0)
    assert costs.total({}) == 35.0
    assert costs.total({"a": Level(BLOCK, 0.25)}) == pytest.approx(5 + 2.5 + 20)
    assert costs.total({"b": Level(SINGLE, 0.25)}) == 35.0
    assert costs.size({"a": Level(BLOCK, 0.25)}) == 1000 + 64 + 100 + 400


def test_only_scattered_zeros_bring_planar_images() -> None:
    costs = table({"a": 10.0, "b": 10.0}, {"a": 1.0, "b": 1.0}, [])
    assert costs.planar({"a": Level(BLOCK, 0.1)}) == set()
    assert costs.planar({"a": Level(SINGLE, 1.0)}) == set()
    assert costs.total({}) == costs.dense_us == 32.0
    assert costs.planar({"a": Level(SINGLE, 0.5)}) >= {"a", "b"}


times = st.floats(0.5, 50)


@given(st.lists(times, min_size=6, max_size=6), st.lists(st.floats(0, 9), min_size=4, max_size=4), st.data())
def test_the_layouts_found_are_the_best_of_all(figures, tolls, data) -> None:
    names = ("a", "b", "c")
    channels, pixels = dict(zip(names, figures[:3], strict=True)), dict(zip(names, figures[3:], strict=True))
    changes = [Change("a", "b", tolls[0], tolls[1]), Change("b", "pool", tolls[2], tolls[3])]
    costs = table(channels, pixels, changes)
    density = data.draw(st.sampled_from((0.1, 0.25, 0.5)))
    assignment = {name: Level(SINGLE, density) for name in data.draw(st.sets(st.sampled_from(names), min_size=1))}
    best = np.inf
    for planar in product((False, True), repeat=4):
        at = dict(zip((*names, "pool"), planar, strict=True))
        own = sum((pixels[n] * (density if n in assignment else 1)) if at[n] else channels[n] for n in names) + (
            4.0 if at["pool"] else 2.0
        )
        for change in changes:
            own += change.to_pixels * (at[change.reader] and not at[change.source])
            own += change.to_channels * (at[change.source] and not at[change.reader])
        best = min(best, own)
    assert costs.total(assignment) == pytest.approx(best + 10.0, abs=1e-4)


def test_the_mixed_view_pays_half_of_its_changes_and_is_never_slower_than_dense() -> None:
    costs = table({"a": 10.0, "b": 10.0}, {"a": 12.0, "b": 12.0}, [Change("a", "b", 2.0, 1.0)])
    last = costs.view("mixed")
    assert last is not None
    assert last.time_us("a", Level(SINGLE, 0.25)) == pytest.approx(3.5)
    assert last.time_us("b", Level(SINGLE, 0.25)) == pytest.approx(4.0)
    assert last.time_us("b", Level(SINGLE, 1.0)) == 10.0
    assert last.time_us("b", Level(BLOCK, 0.25)) == pytest.approx(2.5)


def test_sizes_follow_the_layouts() -> None:
    costs = table({"a": 10.0, "b": 10.0}, {"a": 1.0, "b": 100.0}, [])
    assert costs.planar({"a": Level(SINGLE, 0.5)}) == {"a"}
    assert costs.size({"a": Level(SINGLE, 0.5)}) == 1000 + 64 + 200 + 400


def test_an_unknown_layer_is_named_with_the_nearest() -> None:
    costs = table({"conv1": 1.0}, {"conv1": 1.0}, [])
    with pytest.raises(EdgepruneError) as caught:
        costs.total({"conv2": Level(SINGLE, 0.5)})
    assert str(caught.value) == (
        "the cost table has no layer 'conv2' [layer-unknown]\n  where: conv2\n  hint:  did you mean conv1?"
    )


def test_patterns_by_the_layout_they_need() -> None:
    assert layout_of(parse_pattern("2:4")) == "pixels"
    assert layout_of(parse_pattern("4x8")) == "channels"
    found = layouts_of(("1x1", "1x8", "1x16", "channel"))
    assert {name: [str(p) for p in patterns] for name, patterns in found.items()} == {
        "channels": ["1x8", "1x16"],
        "pixels": ["1x1"],
    }
    assert list(layouts_of(("1x1",))) == ["channels", "pixels"]
