"""Estimated layer errors against the loss of networks that were really pruned, and against formulas."""

import numpy as np
import pytest
from networks import Builder, random_samples, small_network

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers, write_weight
from edgeprune.passes.anchors import anchors_of, filled, looked_at, measuring_of, scaled
from edgeprune.passes.gradients import LossGradients
from edgeprune.passes.layer_errors import layer_errors
from edgeprune.passes.prune import Prune
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level, parse_pattern


def levels(*texts):
    """Levels written `pattern@density`."""
    pairs = [text.partition("@") for text in texts]
    return [Level(parse_pattern(name), float(density or parse_pattern(name).density)) for name, _, density in pairs]


ALL = levels("1x1@1.0", "1x1@0.7", "1x1@0.5", "1x1@0.2", "2:4", "1x4@0.7", "1x4@0.5", "1x4@0.2", "4x4@0.3")


def outputs(model, samples):
    return next(iter(Session(model).run_rows(samples).values()))


def linear_network(softmax=False):
    build = Builder(3, [1, 12])
    inputs = [build.input, build.constant("w", 6, 12), build.constant("b", 6)]
    y = build.add("Gemm", "y", inputs, [1, 6], transB=1)
    return build.model(build.add("Softmax", "p", [y], [1, 6], axis=1) if softmax else y)


def linear_rows(count=512, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 12)) @ (np.eye(12) + 0.3 * rng.standard_normal((12, 12)))
    return Samples({"x": x.astype(np.float32)})


def test_one_linear_layer_errs_by_its_relative_output_error():
    """With a normal likelihood the loss grows by half the squared error over the output's mean square."""
    model, rows = linear_network(), linear_rows()
    fewer = rows.slice(0, 256)
    (errors,) = layer_errors(model, rows, {"y": ALL}, weighting="fisher").values()
    before = outputs(model, fewer)
    for level, error in zip(ALL, errors, strict=True):
        after = outputs(Refit({"y": level}, samples=256)(model, fewer), fewer)
        wanted = 0.5 * np.sum((after - before) ** 2) / len(before) / np.mean(before**2)
        assert error == pytest.approx(wanted, rel=0.35, abs=1e-9)


def test_squared_gradients_of_a_softmax_are_those_of_its_classes():
    model, rows = linear_network(softmax=True), linear_rows(3000)
    found = LossGradients(model, rows, rows=3000, drawn=True, seed=0).output_squares()["y"]
    p = outputs(model, rows)
    np.testing.assert_allclose(found, np.mean(p * (1 - p), axis=0), rtol=0.15)


@pytest.mark.parametrize("weighting", ["measured", "fisher", "relative"])
@pytest.mark.parametrize("criterion", ["auto", "sparsegpt"])
def test_errors_grow_as_less_is_kept_and_nothing_costs_nothing(criterion, weighting):
    model, rows = small_network(), random_samples(64)
    candidates = dict.fromkeys(("a", "b", "hidden"), ALL)
    found = layer_errors(model, rows, candidates, criterion, weighting)
    assert list(found) == list(candidates)
    for errors in found.values():
        assert errors[0] == 0
        assert list(errors[0:4]) == sorted(errors[0:4]) and list(errors[5:8]) == sorted(errors[5:8])
        assert errors[3] > 0
        assert errors[1] <= errors[5] * 1.01


def test_layers_rank_as_their_measured_losses_do():
    model, rows = small_network(), random_samples(256)
    level = levels("1x1@0.4")[0]
    names = [layer.name for layer in weighted_layers(model) if layer.kind != "depthwise"]
    estimated = {name: errors[0] for name, errors in layer_errors(model, rows, {n: [level] for n in names}).items()}
    before, measured = outputs(model, rows), {}
    for name in names:
        pruned = Refit({name: level})(model, rows)
        only = Prune({})(model)
        for one, other in zip(weighted_layers(only), weighted_layers(pruned), strict=True):
            if one.name == name:
                write_weight(one, read_weight(other))
        measured[name] = 0.5 * float(np.sum((outputs(only, rows) - before) ** 2)) / 256 / np.mean(before**2)
    ranks = [np.argsort(np.argsort([table[name] for name in names])) for table in (estimated, measured)]
    assert np.corrcoef(*ranks)[0, 1] > 0.6


