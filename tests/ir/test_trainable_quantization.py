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
from onnx import TensorProto, helper, numpy_helper
from trainable_cases import Case, build

from edgeprune.data import Samples, load_card
from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load
from edgeprune.ir.copy import copy_model
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.trainable import to_torch
from edgeprune.ir.trainable_node import Facts
from edgeprune.ir.trainable_quantization import grid_of

DTYPES = (np.uint8, np.int8, np.uint16, np.int16)


def pair(
    shape: tuple[int, ...], scale: np.ndarray, zero: np.ndarray | None, axis: int = 1, readers: int = 1
) -> ir.Model:
    """x through QuantizeLinear and, once or more, DequantizeLinear."""
    held = {"scale": scale.astype(np.float32), **({} if zero is None else {"zero": zero})}
    inputs = ["scale", *(["zero"] if zero is not None else [])]
    nodes = [helper.make_node("QuantizeLinear", ["x", *inputs], ["q"], name="quantize", axis=axis)]
    outputs = [f"y{index}" for index in range(readers)]
    nodes += [helper.make_node("DequantizeLinear", ["q", *inputs], [name], name=name, axis=axis) for name in outputs]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", *outputs)]
    constants = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "pair", ports[:1], ports[1:], constants)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def array_of(value: ir.Value | None) -> np.ndarray:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()


def feed(model: ir.Model, rows: np.ndarray) -> dict[str, np.ndarray]:
    return Session(model).run_rows(Samples({"x": rows}, None, tuple(input_specs(model))))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from(DTYPES),
    st.data(),
)
def test_pair_is_what_onnx_runtime_gives(sizes: list[int], dtype: type, data: st.DataObject) -> None:
    shape, limits = (1, *sizes), np.iinfo(dtype)
    axis = data.draw(st.one_of(st.none(), st.integers(-len(sizes), len(sizes)).filter(lambda a: a not in (0,))))
    count = 1 if axis is None else shape[axis]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    scale = rng.uniform(0.01, 0.3, count if axis is not None else ())
    zero = rng.integers(limits.min, limits.max + 1, scale.shape).astype(dtype)
    model = pair(shape, np.asarray(scale), np.asarray(zero), 1 if axis is None else axis, data.draw(st.integers(1, 2)))
    rows = rng.normal(0, 20, (3, *sizes)).astype(np.float32)
    found = to_torch(model)({"x": torch.from_numpy(rows)})
    for name, expected in feed(model, rows).items():
        np.testing.assert_array_equal(found[name].numpy(), expected)


