"""Extents of grids against numpy on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_samples, small_network
from scipy.special import rel_entr

from edgeprune.ir.quantization import grid_between
from edgeprune.ir.segments import SegmentedRun
from edgeprune.passes.quantize.clipping import METHODS, divergence, grid_for, percentile
from edgeprune.passes.quantize.histograms import BINS, Histogram, histograms
from edgeprune.passes.quantize.placement import place


def histogram(values: np.ndarray) -> Histogram:
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0].astype(float))


def squares(values: np.ndarray, low: float, high: float) -> float:
    return float(np.mean(np.square(grid_between(low, high).rounded(values) - values)))


def drawn(seed: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, 20000) if kind != "normal" else rng.standard_normal(20000)
    return np.maximum(values, 0) if kind == "rectified" else values


@pytest.mark.parametrize("kind", ["normal", "tails", "rectified"])
def test_least_squares_is_close_to_the_best_of_all_extents(kind: str) -> None:
    values = drawn(1, kind)
    grid = grid_for(histogram(values), "mse")
    found = float(np.mean(np.square(grid.rounded(values) - values)))
    shares = np.linspace(0.03, 1, 80)
    low, high = min(0.0, values.min()), max(0.0, values.max())
    best = min(squares(values, low * a, high * b) for a in shares for b in shares)
    assert found <= 1.1 * best
    assert found <= squares(values, low, high)


@pytest.mark.parametrize("kind", ["normal", "tails", "rectified"])
@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9])
def test_percentile_leaves_out_what_it_says_to_one_part(kind: str, percent: float) -> None:
    values = drawn(2, kind)
    low, high = percentile(histogram(values), percent)
    width = 1.001 * (values.max() - values.min()) / BINS
    tail = (100 - percent) / (100.0 if kind == "rectified" else 200)
    assert np.mean(values > high) <= tail + 1e-9 <= 1e-8 + np.mean(values >= high - width)
    if kind == "rectified":
        assert low == 0
    else:
        assert np.mean(values < low) <= tail + 1e-9 <= 1e-8 + np.mean(values <= low + width)


def test_divergence_by_the_definition_on_a_small_case() -> None:
    counts = np.arange(1.0, 513.0)
    found = divergence(Histogram(0.0, 512.0, counts), 0.0, 256.0)
    counts[0] = min(counts[0], counts[1])
    reference = counts[:256].copy()
    reference[-1] += counts[256:].sum()
    wanted = rel_entr(reference / reference.sum(), counts[:256] / counts[:256].sum()).sum()
    assert found == pytest.approx(wanted, rel=1e-9)


def test_entropy_cuts_a_long_tail_and_keeps_a_short_one() -> None:
    rng = np.random.default_rng(0)
    flat = np.concatenate([rng.uniform(-1, 1, 50000), [-1.0, 1.0]])
    tail = np.concatenate([np.abs(rng.standard_normal(50000)), [60.0]])
    assert grid_for(histogram(flat), "entropy").scale == pytest.approx(2 / 255, rel=0.05)
    assert 3 < grid_for(histogram(tail), "entropy").scale * 255 < 40


@settings(max_examples=25)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    method=st.sampled_from(METHODS),
    given=st.booleans(),
)
def test_any_values_have_a_grid_that_holds_zero(values: list[float], method: str, given: bool) -> None:
    array = np.array(values)
    counted = histogram(array)
    grid = grid_for(Histogram(counted.low, counted.high, counted.counts, given), method)
    assert grid.rounded(np.zeros(1))[0] == 0
    assert 0 < grid.scale <= 1.3 * max(1.0, (counted.high - counted.low) / 255)


def test_inputs_of_the_model_are_not_cut() -> None:
    values = drawn(1, "tails")
    counted = histogram(values)
    outside = Histogram(counted.low, counted.high, counted.counts, given=True)
    for method in METHODS:
        assert grid_for(outside, method) == grid_between(counted.low, counted.high)


def test_histograms_count_what_the_network_computes() -> None:
    model, rows = small_network(), random_samples(9)
    placement = place(model)
    found = histograms(model, placement, rows)
    run = SegmentedRun(model, rows)
    for index in range(len(list(model.graph))):
        run.advance(index)
        for point in placement.points:
            values = run.held(point.value)
            if values is None:
                continue
            counted = found[point.grid]
            low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
            assert (counted.low, counted.high) == pytest.approx((low, high), rel=1e-5)
            wanted = np.histogram(values, BINS, (counted.low, counted.high))[0]
            assert counted.counts.sum() == wanted.sum()
            assert np.abs(np.cumsum(counted.counts) - np.cumsum(wanted)).max() <= 0.01 * wanted.sum()
