"""Models that arrive in integers are pruned and stay in integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from networks import random_samples, small_network

from edgeprune.data.samples import random_samples as noise
from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load
from edgeprune.ir.copy import copy_model
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.quantization import StoredTensor, activation_grids, grid_of, read_stored
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.weights import read_weight, weighted_layers, write_weight
from edgeprune.passes.permute import Permute
from edgeprune.passes.prune import Prune
from edgeprune.passes.quantize.quantize import Quantize
from edgeprune.passes.quantize.store_weights import StoreWeights, on_grids
from edgeprune.pattern import Level, parse_pattern


@pytest.fixture(scope="module")
def arrived() -> ir.Model:
    return Quantize("minmax")(small_network(5), random_samples(64))


def weights(model: ir.Model) -> dict[str, StoredTensor]:
    found = {str(node.name): read_stored(node.inputs[1]) for node in model.graph if len(node.inputs) > 1}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def outputs(model: ir.Model) -> np.ndarray:
    return next(iter(Session(model).run_rows(random_samples(9, seed=4)).values()))


def test_untouched_model_comes_back_as_it_was(arrived: ir.Model) -> None:
    found = StoreWeights(arrived)(with_real_weights(arrived))
    onnx.checker.check_model(ir.to_proto(found), full_check=True)
    assert weighted_layers(found) == []
    for name, tensor in weights(arrived).items():
        back = weights(found)[name]
        np.testing.assert_array_equal(back.integers, tensor.integers)
        np.testing.assert_array_equal(back.scale, tensor.scale)
    np.testing.assert_array_equal(outputs(found), outputs(arrived))


@pytest.mark.parametrize("pattern", ["1x1", "1x4"])
def test_zeroed_weights_keep_integers_and_scales(arrived: ir.Model, pattern: str) -> None:
    real = with_real_weights(arrived)
    levels = {layer.name: Level(parse_pattern(pattern), 0.5) for layer in weighted_layers(real)}
    cut = Prune(levels)(real)
    found = StoreWeights(arrived)(cut)
    for name, tensor in weights(arrived).items():
        back = weights(found)[name]
        np.testing.assert_array_equal(back.scale, tensor.scale)
        kept = back.integers != 0
        np.testing.assert_array_equal(back.integers[kept], tensor.integers[kept])
    np.testing.assert_array_equal(outputs(found), outputs(cut))


def test_changed_layer_becomes_symmetric_and_others_stay(arrived: ir.Model) -> None:
    real = copy_model(with_real_weights(arrived))
    layer = next(layer for layer in weighted_layers(real) if layer.name == "b")
    weight = read_weight(layer) * np.float32(1.01)
    weight[:, ::2] = 0
    write_weight(layer, weight)
    found = StoreWeights(arrived)(real)
    node = next(node for node in found.graph if node.name == "b")
    stored, bias, grid = read_stored(node.inputs[1]), read_stored(node.inputs[2]), grid_of(node.inputs[0])
    assert stored is not None
    assert bias is not None
    assert grid is not None
    assert (stored.integers.dtype, bias.integers.dtype) == (np.int8, np.int32)
    np.testing.assert_array_equal(bias.scale, np.float32(grid.scale) * stored.scale)
    again = next(layer for layer in weighted_layers(with_real_weights(found)) if layer.name == "b")
    assert not read_weight(again)[weight == 0].any()
    np.testing.assert_allclose(read_weight(again), weight, atol=float(stored.scale.max()))
    assert activation_grids(found) == activation_grids(arrived)
    for name in set(weights(arrived)) - {"b"}:
        np.testing.assert_array_equal(weights(found)[name].integers, weights(arrived)[name].integers)


def test_reordered_channels_keep_their_integers(arrived: ir.Model) -> None:
    real = with_real_weights(arrived)
    found = StoreWeights(arrived)(Permute(parse_pattern("1x4"))(real))
    for name, tensor in weights(arrived).items():
        np.testing.assert_array_equal(np.sort(weights(found)[name].scale), np.sort(tensor.scale))
    np.testing.assert_allclose(outputs(found), outputs(arrived), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("zero", [0, 7])
def test_fewer_and_reordered_channels_are_found_on_their_grids(axis: int, zero: int) -> None:
    rng = np.random.default_rng(axis + zero + 1)
    integers = rng.integers(0, 256, (6, 8)).astype(np.uint8)
    scale = rng.uniform(0.01, 0.1, integers.shape[axis]).astype(np.float32)
    stored = StoredTensor(integers, scale, np.full(scale.size, zero, np.uint8), axis)
    chosen = rng.permutation(scale.size)[:4]
    array = np.take(stored.real(), chosen, axis)
    array[np.abs(array) < 0.5] = 0
    found = on_grids(array, stored)
    assert found is not None
    np.testing.assert_array_equal(found[1], chosen)
    np.testing.assert_array_equal(found[0].real(), array)
    assert on_grids(array * np.float32(1.001), stored) is None


@pytest.mark.parametrize("scale", [0.0, np.nan])
def test_scales_that_mean_nothing_are_refused(arrived: ir.Model, scale: float) -> None:
    broken = copy_model(arrived)
    node = next(node for node in broken.graph if node.name == "b")
    source = node.inputs[1].producer()  # type: ignore[union-attr]
    held = source.inputs[1]
    held.const_value = ir.tensor(np.full(held.const_value.shape.numpy(), scale, np.float32), name=held.name)
    with pytest.raises(EdgepruneError, match="DequantizeLinear has the scale") as caught:
        StoreWeights(broken)(with_real_weights(arrived))
    assert caught.value.code == "quantization-invalid"
    assert f"node '{source.name}'" in str(caught.value)


FILES = [
    "mlperf_tiny/ic_resnet8_int8.tflite",
    "mlperf_tiny/kws_dscnn_float.tflite",
    "coral/mobilenet_v1_0.25_128_quant.tflite",
    "tflm/mnist_lstm_int8.tflite",
]


@pytest.mark.parametrize("name", FILES)
def test_models_of_others_come_back_as_they_were(data_dir, name: str) -> None:  # type: ignore[no-untyped-def]
    model = load(data_dir / "models" / name)
    found = StoreWeights(model)(with_real_weights(model))
    count = [sum(node.op_type == "DequantizeLinear" for node in each.graph) for each in (model, found)]
    assert count[0] == count[1]
    assert sum(value.const_value.nbytes for value in found.graph.initializers.values()) <= 1.001 * sum(
        value.const_value.nbytes for value in model.graph.initializers.values()
    )
    rows = noise(input_specs(model), 2, 0)
    ours, theirs = (Session(each).run_rows(rows) for each in (found, model))
    for output, array in theirs.items():
        np.testing.assert_array_equal(ours[output], array)


def test_int8_model_is_cut_without_leaving_int8(data_dir) -> None:  # type: ignore[no-untyped-def]
    model = load(data_dir / "models/coral/mobilenet_v1_0.25_128_quant.tflite")
    real = with_real_weights(model)
    cut = Prune({layer.name: Level(parse_pattern("1x1"), 0.7) for layer in weighted_layers(real)})(real)
    found = StoreWeights(model)(cut)
    assert weighted_layers(found) == []
    rows = noise(input_specs(model), 2, 0)
    ours, theirs = (next(iter(Session(each).run_rows(rows).values())) for each in (found, cut))
    np.testing.assert_array_equal(ours, theirs)
