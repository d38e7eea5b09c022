from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.data import Samples
from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.trainable import to_torch, write_back
from edgeprune.ir.trainable_stored import dequantizers, real_of, with_masters, with_own_scales
from edgeprune.ir.weights import read_bias, read_weight, weighted_layers


def stored_convolution(
    dtype: type = np.int8, channels: bool = True, zero: int = 0, seed: int = 0, pair: bool = False
) -> ir.Model:
    """A convolution of 3 to 5 channels: weights of `dtype` (of float32 through a `pair`), an int32 bias."""
    rng, limits = np.random.default_rng(seed), ml_dtypes.iinfo(dtype)
    whole = rng.integers(int(limits.min), int(limits.max) + 1, (5, 3, 3, 3))
    whole[1, 2] = zero
    scale = rng.uniform(0.01, 0.1, 5 if channels else ()).astype(np.float32)
    held = {
        "w": (whole * 0.03).astype(np.float32) if pair else whole.astype(dtype),
        "s": scale,
        "z": np.full(scale.shape, zero, dtype),
        "b": rng.integers(-(2**20), 2**20, 5).astype(np.int32),
        "t": (scale * np.float32(0.5)).reshape(scale.shape) * np.ones(5, np.float32),
    }
    axis = {"axis": 0} if channels else {}
    nodes = [helper.make_node("QuantizeLinear", ["w", "s", "z"], ["wq"], name="quantize", **axis)] if pair else []
    nodes += [
        helper.make_node("DequantizeLinear", ["wq" if pair else "w", "s", "z"], ["wr"], name="weight", **axis),
        helper.make_node("DequantizeLinear", ["b", "t"], ["br"], name="bias", axis=0),
        helper.make_node("Conv", ["x", "wr", "br"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]
    ports = [helper.make_tensor_value_info("x", 1, [1, 3, 6, 6]), helper.make_tensor_value_info("y", 1, [1, 5, 6, 6])]
    graph = helper.make_graph(nodes, "stored", ports[:1], ports[1:])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    values = {value.name: value for node in model.graph for value in node.inputs if value is not None}
    for name, array in held.items():
        values[name].const_value = ir.tensor(array, name=name)
        values[name].type, values[name].shape = (
            ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            ir.Shape(array.shape),
        )
        model.graph.register_initializer(values[name])
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))


def array_of(model: ir.Model, name: str) -> np.ndarray:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def run(model: ir.Model, rows: np.ndarray) -> np.ndarray:
    return Session(model).run_rows(Samples({"x": rows}, None, tuple(input_specs(model))))["y"]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([np.int8, np.uint8, np.int16, ml_dtypes.int4, ml_dtypes.uint4]),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_masters_are_what_is_stored_and_write_back_to_it(dtype: type, channels: bool, zero: int, seed: int) -> None:
    model = stored_convolution(dtype, channels, zero, seed)
    module = to_torch(model)
    assert set(module.weights) == {"w", "b"}
    rows = np.random.default_rng(seed).standard_normal((2, 3, 6, 6)).astype(np.float32)
    found = module({"x": torch.from_numpy(rows)})["y"].detach().numpy()
    np.testing.assert_allclose(found, run(model, rows), rtol=1e-4, atol=1e-3)
    written = write_back(module, model)
    for name in ("w", "b"):
        assert array_of(written, name).dtype == array_of(model, name).dtype
        np.testing.assert_array_equal(array_of(written, name), array_of(model, name))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([np.int8, np.uint8]), st.booleans(), st.integers(0, 9))