def test_measured_candidates_cost_what_was_measured():
    errors, costs = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 0.5]), np.array([3.0, 12.0, 96.0])
    anchors = anchors_of(errors)
    assert errors[anchors].tolist() == [1.0, 4.0, 16.0]
    found = scaled(errors, errors[anchors], costs)
    np.testing.assert_allclose(found, [0, 3, 6, 12, 12 * 8**0.5, 96, 1.5])
    np.testing.assert_array_equal(scaled(errors, errors[anchors], 0 * costs), errors)
    np.testing.assert_allclose(scaled(errors, errors[anchors], np.array([3.0, 1.0, 0.0]))[1:4], [3, 3, 3])
    assert len(anchors_of(np.zeros(4))) == 0
    assert anchors_of(np.array([0.0, 2.0])).tolist() == [1]
    assert errors[anchors_of(errors, 1)].tolist() == [4.0]


def test_levels_that_are_not_looked_at_lie_between_their_neighbours():
    fine, blocks = parse_pattern("1x1"), parse_pattern("1x16")
    levels = [Level(fine, density) for density in (0.8, 0.1, 0.4, 0.6)] + [Level(blocks, 0.5), Level(blocks, 0.25)]
    assert looked_at([*levels, Level(fine, 0.2)]) == [0, 1, 2, 3, 4, 5]
    found = filled([*levels, Level(fine, 0.2)], np.array([0.5, 81.0, 9.0, 1.0, 2.0, 4.0]))
    np.testing.assert_allclose(found, [0.5, 81, 9, 1, 2, 4, 81 ** (2 / 3) * 9 ** (1 / 3)])
    assert looked_at(levels[:2]) == [0, 1] and looked_at([]) == [] and filled([], np.zeros(0)) == ()
    several = [Level(fine, density) for density in (1.0, 0.8, 0.6, 0.4, 0.2)]
    assert looked_at(several) == [0, 1, 2, 4]
    assert filled(several, np.array([0.0, 0.0, 1.0, 4.0])) == pytest.approx((0, 0, 1, 2, 4))
    assert filled(several[1:], np.array([0.0, 0.0, 4.0])) == pytest.approx((0, 0, 2, 4))


def test_large_networks_are_measured_on_fewer_rows_and_levels(monkeypatch):
    model = small_network()
    whole = measuring_of(model, 4)
    assert (whole.rows, whole.anchors) == (256, 3)
    monkeypatch.setattr("edgeprune.passes.anchors.MEASURED_WORK", 1.0)
    least = measuring_of(model, 4)
    assert (least.rows, least.anchors) == (32, 1)


def test_candidates_share_what_is_expensive(monkeypatch):
    calls = []
    exact = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda array: calls.append(array.shape) or exact(array))
    layer_errors(small_network(), random_samples(20), {"a": ALL, "hidden": ALL})
    assert calls == [(1, 72, 72), (1, 20, 20)]


def test_threads_change_nothing():
    model, rows = small_network(), random_samples(30)
    candidates = dict.fromkeys(("first", "a", "b", "last"), ALL[2:5])
    assert layer_errors(model, rows, candidates, threads=2) == layer_errors(model, rows, candidates)


def test_a_network_that_cannot_be_trained_is_weighted_by_its_outputs(monkeypatch):
    def refuse(model):
        raise EdgepruneError("op-untrainable", "no row")

    model, rows = small_network(), random_samples(30)
    wanted = layer_errors(model, rows, {"a": ALL}, weighting="relative")
    monkeypatch.setattr("edgeprune.passes.gradients.to_torch", refuse)
    assert layer_errors(model, rows, {"a": ALL}, weighting="fisher") == wanted
    assert 0 < wanted["a"][3] < 0.5


def test_unknown_layers_and_rows_with_nan_are_refused():
    with pytest.raises(EdgepruneError, match="layer-unknown"):
        layer_errors(small_network(), random_samples(2), {"none": ALL})
    rows = random_samples(2)
    rows.inputs["x"][0] = np.nan
    with pytest.raises(EdgepruneError, match="not-finite"):
        layer_errors(small_network(), rows, {"a": ALL})
