from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder, random_samples, small_network

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.copy import copy_model
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.passes.correct_statistics import CorrectStatistics
from edgeprune.passes.prune import Prune
from edgeprune.pattern import Level, parse_pattern


def pruned(model: ir.Model, density: float, pattern: str = "1x1") -> ir.Model:
    names = [layer.name for layer in weighted_layers(model)]
    return Prune({name: Level(parse_pattern(pattern), density) for name in names})(model)


def outputs(model: ir.Model, rows: Samples) -> np.ndarray:
    return next(iter(Session(model).run_rows(rows).values())).astype(np.float64)


def error(model: ir.Model, original: ir.Model, rows: Samples) -> float:
    wanted = outputs(original, rows)
    return float(np.square(outputs(model, rows) - wanted).sum() / np.square(wanted).sum())


def convolution(group: int = 1) -> ir.Model:
    build = Builder(3, [1, 3 * group, 6, 6])
    return build.model(build.convolution("only", build.input, 4 * group, group=group))


@pytest.mark.parametrize("group", [1, 2])
def test_scale_and_shift_of_every_channel_are_undone(group: int) -> None:
    original = convolution(group)
    rng = np.random.default_rng(1)
    start = copy_model(original)
    layer = weighted_layers(start)[0]
    weight, bias = read_weight(layer), read_bias(layer)
    assert bias is not None
    write_weight(layer, weight * rng.uniform(0.4, 2.5, (group, 1, 1, 4)).astype(np.float32))
    write_bias(layer, bias + rng.standard_normal(4 * group).astype(np.float32))
    rows = Samples({"x": rng.standard_normal((37, 3 * group, 6, 6)).astype(np.float32)})
    found = weighted_layers(CorrectStatistics(rows)(start, original))[0]
    np.testing.assert_allclose(read_weight(found), weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(read_bias(found), bias, rtol=1e-4, atol=1e-4)


def test_shift_of_the_bias_is_undone_exactly() -> None:
    original = small_network()
    moved = copy_model(original)
    layer = next(layer for layer in weighted_layers(moved) if layer.name == "a")
    bias = read_bias(layer)
    assert bias is not None
    write_bias(layer, bias + np.linspace(-1, 1, len(bias)).astype(np.float32))
    rows = random_samples(96)
    scaled = copy_model(moved)
    first = next(layer for layer in weighted_layers(scaled) if layer.name == "first")
    write_weight(first, read_weight(first) * np.float32(1.0001))
    found = CorrectStatistics(rows)(scaled, original)
    assert error(found, original, rows) < 1e-5 < error(moved, original, rows)


@settings(max_examples=5)
@given(seed=st.integers(0, 50), density=st.sampled_from([0.2, 0.4, 0.6]), count=st.integers(3, 50))
def test_held_back_rows_never_lose(seed: int, density: float, count: int) -> None:
    original = small_network(seed)
    rows = random_samples(count, seed + 1)
    start = pruned(original, density)
    found = CorrectStatistics(rows)(start, original)
    held = rows.slice(count - max(1, count // 4), count)
    assert error(found, original, held) <= error(start, original, held) * (1 + 1e-5) + 1e-9


def test_rows_never_seen_gain() -> None:
    original = small_network(4)
    start = pruned(original, 0.4)
    found = CorrectStatistics(random_samples(256, 1))(start, original)
    judged = random_samples(128, 7)
    assert error(found, original, judged) < 0.7 * error(start, original, judged)


def test_zeros_stay_and_inputs_are_left_alone() -> None:
    original = small_network(2)
    start = pruned(original, 0.3, "1x4")
    held = {layer.name: read_weight(layer) for layer in weighted_layers(start)}
    found = CorrectStatistics(random_samples(32))(start, original)
    for layer in weighted_layers(start):
        np.testing.assert_array_equal(read_weight(layer), held[layer.name])
    for layer in weighted_layers(found):
        np.testing.assert_array_equal(read_weight(layer) != 0, held[layer.name] != 0)


def test_layer_without_a_bias_is_left_alone() -> None:
    original = small_network(2)
    start = pruned(original, 0.5)
    found = CorrectStatistics(random_samples(32))(start, original)
    ours, theirs = (
        next(read_weight(layer) for layer in weighted_layers(model) if layer.name == "hidden")
        for model in (found, start)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_channel_that_lost_every_weight_gets_its_mean() -> None:
    original = convolution()
    start = copy_model(original)
    layer = weighted_layers(start)[0]
    weight = read_weight(layer)
    weight[..., 1] = 0
    write_weight(layer, weight)
    rows = Samples({"x": np.random.default_rng(1).random((64, 3, 6, 6)).astype(np.float32)})
    found = outputs(CorrectStatistics(rows)(start, original), rows)
    assert np.isfinite(found).all()
    assert found[:, 1].mean() == pytest.approx(outputs(original, rows)[:, 1].mean(), abs=0.05)


def test_untouched_model_is_returned_as_it_was() -> None:
    original = small_network()
    found = CorrectStatistics(random_samples(16))(original, original)
    for ours, theirs in zip(weighted_layers(found), weighted_layers(original), strict=True):
        np.testing.assert_array_equal(read_weight(ours), read_weight(theirs))


def test_rows_with_nan_are_refused() -> None:
    original = small_network()
    rows = random_samples(16)
    rows.inputs["x"][3, 0, 0, 0] = np.nan
    with pytest.raises(EdgepruneError, match="input 'x', row 3 of the calibration data holds NaN"):
        CorrectStatistics(rows)(pruned(original, 0.5), original)