def test_halves_are_rounded_to_even() -> None:
    model = pair((1, 6), np.array(0.5), np.array(3, np.int8))
    rows = np.array([[0.25, 0.75, 1.25, -0.25, -0.75, 1000.0]], np.float32)
    found = to_torch(model)({"x": torch.from_numpy(rows)})["y0"].numpy()
    np.testing.assert_array_equal(found, feed(model, rows)["y0"])
    np.testing.assert_array_equal(found, [[0.0, 1.0, 1.0, 0.0, -1.0, 62.0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("channels", [False, True])
def test_gradient_is_that_of_torch(dtype: type, channels: bool) -> None:
    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    scale = rng.uniform(0.02, 0.05, 4 if channels else ()).astype(np.float32)
    zero = np.full(scale.shape, 7, dtype)
    x = torch.from_numpy(rng.normal(0, 4, (5, 4, 6)).astype(np.float32)).requires_grad_()
    found = to_torch(pair((1, 4, 6), np.asarray(scale), zero, axis=1))({"x": x})["y0"]
    steps, zeros = torch.from_numpy(np.array(scale)), torch.from_numpy(zero.astype(np.int32))
    if channels:
        expected = torch.fake_quantize_per_channel_affine(x, steps, zeros, 1, int(limits.min), int(limits.max))
    else:
        expected = torch.fake_quantize_per_tensor_affine(x, steps, zeros, int(limits.min), int(limits.max))
    seen = torch.from_numpy(rng.normal(0, 1, (5, 4, 6)).astype(np.float32))
    ours, theirs = (torch.autograd.grad((each * seen).sum(), x)[0].numpy() for each in (found, expected))
    np.testing.assert_array_equal(ours, theirs)
    assert 0 < (ours == 0).mean() < 1


@pytest.mark.parametrize("channels", [False, True])
def test_gradient_of_the_scale_is_that_of_learned_steps(channels: bool) -> None:
    """LSQ: round(v) - v inside, the bound outside, summed; v = x / scale."""
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (3, 4, 5)).astype(np.float32)
    scale = rng.uniform(0.01, 0.02, 4 if channels else ()).astype(np.float32)
    model = pair((1, 4, 5), scale, np.zeros(scale.shape, np.int8), axis=1)
    learned = torch.from_numpy(np.array(scale)).requires_grad_()
    seen = rng.normal(0, 1, x.shape).astype(np.float32)
    found = to_torch(model)({"x": torch.from_numpy(x)}, {"scale": learned})["y0"]
    ours = torch.autograd.grad((found * torch.from_numpy(seen)).sum(), learned)[0].numpy()
    v = x / (scale[:, None] if channels else scale)
    each = np.where(v < -128, -128, np.where(v > 127, 127, np.rint(v) - v)) * seen
    expected = each.sum(axis=(0, 2)) if channels else each.sum()
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)


def test_integers_on_their_way_keep_gradients() -> None:
    """A MaxPool between QuantizeLinear and DequantizeLinear works on what is stored."""
    held = {"s": np.array(0.1, np.float32), "z": np.array(5, np.uint8), "t": np.array(0.2, np.float32)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node("MaxPool", ["q"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("DequantizeLinear", ["p", "t", "z"], ["y"], name="dequantize"),
    ]
    ports = [helper.make_tensor_value_info("x", 1, [1, 2, 4, 4]), helper.make_tensor_value_info("y", 1, [1, 2, 2, 2])]
    constants = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "stored", ports[:1], ports[1:], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    rows = np.random.default_rng(0).uniform(-1, 8, (3, 2, 4, 4)).astype(np.float32)
    x = torch.from_numpy(rows).requires_grad_()
    found = to_torch(model)({"x": x})["y"]
    np.testing.assert_allclose(found.detach().numpy(), feed(model, rows)["y"], rtol=1e-6)
    gradient = torch.autograd.grad(found.sum(), x)[0].numpy()
    assert set(np.unique(gradient.round(5))) <= {0.0, 2.0} and (gradient != 0).any()


@pytest.mark.parametrize("op", ["Round", "Floor", "Ceil"])
def test_rounding_lets_gradients_pass(op: str) -> None:
    """What a QONNX Quant becomes: Div, Clip, Round, Mul."""
    module = to_torch(build(Case(op, ((1, 5),)), [np.zeros((1, 5), np.float32)]))
    x = torch.linspace(-2, 2, 10).reshape(2, 5).requires_grad_()
    np.testing.assert_array_equal(torch.autograd.grad(module({"i0": x})["o0"].sum(), x)[0].numpy(), np.ones((2, 5)))


def test_four_bits() -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], name="only")
    zero = helper.make_tensor("z", TensorProto.INT4, [], [2])
    scale = numpy_helper.from_array(np.array(0.5, np.float32), "s")
    ports = [
        helper.make_tensor_value_info("x", 1, [1, 3]),
        helper.make_tensor_value_info("y", TensorProto.INT4, [1, 3]),
    ]
    graph = helper.make_graph([node], "four", ports[:1], ports[1:], [scale, zero])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    found = to_torch(model)({"x": torch.tensor([[-99.0, 0.5, 99.0]])})["y"]
    np.testing.assert_array_equal(found.numpy(), [[-8.0, 3.0, 7.0]])
    limits = grid_of(Facts(next(iter(model.graph))), np.zeros(1, ml_dtypes.uint4))
    assert (limits.low, limits.high) == (-2.0, 13.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scale": np.array(0.0, np.float32)}, "its scale is not a positive number"),
        ({"scale": np.array(np.nan, np.float32)}, "its scale is not a positive number"),
        ({"zero": np.array(0, ml_dtypes.float8_e4m3fn)}, "its values are float8_e4m3fn, which are no integers"),
    ],
)
def test_what_has_no_grid_is_refused(change: dict[str, np.ndarray], reason: str) -> None:
    model = pair((1, 4), np.array(1.0), np.array(0, np.int8))
    for name, array in change.items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    with pytest.raises(EdgepruneError) as caught:
        to_torch(model)
    assert caught.value.code == "op-untrainable" and caught.value.where == "node quantize"
    assert caught.value.what == f"QuantizeLinear cannot be trained: {reason}"


def test_blocks_are_refused() -> None:
    model = pair((1, 4), np.array(1.0), np.array(0, np.int8))
    next(iter(model.graph)).attributes.add(ir.AttrInt64("block_size", 2))
    with pytest.raises(EdgepruneError, match="QuantizeLinear cannot be trained: it has one scale for each block"):
        to_torch(model)


@pytest.mark.parametrize(
    ("file", "card"),
    [("ic_resnet8_int8", "cifar10_raw"), ("kws_dscnn_int8", "kws"), ("vww_mbv1_025_int8", "vww")],
)
def test_real_model_is_within_a_step_of_onnx_runtime(data_dir: Path, file: str, card: str) -> None:
    model = load(data_dir / "models" / "mlperf_tiny" / f"{file}.tflite")
    inside = [node for node in model.graph if node.op_type == "DequantizeLinear" and node.inputs[0].producer()]
    scales = {str(node.outputs[0].name): float(array_of(node.inputs[1])) for node in inside}
    watched = copy_model(model)
    watched.graph.outputs[:] = [value for node in watched.graph for value in node.outputs if value.name in scales]
    rows = load_card(data_dir / "cards" / f"{card}.toml").load("test", input_specs(model), 24)
    name = next(iter(rows.inputs))
    with torch.no_grad():
        found = to_torch(model)({name: torch.from_numpy(rows.inputs[name])}, also=scales)
    shares = []
    for output, expected in Session(watched).run_rows(rows).items():
        apart = np.abs(found[output].numpy().reshape(expected.shape) - expected) / scales[output]
        shares.append((apart > 0.5).mean() if apart.size > 1000 else 0.0)
    assert max(shares) < 0.01 and np.mean(shares) < 0.003
    outputs = Session(model).run_rows(rows)
    assert all(np.abs(found[name].numpy() - expected).max() < 1.5 / 256 for name, expected in outputs.items())
