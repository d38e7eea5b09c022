"""Rounding of one layer's weights against brute force, and what reconstruction does to small networks."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_samples, small_network
from test_quantize import error, pruned

from edgeprune.errors import EdgepruneError
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.quantize.quantize import Quantize
from edgeprune.passes.quantize.rounding import round_together, settle
from edgeprune.passes.quantize.weights import largest_scale, least_squares_scale, nearest, widened


def moments(rng: np.random.Generator, size: int) -> np.ndarray:
    rows = rng.standard_normal((4 * size, size)) @ rng.standard_normal((size, size))
    return rows.T @ rows / len(rows) + 1e-3 * np.eye(size)


def cost(whole: np.ndarray, weights: np.ndarray, second: np.ndarray, scale: np.ndarray) -> np.ndarray:
    apart = whole * scale - weights
    return np.einsum("fo,fg,go->o", apart, second, apart)


def best(weights: np.ndarray, second: np.ndarray, scale: float, mask: np.ndarray, reach: int) -> float:
    """The least cost of one column over all whole numbers at most `reach` beyond its weights."""
    around = [
        range(int(np.floor(w / scale)) - reach, int(np.ceil(w / scale)) + reach + 1) if m else (0,)
        for w, m in zip(weights, mask, strict=True)
    ]
    return min(
        float((np.array(q) * scale - weights) @ second @ (np.array(q) * scale - weights))
        for q in itertools.product(*around)
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 4), density=st.sampled_from([0.6, 1.0]))
def test_tiny_columns_are_close_to_the_best_there_is(seed: int, size: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    second, weights = moments(rng, size), rng.standard_normal((size, 3))
    mask = rng.random((size, 3)) < density
    weights *= mask
    scale = np.full(3, 0.37)
    found = round_together(weights, second, scale, mask)
    assert not found[~mask].any()
    ours, plain = (cost(q, weights, second, scale) for q in (found, np.rint(weights / scale)))
    for column in range(3):
        reach = max(1, int(np.abs(found - weights / scale)[:, column].max()))
        least = best(weights[:, column], second, 0.37, mask[:, column], reach)
        assert ours[column] >= least - 1e-9
        assert ours[column] <= plain[column] + 1e-9


def test_most_tiny_columns_get_the_best_there_is() -> None:
    rng = np.random.default_rng(0)
    second, weights = moments(rng, 4), rng.standard_normal((4, 40))
    scale = np.full(40, 0.5)
    everything = np.ones(weights.shape, bool)
    ours = cost(round_together(weights, second, scale, everything), weights, second, scale)
    plain = cost(np.rint(weights / scale), weights, second, scale)
    least = np.array([best(weights[:, c], second, 0.5, everything[:, c], 2) for c in range(40)])
    found = [float(np.mean(costs <= least + 1e-9)) for costs in (ours, plain)]
    assert found[0] > 0.5 > found[1] + 0.1, found


@pytest.mark.parametrize("size", [1, 17, 300])
def test_large_columns_cost_less_than_the_nearest(size: int) -> None:
    rng = np.random.default_rng(size)
    second, weights = moments(rng, size), rng.standard_normal((size, 9))
    mask = np.repeat(rng.random((size, 3)) < 0.5, 3, axis=1)
    weights *= mask
    scale = np.full(9, 0.1)
    found = round_together(weights, second, scale, mask)
    assert not found[~mask].any()
    np.testing.assert_array_equal(found, np.rint(found))
    ours, plain = (cost(q, weights, second, scale) for q in (found, np.rint(weights / scale)))
    assert (ours <= plain * (1 + 1e-9)).all()
    if size > 1:
        assert ours.sum() < 0.8 * plain.sum()


def test_settling_never_costs_more_and_ends_where_no_step_helps() -> None:
    rng = np.random.default_rng(3)
    second, weights = moments(rng, 20), rng.standard_normal((20, 5))
    scale = np.full(5, 0.3)
    start = np.rint(weights / scale)
    found = settle(start, weights, second, scale, steps=1000)
    ours = cost(found, weights, second, scale)
    assert (ours <= cost(start, weights, second, scale) + 1e-12).all()
    for row, step in itertools.product(range(20), (-1, 1)):
        moved = found.copy()
        moved[row] += step
        assert (cost(moved, weights, second, scale) >= ours - 1e-9).all()


def test_numbers_stay_within_bounds_and_inputs_without_power_are_rounded() -> None:
    weights = np.array([[127.4, -140.0], [0.4, 1.6]])
    everything = np.ones((2, 2), bool)
    found = round_together(weights, np.eye(2), np.ones(2), everything)
    np.testing.assert_array_equal(found, [[127, -127], [0, 2]])
    np.testing.assert_array_equal(round_together(weights, np.zeros((2, 2)), np.ones(2), everything), found)


def test_scale_with_the_least_squared_error() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_t(2, (2, 3, 5, 4)).astype(np.float32)
    weight[1, :, :, 2] = 0
    found, full = least_squares_scale(weight), largest_scale(weight)
    assert found.shape == (2, 1, 1, 4)
    assert found[1, 0, 0, 2] == 1
    errors = [np.square(nearest(weight, scale).real() - weight).sum(axis=(1, 2)) for scale in (found, full)]
    assert (errors[0] <= errors[1]).all()
    assert (np.abs(nearest(weight, full).integers).max(axis=(1, 2))[weight.any(axis=(1, 2))] == 127).all()


def test_scale_grows_for_a_bias_of_more_than_32_bits() -> None:
    scale = np.full((1, 1, 1, 2), 1e-9, np.float32)
    found = widened(scale, np.array([1e-3, 100.0], np.float32), 1e-3).reshape(-1)
    assert found[0] == np.float32(1e-9)
    assert 100 / (float(found[1]) * 1e-3) <= (1 << 30) * 1.001


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_reconstruction_is_closer_than_rounding(density: float) -> None:
    rows, ratios = random_samples(120), []
    for seed in range(3):
        model = small_network(seed) if density == 1 else pruned(small_network(seed), density)
        plain = Quantize("minmax", "nearest", equalize=False, correct_bias=False)(model, rows)
        found = Quantize("minmax", "obq", equalize=False)(model, rows)
        ratios.append(error(found, model, rows) / error(plain, model, rows))
    assert np.mean(ratios) < 0.85


def test_zeros_stay_under_reconstruction() -> None:
    model = pruned(small_network(1), 0.4, "1x1")
    found = with_real_weights(Quantize("mse", "obq")(model, random_samples(50)))
    for before, after in zip(weighted_layers(model), weighted_layers(found), strict=True):
        assert not read_weight(after)[read_weight(before) == 0].any()


def test_bias_makes_up_for_the_mean_error() -> None:
    model, rows = small_network(6), random_samples(200)
    found = Quantize("minmax", "nearest", equalize=False)(model, rows)
    plain = Quantize("minmax", "nearest", equalize=False, correct_bias=False)(model, rows)
    apart = [np.abs(np.mean(_outputs(each, rows) - _outputs(model, rows), axis=0)).max() for each in (found, plain)]
    assert apart[0] < 0.5 * apart[1]


def _outputs(model: ir.Model, rows) -> np.ndarray:  # type: ignore[no-untyped-def]
    from test_quantize import outputs

    return outputs(model, rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rounding": "up"}, "rounding 'up' is not known"), ({"calibration": "men"}, "calibration 'men' is not known")],
)
def test_names_that_mean_nothing_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(EdgepruneError, match=message) as caught:
        Quantize(**options)  # type: ignore[arg-type]
    assert caught.value.code == "option-range"
