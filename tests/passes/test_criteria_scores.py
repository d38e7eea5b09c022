"""What criteria say of each weight, against the formulas of their papers written out in numpy."""

import numpy as np
import onnx_ir as ir
import pytest
from networks import Builder, random_samples, small_network

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers, write_weight
from edgeprune.passes.criteria.ablation import Ablation
from edgeprune.passes.criteria.fisher import Fisher
from edgeprune.passes.criteria.named import saliencies
from edgeprune.passes.criteria.taylor import Taylor
from edgeprune.passes.gradients import BATCH, LossGradients
from edgeprune.passes.loss_meter import LossMeter
from edgeprune.passes.output_loss import output_kind, output_loss
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level, parse_pattern


def outputs(model, samples):
    return next(iter(Session(model).run_rows(samples).values()))


def layer_of(model, name):
    return next(layer for layer in weighted_layers(model) if layer.name == name)


def labelled(count, classes=5, seed=1):
    samples = random_samples(count, seed)
    return Samples(samples.inputs, np.random.default_rng(seed).integers(0, classes, count))


def linear(seed=3):
    """One linear layer of 7 inputs and 4 classes, its rows, their labels, and the probabilities of the classes."""
    build = Builder(seed, [1, 7])
    y = build.add("Gemm", "y", [build.input, build.constant("w", 4, 7), build.constant("b", 4)], [1, 4], transB=1)
    rng = np.random.default_rng(seed)
    rows = Samples({"x": rng.standard_normal((50, 7)).astype(np.float32)}, rng.integers(0, 4, 50))
    model = build.model(y)
    return model, rows, softmax(outputs(model, rows))


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_loss(model, samples):
    """The mean of minus the log-probability of the labels."""
    p = softmax(outputs(model, samples).astype(np.float64))
    return -float(np.mean(np.log(p[np.arange(len(p)), samples.labels])))


def test_gradients_are_those_of_finite_differences():
    model, samples = small_network(), labelled(BATCH)
    (gradients,) = LossGradients(model, samples, rows=BATCH, drawn=False, seed=0).by_weight()
    rng = np.random.default_rng(0)
    for layer in weighted_layers(model):
        weight, direction = read_weight(layer), rng.standard_normal(gradients[layer.name].shape)
        losses = []
        for step in (1e-3, -1e-3):
            write_weight(layer, weight + step * direction)
            losses.append(log_loss(model, samples))
        write_weight(layer, weight)
        slope = float(np.sum(direction * gradients[layer.name]))
        assert slope == pytest.approx((losses[0] - losses[1]) / 2e-3, rel=0.05, abs=3e-3)


def test_hessian_times_weights_is_the_slope_of_the_gradient():
    model, samples, p = linear()
    gradients = LossGradients(model, samples, rows=50, drawn=False, seed=0)
    ((first, second),) = gradients.with_curvature(size=50)
    x, weight = samples.inputs["x"], read_weight(layer_of(model, "y"))[0, 0]
    wrong = p - np.eye(4)[samples.labels]
    np.testing.assert_allclose(first["y"][0, 0], x.T @ wrong / 50, atol=1e-5)
    moved = x @ weight
    curved = p * moved - p * np.sum(p * moved, axis=1, keepdims=True)
    np.testing.assert_allclose(second["y"][0, 0], x.T @ curved / 50, atol=1e-5)
    found = saliencies(model, samples.slice(0, BATCH), "taylor2")["y"][0, 0]
    part = slice(0, BATCH)
    expected = np.abs(weight * (x[part].T @ (wrong[part] - 0.5 * curved[part])) / BATCH)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_taylor_is_weight_times_gradient_of_every_batch():
    model, samples, p = linear()
    x, wrong = samples.inputs["x"], p - np.eye(4)[samples.labels]
    weight = read_weight(layer_of(model, "y"))[0, 0]
    parts = [slice(begin, begin + BATCH) for begin in range(0, 50, BATCH)]
    changes = [np.abs(weight * (x[part].T @ wrong[part]) / len(x[part])) for part in parts]
    np.testing.assert_allclose(Taylor().saliencies(model, samples)["y"][0, 0], np.mean(changes, axis=0), atol=1e-5)


