"""The refit against numpy's least squares, against pruning by size, and on a real network."""

import numpy as np
import pytest
from networks import Builder, random_samples, small_network

from edgeprune.data import load_card
from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.segments import SegmentedRun
from edgeprune.ir.weights import read_bias, read_weight, weighted_layers
from edgeprune.metric import score
from edgeprune.passes.observations import HELD_EVERY
from edgeprune.passes.prune import PATTERN_KEY, Prune
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level, parse_pattern
from edgeprune.search.levels import global_levels


def outputs(model, samples):
    return next(iter(Session(model).run_rows(samples).values()))


def weights(model):
    return {layer.name: read_weight(layer) for layer in weighted_layers(model)}


def linear_model():
    build = Builder(3, [1, 9])
    y = build.add("Gemm", "y", [build.input, build.constant("w", 4, 9), build.constant("b", 4)], [1, 4], transB=1)
    return build.model(y)


def test_one_linear_layer_is_the_least_squares_solution(monkeypatch):
    monkeypatch.setattr("edgeprune.passes.fit.SHARES", (1.0,))
    model, rng = linear_model(), np.random.default_rng(0)
    x = (rng.standard_normal((60, 9)) @ rng.standard_normal((9, 9)) + 2).astype(np.float32)
    level = {"y": Level(parse_pattern("1x1"), 0.4)}
    pruned = Prune(level)(model)
    fitted = Refit(damping=1e-9)(pruned, Samples({"x": x}), original=model)
    (layer,) = weighted_layers(fitted)
    wanted = outputs(model, Samples({"x": x}))
    used = np.arange(len(x)) % HELD_EVERY != HELD_EVERY - 1
    for column in range(4):
        kept = weights(pruned)["y"][0, 0, :, column] != 0
        design = np.column_stack([x[:, kept], np.ones(len(x))])
        solution = np.linalg.lstsq(design[used], wanted[used, column], rcond=None)[0]
        np.testing.assert_allclose(read_weight(layer)[0, 0, kept, column], solution[:-1], atol=1e-3)
        np.testing.assert_allclose(read_bias(layer)[column], solution[-1], atol=1e-2)


def test_a_network_that_lost_nothing_stays_as_it_is():
    model = small_network()
    fitted = Refit()(model, random_samples(20))
    for name, array in weights(fitted).items():
        np.testing.assert_array_equal(array, weights(model)[name])


@pytest.mark.parametrize("text", ["1x1", "1x4", "2x3", "2:4", "1:2/1x4"])
def test_refit_is_closer_than_size_alone_and_choosing_is_closer_still(text):
    model = small_network()
    levels = global_levels(model, parse_pattern(text), 0.5)
    fresh = random_samples(100, seed=9)
    wanted = outputs(model, fresh)
    by_size = Prune(levels)(model)
    fixed = Refit()(by_size, random_samples(300), original=model)
    chosen = Refit(levels)(model, random_samples(300))
    errors = [np.mean((outputs(m, fresh) - wanted) ** 2) for m in (by_size, fixed, chosen)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[0]


def test_zeros_follow_the_levels_and_are_noted_and_the_given_model_is_unchanged():
    model = small_network()
    before = {name: array.copy() for name, array in weights(model).items()}
    levels = global_levels(model, parse_pattern("1x4"), 0.5)
    fitted = Refit(levels)(model, random_samples(50))
    for node in fitted.graph:
        assert node.metadata_props.get(PATTERN_KEY) == ("1x4" if node.name in levels else None)
    for name, array in weights(fitted).items():
        stored = np.ceil(array.shape[3] / 4) * np.prod(array.shape[:3])
        live = sum(bool(part.any()) for o in range(0, array.shape[3], 4) for part in _rows(array[..., o : o + 4]))
        assert live == (round(levels[name].density * stored) if name in levels else stored)
        np.testing.assert_array_equal(weights(model)[name], before[name])


def _rows(array):
    return array.reshape(-1, array.shape[-1])


def test_fixed_masks_are_held():
    model = small_network()
    pruned = Prune(global_levels(model, parse_pattern("1x1"), 0.6))(model)
    fitted = weights(Refit()(pruned, random_samples(50), original=model))
    for name, array in weights(pruned).items():
        assert not fitted[name][array == 0].any()


def test_the_same_seed_gives_the_same_weights_and_progress_ends():
    model, steps = small_network(), []
    levels = global_levels(model, parse_pattern("1x1"), 0.5)
    refit = Refit(levels, positions=500)
    first = refit(model, random_samples(60), progress=lambda *step: steps.append(step))
    second = refit(model, random_samples(60))
    for name, array in weights(first).items():
        np.testing.assert_array_equal(array, weights(second)[name])
    assert steps[-1][1] == steps[-1][2] == len(weights(model))


def test_constant_inputs_and_few_rows_give_finite_weights():
    model = small_network()
    levels = global_levels(model, parse_pattern("1x1"), 0.5)
    for rows in (Samples({"x": np.zeros((4, 3, 6, 6), np.float32)}), random_samples(1)):
        fitted = Refit(levels)(model, rows)
        assert all(np.isfinite(array).all() for array in weights(fitted).values())


def test_layers_that_share_a_weight_are_pruned_by_size():
    build = Builder(0, [1, 8])
    weight = build.constant("w", 8, 8)
    hidden = build.add("MatMul", "one", [build.input, weight], [1, 8])
    model = build.model(build.add("MatMul", "two", [hidden, weight], [1, 8]))
    level = Level(parse_pattern("1x1"), 0.5)
    rows = Samples({"x": np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)})
    fitted = Refit({"one": level, "two": level})(model, rows)
    by_size = Prune({"one": level, "two": level})(model)
    np.testing.assert_array_equal(weights(fitted)["two"], weights(by_size)["two"])


