"""Operators on stored integers, against ONNX Runtime on the model as it came, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.onnx import load_onnx
from edgeprune.ir.execute import Session
from edgeprune.ir.quantization import is_quantized

MICROSOFT = "com.microsoft"


class Net:
    """A model that reads real `x`, which is stored as `q` on a grid of eight bits."""

    def __init__(self, dtype: Any = np.uint8, opset: int = 17) -> None:
        self.random, self.opset = np.random.default_rng(5), opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.scale = self.constant(np.float32(0.05))
        self.zero = self.constant(np.array(3, dtype))
        self.q = self.add("QuantizeLinear", "x", self.scale, self.zero)

    @property
    def grid(self) -> tuple[str, str]:
        return self.scale, self.zero

    def constant(self, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def weight(self, *shape: int, channels: int = 0) -> tuple[str, str, str]:
        """Integers with one scale, or one for each of `channels`."""
        scales = self.random.uniform(0.01, 0.03, channels or ()).astype(np.float32)
        stored = self.random.integers(-127, 128, shape).astype(np.int8)
        return self.constant(stored), self.constant(scales), self.constant(np.zeros(channels or (), np.int8))

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"{op}_{name}", domain=domain, **attributes))
        return name

    def opened(self, value: str) -> str:
        return self.add("DequantizeLinear", value, *self.grid)

    def model(self, result: str, shape: list[int]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "integers",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
            self.constants,
        )
        sets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=10)


def check(net: Net, result: str, shape: list[int], folder: Path) -> Any:
    """The model that was read computes what ONNX Runtime does with the one that was written."""
    path = folder / "model.onnx"
    onnx.save(net.model(result, shape), path)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32) * 4
    literally = onnxruntime.SessionOptions()
    literally.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    literally.add_session_config_entry("session.x64quantprecision", "1")
    (expected,) = onnxruntime.InferenceSession(path, literally).run(None, {"x": x})
    model = load_onnx(path)
    np.testing.assert_array_equal(Session(model).run({"x": x})[result], expected)
    return model


def convolution(net: Net, domain: str, channels: int) -> str:
    bias = net.constant(net.random.integers(-900, 900, 6).astype(np.int32))
    inputs = (net.q, *net.grid, *net.weight(6, 3, 3, 2, channels=channels), *net.grid, bias)
    return net.add("QLinearConv", *inputs, domain=domain, pads=[1, 0, 1, 1], strides=[2, 1])


def product(net: Net) -> str:
    return net.add("QLinearMatMul", net.q, *net.grid, *net.weight(5, 4), *net.grid)


def single(op: str, **attributes: Any) -> Callable[[Net], str]:
    return lambda net: net.add(op, net.q, *net.grid, *net.grid, domain=MICROSOFT, **attributes)


def pair(op: str) -> Callable[[Net], str]:
    return lambda net: net.add(op, net.q, *net.grid, *net.weight(1, 3, 1, 1), *net.grid, domain=MICROSOFT)


def concatenation(net: Net) -> str:
    return net.add("QLinearConcat", *net.grid, net.q, *net.grid, net.q, *net.grid, domain=MICROSOFT, axis=1)


def selection(net: Net) -> str:
    chosen = net.constant(net.random.integers(0, 2, (1, 3, 6, 5)).astype(bool))
    return net.add("QLinearWhere", chosen, net.q, *net.grid, net.q, *net.grid, *net.grid, domain=MICROSOFT)


def pooled(net: Net) -> str:
    return net.add("Transpose", net.add("MaxPool", net.q, kernel_shape=[2, 2]), perm=[0, 2, 3, 1])


CASES: dict[str, Callable[[Net], str]] = {
    "convolution": lambda net: convolution(net, "", 0),
    "convolution, a scale for each channel": lambda net: convolution(net, MICROSOFT, 6),
    "product": product,
    "average pool": single("QLinearAveragePool", kernel_shape=[3, 2], strides=[2, 2]),
    "global average pool": single("QLinearGlobalAveragePool"),
    "leaky relu": single("QLinearLeakyRelu", alpha=0.2),
    "sum": pair("QLinearAdd"),
    "products": pair("QLinearMul"),
    "concatenation": concatenation,
    "selection": selection,
    "moved and pooled as stored": pooled,
}


@pytest.mark.parametrize("case", CASES)
def test_as_onnx_runtime_computes(case: str, tmp_path: Path) -> None:
    net = Net(np.int8 if "scale for each" in case else np.uint8)
    if case in ("sum", "products"):
        net = Net(np.int8)
    assert is_quantized(check(net, net.opened(CASES[case](net)), [1, 3, 6, 5], tmp_path))


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
def test_general_product(real: bool, transposed: int, tmp_path: Path) -> None:
    net = Net()
    bias = net.constant(net.random.integers(-900, 900, 4).astype(np.int32))
    weight = net.weight(*((4, 5) if transposed else (5, 4)), channels=4)
    ends = () if real else net.grid
    y = net.add("QGemm", net.q, *net.grid, *weight, bias, *ends, domain=MICROSOFT, transB=transposed)
    model = load_if_close if real else check
    model(net, y if real else net.opened(y), [1, 5], tmp_path)


def load_if_close(net: Net, result: str, shape: list[int], folder: Path) -> None:
    path = folder / "model.onnx"
    onnx.save(net.model(result, shape), path)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    np.testing.assert_allclose(Session(load_onnx(path)).run({"x": x})[result], expected, rtol=1e-5, atol=1e-6)


def test_integer_convolution(tmp_path: Path) -> None:
    net = Net()
    weight, _, zero = net.weight(6, 3, 3, 3)
    y = net.add("ConvInteger", net.q, weight, net.zero, zero, pads=[1, 1, 1, 1])
    check(net, net.add("Cast", y, to=TensorProto.FLOAT), [1, 3, 6, 5], tmp_path)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize(("domain", "opset"), [(MICROSOFT, 17), ("", 21)])
def test_grids_of_sixteen_bits(dtype: Any, domain: str, opset: int, tmp_path: Path) -> None:
    net = Net(opset=opset)
    scale, zero = net.constant(np.float32(0.001)), net.constant(np.array(300, dtype))
    wide = net.add("QuantizeLinear", "x", scale, zero, domain=domain)
    check(net, net.add("DequantizeLinear", wide, scale, zero, domain=domain), [1, 70], tmp_path)


def test_channels_that_are_last_are_refused(tmp_path: Path) -> None:
    net = Net()
    y = net.add("QLinearGlobalAveragePool", net.q, *net.grid, *net.grid, domain=MICROSOFT, channels_last=1)
    onnx.save(net.model(net.opened(y), [1, 3, 6, 5]), tmp_path / "model.onnx")
    with pytest.raises(EdgepruneError) as caught:
        load_onnx(tmp_path / "model.onnx")
    assert str(caught.value) == (
        "operator QLinearGlobalAveragePool on stored integers cannot be imported: its channels are last"
        f" [op-unsupported]\n  where: node 'QLinearGlobalAveragePool_{y}' (QLinearGlobalAveragePool)\n"
        "  hint:  quantize the model again with QuantFormat.QDQ and constant scales"
    )