def test_fisher_is_squared_weight_times_squared_gradients_of_rows():
    model, samples, p = linear()
    x, wrong = samples.inputs["x"], p - np.eye(4)[samples.labels]
    squares = np.mean((x[:, :, None] * wrong[:, None, :]) ** 2, axis=0)
    expected = read_weight(layer_of(model, "y"))[0, 0] ** 2 * squares / 2
    np.testing.assert_allclose(Fisher().saliencies(model, samples)["y"][0, 0], expected, atol=1e-6)


def test_labels_drawn_from_a_sure_model_are_its_own_answers():
    model, samples, _ = linear()
    write_weight(layer_of(model, "y"), 100 * read_weight(layer_of(model, "y")))
    answers = outputs(model, samples).argmax(axis=1)
    given = Taylor().saliencies(model, Samples(samples.inputs, answers))
    sure = np.abs(np.diff(np.sort(outputs(model, samples))[:, -2:])).min() > 30
    assert not sure or np.abs(given["y"]).max() < 1e-3


def test_apoz_counts_what_is_not_zero():
    model, samples = small_network(), random_samples(40)
    inside = {value.name: value for node in model.graph for value in node.outputs}
    names = ("r0_out", "r1_out", "r4_out", "mean_out")
    watched = ir.Model(ir.convenience.extract(model.graph, ["x"], list(names)), ir_version=9)
    values = {name: np.concatenate([rows]) for name, rows in Session(watched).run_rows(samples).items()}
    assert set(names) <= set(inside)
    found = saliencies(model, samples, "apoz")
    first, second = ((values[name] != 0).mean(axis=(0, 2, 3)) for name in ("r0_out", "r1_out"))
    weight = np.abs(read_weight(layer_of(model, "a")))
    np.testing.assert_allclose(found["a"], weight * first[:, None] * second, rtol=1e-4)
    assert (first < 1).any() and (second < 1).any()
    before = (values["r4_out"] != 0).any(axis=(2, 3)).mean(axis=0)
    hidden = np.abs(read_weight(layer_of(model, "hidden")))
    assert (found["hidden"][0, 0] <= hidden[0, 0] * before[:, None] * (1 + 1e-6)).all()


def test_ablation_measures_every_tile_on_the_whole_network():
    model, samples = small_network(), random_samples(20)
    wanted = {"y": outputs(model, samples)}
    found = saliencies(model, samples, "ablation")
    layer = layer_of(model, "wide")
    weight = read_weight(layer)
    tiles = Ablation()._tiles(weight.shape)
    covered = np.zeros(weight.shape, int)
    for group, row, column in tiles:
        covered[group, :, row, column] += 1
    assert (covered == 1).all() and len(tiles) <= 32
    group, row, column = tiles[5]
    without = weight.copy()
    without[group, :, row, column] = 0
    write_weight(layer, without)
    apart = outputs(model, samples) - wanted["y"]
    cost = np.sum(apart**2) / 20 / (2 * np.mean(wanted["y"] ** 2))
    assert found["wide"][group, :, row, column].sum() == pytest.approx(cost, rel=1e-2)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 9, 3, 7), (64, 9, 1, 1), (2, 1, 500, 3), (3, 1, 2, 2)])
def test_tiles_make_up_the_layer(shape):
    covered = np.zeros(shape, int)
    tiles = Ablation()._tiles(shape)
    for group, row, column in tiles:
        covered[group, :, row, column] += 1
    assert (covered == 1).all() and len(tiles) <= 32


def test_the_meter_leaves_the_weights_as_they_were_and_measures_divergence():
    model, samples, p = linear()
    meter = LossMeter(model, samples, rows=50)
    (layer,) = meter.layers
    weight = read_weight(layer)
    assert meter.loss(layer, weight) == pytest.approx(0, abs=1e-6)
    other = softmax(samples.inputs["x"] @ (0.5 * weight[0, 0]) + 1.0)
    found = meter.loss(layer, 0.5 * weight, np.ones(4, np.float32))
    assert found == pytest.approx(float(np.mean(np.sum(p * np.log(p / other), axis=1))), rel=1e-3)
    np.testing.assert_array_equal(read_weight(layer), weight)
    assert meter.loss(layer, weight) == pytest.approx(0, abs=1e-6)


