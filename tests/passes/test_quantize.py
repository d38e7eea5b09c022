"""Networks in eight bits against the float networks that they come from, on ONNX Runtime."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from networks import Builder, random_samples, small_network

from edgeprune.data import load_card
from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.quantization import grid_of, read_stored
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.weights import read_weight, weighted_layers, write_weight
from edgeprune.metric import score
from edgeprune.passes.prune import Prune
from edgeprune.passes.quantize.quantize import Quantize
from edgeprune.pattern import Level, parse_pattern

METHODS = ["auto", "minmax", "percentile", "mse", "entropy"]


def outputs(model: ir.Model, rows: Samples) -> np.ndarray:
    return next(iter(Session(model).run_rows(rows).values())).astype(np.float64)


def error(model: ir.Model, original: ir.Model, rows: Samples) -> float:
    wanted = outputs(original, rows)
    return float(np.square(outputs(model, rows) - wanted).sum() / np.square(wanted).sum())


def pruned(model: ir.Model, density: float, pattern: str = "1x4") -> ir.Model:
    names = [layer.name for layer in weighted_layers(model)]
    return Prune({name: Level(parse_pattern(pattern), density) for name in names})(model)


@pytest.mark.parametrize("method", METHODS)
def test_outputs_stay_close(method: str) -> None:
    model = small_network()
    found = Quantize(method)(model, random_samples(64))
    assert error(found, model, random_samples(50, seed=7)) < (2e-2 if method == "entropy" else 2e-3)


def test_result_is_valid_and_stays_as_it_is_in_canonical_form() -> None:
    found = Quantize("minmax")(small_network(), random_samples(16))
    onnx.checker.check_model(ir.to_proto(found), full_check=True)
    again = canonicalize(found)
    assert sorted(node.op_type for node in again.graph) == sorted(node.op_type for node in found.graph)
    rows = random_samples(5, seed=3)
    np.testing.assert_allclose(outputs(again, rows), outputs(found, rows), rtol=1e-6, atol=1e-6)


def test_weights_are_symmetric_integers_and_biases_are_at_the_product_of_scales() -> None:
    found = Quantize("minmax")(small_network(), random_samples(16))
    layers = [node for node in found.graph if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(layers) == 7
    for node in layers:
        weight, grid = read_stored(node.inputs[1]), grid_of(node.inputs[0])
        assert weight is not None
        assert grid is not None
        assert (weight.integers.dtype, grid.dtype) == (np.int8, "uint8")
        assert weight.integers.min() >= -127
        assert not weight.zero.any()
        outputs_of = weight.integers.shape[weight.axis]
        assert weight.scale.shape == (outputs_of,)
        if len(node.inputs) > 2:
            bias = read_stored(node.inputs[2])
            assert bias is not None
            assert bias.integers.dtype == np.int32
            np.testing.assert_array_equal(bias.scale, np.float32(grid.scale) * weight.scale)


@pytest.mark.parametrize("pattern", ["1x1", "1x4", "2:4"])
def test_zeros_are_the_same_before_and_after(pattern: str) -> None:
    model = pruned(small_network(3), 0.5, pattern)
    found = with_real_weights(Quantize()(model, random_samples(32)))
    for before, after in zip(weighted_layers(model), weighted_layers(found), strict=True):
        assert not read_weight(after)[read_weight(before) == 0].any()


def test_layers_kept_in_float_are_untouched() -> None:
    model = small_network()
    found = Quantize(keep_float=["a", "last"])(model, random_samples(16))
    kept = {layer.name: read_weight(layer) for layer in weighted_layers(found)}
    assert set(kept) == {"a", "last"}
    for node in found.graph:
        if node.name in kept:
            assert grid_of(node.inputs[0]) is None
            assert len(node.inputs) == 2 or read_stored(node.inputs[2]) is None


def test_everything_kept_in_float_is_the_model_itself() -> None:
    model = small_network()
    names = [layer.name for layer in weighted_layers(model)]
    rows = random_samples(4)
    found = Quantize("minmax", keep_float=names)(model, rows)
    assert error(found, model, rows) < 1e-4
    assert [layer.name for layer in weighted_layers(found)] == names


def test_constant_rows_and_dead_channels_are_handled_in_silence() -> None:
    model = small_network()
    for layer in weighted_layers(model):
        weight = read_weight(layer)
        weight[..., 0] = 0
        write_weight(layer, weight)
    for value in (0.0, 0.25):
        rows = Samples({"x": np.full((6, 3, 6, 6), value, np.float32)})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = Quantize()(model, rows)
        assert np.isfinite(outputs(found, random_samples(3))).all()
        assert error(found, model, rows) < 1e-3


def test_bias_that_needs_more_than_its_scale_gives() -> None:
    build = Builder(0, [1, 4])
    weight, bias = build.constant("w", 3, 4), build.constant("b", 3)
    weight.const_value = ir.tensor(np.full((3, 4), 1e-12, np.float32), name="w")
    bias.const_value = ir.tensor(np.array([1.0, -2.0, 3.0], np.float32), name="b")
    model = build.model(build.add("Gemm", "y", [build.input, weight, bias], [1, 3], transB=1))
    rows = Samples({"x": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)})
    np.testing.assert_allclose(outputs(Quantize()(model, rows), rows)[0], [1, -2, 3], rtol=1e-5)


def test_layers_that_share_a_weight() -> None:
    build = Builder(0, [1, 8])
    weight = build.constant("w", 8, 8)
    hidden = build.relu("r", build.add("MatMul", "one", [build.input, weight], [1, 8]))
    model = build.model(build.add("MatMul", "two", [hidden, weight], [1, 8]))
    rows = Samples({"x": np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)})
    assert error(Quantize()(model, rows), model, rows) < 1e-2


def test_the_given_model_is_unchanged_and_the_same_seed_gives_the_same() -> None:
    model, rows = small_network(), random_samples(24)
    before = ir.to_proto(model).SerializeToString()
    first, second = (ir.to_proto(Quantize()(model, rows)).SerializeToString() for _ in range(2))
    assert ir.to_proto(model).SerializeToString() == before
    assert first == second


def test_progress_ends() -> None:
    steps: list[tuple[str, int, int, str]] = []
    Quantize()(small_network(), random_samples(8), lambda *step: steps.append(step))
    assert steps[-1][1] == steps[-1][2]


def test_no_rows_are_refused() -> None:
    with pytest.raises(EdgepruneError, match="quantizing needs inputs to calibrate on, and none were given"):
        Quantize()(small_network(), random_samples(0 + 1).slice(0, 0))


def test_rows_of_the_wrong_shape_are_refused() -> None:
    rows = Samples({"x": np.zeros((4, 3, 6, 7), np.float32)})
    message = r"calibration rows of shape \[3, 6, 7\] do not fit input 'x' of shape \[1, 3, 6, 6\]"
    with pytest.raises(EdgepruneError, match=message):
        Quantize()(small_network(), rows)


def test_rows_without_the_input_are_refused() -> None:
    with pytest.raises(EdgepruneError, match="the calibration data has no input 'x'"):
        Quantize()(small_network(), Samples({"y": np.zeros((4, 3, 6, 6), np.float32)}))


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinite values")])
def test_rows_that_are_not_finite_are_refused(bad: float, word: str) -> None:
    rows = random_samples(6)
    rows.inputs["x"][2, 0, 0, 0] = bad
    with pytest.raises(EdgepruneError, match=f"input 'x', row 2 of the calibration data holds {word}"):
        Quantize()(small_network(), rows)


def test_resnet20(data_dir) -> None:  # type: ignore[no-untyped-def]
    model = load(data_dir / "models/cifar_resnet/resnet20.onnx")
    card = load_card(data_dir / "cards/cifar10.toml")
    found = Quantize("minmax", equalize=False)(model, card.load("train", input_specs(model), 64))
    test = card.load("test", input_specs(model))
    assert score("top1", outputs(found, test), test.labels) >= 0.9
