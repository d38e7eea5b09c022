from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from canonical_cases import Graph
from onnx import numpy_helper

from edgeprune.frontend.onnx import load_onnx
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.cost import model_cost, node_macs


def macs(graph: Graph, y: str, **inputs: list[int]) -> list[int]:
    model = canonicalize(ir.from_proto(graph.model(inputs, [y])))
    return [node_macs(node) for node in model.graph]


def brute_force_convolution(
    size: tuple[int, int], kernel: int, stride: int, pad: int, inputs: int, outputs: int
) -> int:
    """Counted one by one: every output pixel, output channel, tap and input channel of the group."""
    count = 0
    for top in range(0, size[0] + 2 * pad - kernel + 1, stride):
        for left in range(0, size[1] + 2 * pad - kernel + 1, stride):
            count += sum(1 for _ in range(outputs) for _ in range(kernel * kernel) for _ in range(inputs))
            assert top >= 0 <= left
    return count


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups: int):
    graph = Graph()
    y = graph.node("Conv", "x", graph.weight(6, 4 // groups, 3, 3), strides=[2, 2], pads=[1] * 4, group=groups)
    expected = brute_force_convolution((7, 9), 3, 2, 1, 4 // groups, 6)
    assert macs(graph, y, x=[1, 4, 7, 9]) == [expected]


def test_transposed_convolution():
    graph = Graph()
    y = graph.node("ConvTranspose", "x", graph.weight(4, 5, 2, 3), strides=[2, 2])
    assert macs(graph, y, x=[1, 4, 6, 7]) == [6 * 7 * 4 * 5 * 2 * 3]


def test_linear_layers_and_products():
    graph = Graph()
    assert macs(graph, graph.node("Gemm", "x", graph.weight(6, 8)), x=[2, 6]) == [2 * 6 * 8]
    graph = Graph()
    assert macs(graph, graph.node("MatMul", "a", "b"), a=[3, 2, 5], b=[3, 5, 7]) == [3 * 2 * 5 * 7]
    graph = Graph()
    product = graph.node("Einsum", "a", "b", equation="bhid, bhjd -> bhij")
    assert macs(graph, product, a=[1, 2, 3, 4], b=[1, 2, 5, 4]) == [2 * 3 * 5 * 4]
    graph = Graph()
    recurrent = graph.node("LSTM", "x", graph.weight(1, 16, 3), graph.weight(1, 16, 4), hidden_size=4)
    assert macs(graph, recurrent, x=[5, 1, 3]) == [5 * 16 * (3 + 4)]
    graph = Graph()
    assert macs(graph, graph.node("Relu", "x"), x=[2, 2]) == [0]


def test_zeros_lower_macs_in_proportion():
    graph = Graph()
    y = graph.node("Conv", "x", graph.weight(4, 3, 3, 3), graph.weight(4))
    weight = numpy_helper.to_array(graph.initializers[0]).copy()
    weight[:, 1:] = 0
    graph.initializers[0].CopyFrom(numpy_helper.from_array(weight, graph.initializers[0].name))
    cost = model_cost(canonicalize(ir.from_proto(graph.model({"x": [1, 3, 5, 5]}, [graph.node("Relu", y)]))))
    (layer,) = cost.layers
    assert (layer.op, layer.weights, layer.nonzero_weights, layer.dense_macs) == ("Conv", 108, 36, 972)
    assert layer.macs == 324
    assert layer.density == pytest.approx(1 / 3)
    assert (cost.weights, cost.nonzero_weights, cost.dense_macs, cost.macs) == (108, 36, 972, 324)


def test_real_networks(data_dir: Path):
    resnet = model_cost(load_onnx(data_dir / "models/cifar_resnet/resnet20.onnx"))
    stages = [(32, 16, 16, 6), (16, 16, 32, 1), (16, 32, 32, 5), (8, 32, 64, 1), (8, 64, 64, 5)]
    stem, head = 32 * 32 * 3 * 16 * 9, 64 * 10
    assert resnet.dense_macs == stem + head + sum(side**2 * a * b * 9 * count for side, a, b, count in stages)
    squeeze = model_cost(load_onnx(data_dir / "models/squeezenet_dc/squeezenet1.0_deepcompressed.onnx"))
    assert round(1 - squeeze.nonzero_weights / squeeze.weights, 3) == 0.666
    assert np.isclose(squeeze.weights, 1.24e6, rtol=0.01)