def test_outputs_are_classes_where_they_end_in_softmax_or_labels_fit():
    model, samples, _ = linear()
    assert output_kind(model, samples).classes
    assert not output_kind(model, Samples(samples.inputs)).classes
    assert not output_kind(model, Samples(samples.inputs, samples.labels + 1)).classes
    assert not output_kind(model, Samples(samples.inputs, samples.labels.astype(np.float32))).classes
    build = Builder(0, [1, 7])
    ends = build.model(build.add("Softmax", "p", [build.input], [1, 7], axis=1))
    kind = output_kind(ends, Samples({}))
    assert kind.classes and kind.probabilities and not kind.labelled
    half = np.full((3, 2), 0.5)
    kind = output_kind(ends, Samples({}))
    assert output_loss(kind, {"p_out": half}, {"p_out": np.array([[1.0, 0.0]] * 3)}) == pytest.approx(
        np.log(2), rel=1e-6
    )


def batch_norm_model():
    """A convolution, batch norm with scales 1, -2, 0.5, and a convolution without."""
    build = Builder(2, [1, 2, 5, 5])
    x = build.convolution("c", build.input, 3)
    constants = [build.constant(f"bn.{kind}", 3) for kind in ("scale", "bias", "mean", "variance")]
    constants[0].const_value = ir.tensor(np.array([1, -2, 0.5], np.float32), name="bn.scale")
    constants[3].const_value = ir.tensor(np.array([1, 4, 0.1], np.float32), name="bn.variance")
    x = build.add("BatchNormalization", "bn", [x, *constants], [1, 3, 5, 5])
    return canonicalize(build.model(build.convolution("d", build.relu("r", x), 4)))


def test_batch_norm_scales_survive_folding_and_are_shared_out_in_a_channel():
    model = batch_norm_model()
    assert "BatchNormalization" not in {node.op_type for node in model.graph}
    rows = Samples({"x": np.random.default_rng(0).standard_normal((4, 2, 5, 5)).astype(np.float32)})
    found = saliencies(model, rows, "batchnorm")
    np.testing.assert_allclose(found["c"].sum(axis=(0, 1, 2)), [1, 2, 0.5], rtol=1e-5)
    np.testing.assert_array_equal(found["d"], np.abs(read_weight(layer_of(model, "d"))))


def test_a_model_without_batch_norm_is_refused():
    with pytest.raises(EdgepruneError) as caught:
        saliencies(small_network(), random_samples(2), "batchnorm")
    assert str(caught.value) == (
        "no layer of this model has a batch-norm scale to judge it by [batchnorm-missing]\n  where: --criterion\n"
        "  hint:  exporters fold batch norm away: give the checkpoint (--arch), or choose another criterion"
    )


@pytest.mark.parametrize(
    "name", ["magnitude", "wanda", "apoz", "taylor", "taylor2", "fisher", "ablation", "sparsegpt", "obs", "alps"]
)
def test_dead_channels_and_layers_of_zeros_do_no_harm(name, monkeypatch):
    monkeypatch.setattr("edgeprune.passes.criteria.ablation.TILES", 4)
    model, samples = small_network(), random_samples(24)
    first, wide = layer_of(model, "first"), layer_of(model, "wide")
    dead = read_weight(first)
    dead[..., :4] = 0
    write_weight(first, dead)
    write_weight(wide, 0 * read_weight(wide))
    levels = {layer: Level(parse_pattern("1x2"), 0.5) for layer in ("first", "a", "wide")}
    pruned = Refit(levels, criterion=name)(model, samples)
    assert all(np.isfinite(read_weight(layer)).all() for layer in weighted_layers(pruned))
    assert np.isfinite(outputs(pruned, samples)).all()
    assert all(np.isfinite(array).all() for array in saliencies(model, samples, name).values())