def test_layers_with_too_many_inputs_are_noted(monkeypatch):
    monkeypatch.setattr("edgeprune.passes.refit.REFIT_INPUTS", 8)
    model, notes = linear_model(), []
    level = {"y": Level(parse_pattern("1x1"), 0.4)}
    rows = Samples({"x": np.random.default_rng(0).standard_normal((20, 9)).astype(np.float32)})
    fitted = Refit(level)(model, rows, progress=lambda *step: notes.append(step[3]))
    np.testing.assert_array_equal(weights(fitted)["y"], weights(Prune(level)(model))["y"])
    assert "y: pruned by size, it has 9 inputs to one output, more than 8" in notes


def test_a_fit_that_does_not_carry_over_to_held_back_rows_is_not_used():
    """The last row of eight is a hundred thousand times as large as the others, too few to fit nine inputs on."""
    model = linear_model()
    x = np.full((8, 9), 1e-3, np.float32) * np.random.default_rng(0).standard_normal((8, 9)).astype(np.float32)
    x[7] = 100 * np.random.default_rng(1).standard_normal(9)
    level = {"y": Level(parse_pattern("1x1"), 0.5)}
    by_size, fitted = Prune(level)(model), Refit(level, damping=1e-12)(model, Samples({"x": x}))
    held = Samples({"x": x[7:]})
    errors = [np.mean((outputs(m, held) - outputs(model, held)) ** 2) for m in (fitted, by_size)]
    assert errors[0] <= errors[1]


@pytest.mark.parametrize("rows", [2, 3, 9, 40])
def test_the_first_layer_is_never_worse_than_by_size_on_held_back_rows(rows):
    model, samples = small_network(), random_samples(rows)
    level = {"first": Level(parse_pattern("1x4"), 0.3)}
    fitted, by_size = Refit(level)(model, samples), Prune(level)(model)
    errors = [_first_error(model, pruned, samples) for pruned in (fitted, by_size)]
    assert errors[0] <= errors[1] * (1 + 1e-5)


def _first_error(model, pruned, samples):
    """The error of the first layer behind its rectifier on the rows that are not fitted on."""
    every = min(HELD_EVERY, samples.count)
    held = [samples.slice(row, row + 1) for row in range(every - 1, samples.count, every)]
    runs = [[SegmentedRun(m, row) for row in held] for m in (model, pruned)]
    for run in (*runs[0], *runs[1]):
        run.advance(2)
    value = next(iter(model.graph)).outputs[0].uses()[0].node.outputs[0]
    pairs = zip(*runs, strict=True)
    return sum(float(np.mean((a.held(value) - b.held(value)) ** 2)) for a, b in pairs)


def test_unknown_layer():
    with pytest.raises(EdgepruneError, match="layer-unknown"):
        Refit({"none": Level(parse_pattern("1x1"), 0.5)})(small_network(), random_samples(2))


def test_two_of_four_in_one_shot_on_resnet20(data_dir):
    model = load(data_dir / "models/cifar_resnet/resnet20.onnx")
    card = load_card(data_dir / "cards/cifar10.toml")
    levels = global_levels(model, parse_pattern("2:4"), 0)
    train = card.load("train", input_specs(model), 96)
    test = card.load("test", input_specs(model))
    fitted = Refit(levels, positions=6144)(model, train)
    assert score("top1", outputs(fitted, test), test.labels) >= 0.88
