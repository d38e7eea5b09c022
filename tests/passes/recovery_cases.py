"""A small network, rows that it labels itself, and what tests of recovery ask of models."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgeprune.data import Samples
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.metric import evaluate
from edgeprune.pattern import Level, parse_pattern

CLASSES = 4


def network(seed: int = 0, softmax: bool = False) -> ir.Model:
    """Three convolutions (one without a bias, one depthwise), a pool and a linear layer on 3x16x16 images."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    held = {
        "w1": weight(16, 3, 3, 3),
        "b1": weight(16, 1)[:, 0],
        "w2": weight(16, 1, 3, 3),
        "w3": weight(16, 16, 1, 1),
        "b3": weight(16, 1)[:, 0],
        "w4": weight(CLASSES, 16) * 4,
        "b4": weight(CLASSES, 1)[:, 0],
        "shape": np.array([1, -1], np.int64),
    }
    last = "scores" if softmax else "y"
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="depthwise", group=16, pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], name="middle"),
        helper.make_node("Add", ["c3", "r2"], ["a3"], name="add"),
        helper.make_node("GlobalAveragePool", ["a3"], ["p"], name="pool"),
        helper.make_node("Reshape", ["p", "shape"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w4", "b4"], [last], name="last", transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", [last], ["y"], name="softmax"))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


def balanced(softmax: bool = False) -> ir.Model:
    """The network with a last bias that makes its classes about as frequent."""
    model = network()
    scores = Session(model).run_rows(samples(model, 64, 9, labelled=False))["y"]
    result = network(softmax=softmax)
    bias = result.graph.initializers["b4"]
    assert bias.const_value is not None
    centred = (bias.const_value.numpy() - scores.mean(axis=0)) / scores.std(axis=0)
    bias.const_value = ir.tensor(centred.astype(np.float32), name="b4")
    factor = result.graph.initializers["w4"]
    assert factor.const_value is not None
    factor.const_value = ir.tensor(factor.const_value.numpy() / scores.std(axis=0)[:, None], name="w4")
    return result


def samples(model: ir.Model, count: int, seed: int, labelled: bool) -> Samples:
    """Smooth random images, labelled by the model itself."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 3, 4, 4)).astype(np.float32)
    images = coarse.repeat(4, axis=2).repeat(4, axis=3)
    rows = Samples({"x": images}, None, tuple(input_specs(model)))
    labels = Session(model).run_rows(rows)["y"].argmax(axis=1) if labelled else None
    return dataclasses.replace(rows, labels=labels)


def levels(pattern: str, density: float) -> dict[str, Level]:
    return {name: Level(parse_pattern(pattern), density) for name in ("first", "middle")}


def value(metric: str, model: ir.Model, rows: Samples, reference: ir.Model) -> float:
    found, wanted = Session(model).run_rows(rows), Session(reference).run_rows(rows)
    return evaluate(metric, found, rows.labels, wanted).value


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    return {layer.name: read_weight(layer) for layer in weighted_layers(model)}
