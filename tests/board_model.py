"""A small convolutional network, compiled for any target, and what ONNX Runtime makes of it."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeprune.compiled import Package
from edgeprune.flow import compile
from edgeprune.ir.canonical import canonicalize
from edgeprune.options import Options


@cache
def board_model() -> onnx.ModelProto:
    """Two convolutions, a sigmoid, a mean and a linear layer on 5 channels of 9 x 11."""
    generator = np.random.default_rng(7)
    shapes = {"w1": (10, 5, 3, 3), "b1": (10,), "w2": (7, 10, 1, 1), "w3": (7, 3), "b3": (3,)}
    weights = {name: generator.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first", pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second"),
        helper.make_node("Sigmoid", ["c"], ["d"], name="sigmoid"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="mean"),
        helper.make_node("Flatten", ["e"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="linear"),
    ]
    ports = [("x", [1, 5, 9, 11]), ("y", [1, 3])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "board", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def board_rows(count: int = 3) -> np.ndarray:
    """Seeded inputs, (count, 1, 5, 9, 11)."""
    return np.random.default_rng(3).normal(size=(count, 1, 5, 9, 11)).astype(np.float32)


def board_outputs(rows: np.ndarray) -> np.ndarray:
    """ONNX Runtime's outputs, (count, 1, 3)."""
    session = onnxruntime.InferenceSession(board_model().SerializeToString(), providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, {"x": row})[0] for row in rows])


@cache
def board_package(target: str) -> Package:
    """The model compiled for `target`, dense."""
    package = compile(canonicalize(ir.from_proto(board_model())), target=target, options=Options(dense=True)).package
    assert package is not None
    return package