def test_what_is_written_computes_what_training_computed(dtype: type, channels: bool, seed: int) -> None:
    model = stored_convolution(dtype, channels, 3, seed)
    module = to_torch(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.weights.values():
            tensor.mul_(1 + 0.2 * torch.randn(tensor.shape, generator=generator))
    rows = np.random.default_rng(seed).standard_normal((2, 3, 6, 6)).astype(np.float32)
    found = module({"x": torch.from_numpy(rows)})["y"].detach().numpy()
    written = write_back(module, model)
    np.testing.assert_allclose(found, run(written, rows), rtol=1e-4, atol=1e-3)
    assert (array_of(written, "w")[1, 2] == 3).all()
    assert (array_of(written, "w") != array_of(model, "w")).any()


def test_scale_is_written_where_it_is_given() -> None:
    model = stored_convolution()
    module = to_torch(model)
    doubled = {"w": module.weights["w"] * 2, "s": torch.from_numpy(array_of(model, "s") * 2)}
    written = write_back(module, model, doubled)
    np.testing.assert_array_equal(array_of(written, "w"), array_of(model, "w"))
    np.testing.assert_array_equal(array_of(written, "s"), array_of(model, "s") * 2)
    rows = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    found = module({"x": torch.from_numpy(rows)}, doubled)["y"].detach().numpy()
    np.testing.assert_allclose(found, run(written, rows), rtol=1e-4, atol=1e-3)


def test_large_biases_that_are_not_trained_keep_every_bit() -> None:
    model = stored_convolution()
    large = np.array([2**31 - 1, -(2**31), 2**30 + 1, 123456789, 0], np.int32)
    model.graph.initializers["b"].const_value = ir.tensor(large, name="b")
    module = to_torch(model)
    np.testing.assert_array_equal(array_of(write_back(module, model), "b"), large)
    with torch.no_grad():
        module.weights["b"].mul_(4)
    limits = array_of(write_back(module, model), "b")[:3]
    np.testing.assert_array_equal(limits, np.array([2**31 - 1, -(2**31), 2**31 - 1], np.int32))


def test_float_weights_that_the_graph_quantizes_are_trained() -> None:
    model = stored_convolution(pair=True)
    module = to_torch(model)
    assert set(module.weights) == {"w", "b"}
    rows = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    found = module({"x": torch.from_numpy(rows)})["y"]
    np.testing.assert_allclose(found.detach().numpy(), run(model, rows), rtol=1e-4, atol=1e-3)
    assert torch.autograd.grad(found.sum(), module.weights["w"])[0].any()


@pytest.mark.parametrize("pair", [False, True])
def test_layers_read_masters(pair: bool) -> None:
    model = stored_convolution(pair=pair)
    (layer,) = weighted_layers(with_masters(model))
    assert (layer.weight.name, layer.bias.name if layer.bias else None) == ("w", "b")
    rows = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(with_masters(model), rows), run(model, rows))
    assert not weighted_layers(model)
    bias = read_bias(layer)
    assert bias is not None and read_weight(layer).dtype == np.float32
    np.testing.assert_array_equal(bias, real_of(dequantizers(model)["b"]))


def test_integers_that_two_nodes_read_are_not_trained() -> None:
    model = stored_convolution()
    nodes = {node.name: node for node in model.graph}
    second = ir.node("DequantizeLinear", list(nodes["weight"].inputs), {"axis": 0}, name="again")
    second.outputs[0].name, second.outputs[0].shape = "again", nodes["weight"].outputs[0].shape
    model.graph.insert_before(nodes["conv"], second)
    assert set(to_torch(model).weights) == {"b"}


def test_scales_become_their_own() -> None:
    model = stored_convolution()
    nodes = {node.name: node for node in model.graph}
    nodes["bias"].replace_input_with(1, nodes["weight"].inputs[1])
    own = with_own_scales(model)
    names = [str(node.inputs[1].name) for node in dequantizers(own).values()]  # type: ignore[union-attr]
    assert len(set(names)) == 2
    rows = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(own, rows), run(model, rows))


@pytest.mark.parametrize("file", ["ic_resnet8_int8", "kws_dscnn_int8", "vww_mbv1_025_int8"])
def test_real_model_is_written_as_it_came(data_dir: Path, file: str) -> None:
    model = load(data_dir / "models" / "mlperf_tiny" / f"{file}.tflite")
    module = to_torch(model)
    written = write_back(module, model)
    assert len(module.weights) >= 20
    for name, value in written.graph.initializers.items():
        assert value.const_value is not None
        np.testing.assert_array_equal(value.const_value.numpy(), array_of(model, str(name)))
