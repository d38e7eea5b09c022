"""Heads of detectors: activations of values with five axes, real and quantized, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from lowered import canonical, graph_model, run_lowered
from onnx import helper

from edgeprune.road.twin import twin_target
from edgeprune.target import load_target


def head(quantized: bool) -> onnx.ModelProto:
    """A convolution whose channels are boxes of values, [N, boxes, rows, columns, values], and what is made of them."""
    constants = {
        "weight": np.random.default_rng(3).standard_normal((12, 4, 1, 1)).astype(np.float32),
        "split": np.array([1, 3, 4, 3, 5]),
        "flat": np.array([1, -1, 4]),
        "scale": np.array(0.0625, np.float32),
        "zero": np.array(3, np.int8),
    }
    step = "x"
    nodes = []

    def add(op: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], name=f"n{len(nodes)}", **attributes))
        return nodes[-1].output[0]

    def stored(value: str) -> str:
        return add("DequantizeLinear", add("QuantizeLinear", value, "scale", "zero"), "scale", "zero")

    for op, inputs, attributes in (
        ("Conv", ["weight"], {}),
        ("Reshape", ["split"], {}),
        ("Transpose", [], {"perm": [0, 1, 3, 4, 2]}),
        ("Sigmoid", [], {}),
        ("Reshape", ["flat"], {}),
    ):
        step = add(op, stored(step) if quantized else step, *inputs, **attributes)
    nodes.append(helper.make_node("Identity", [step], ["y"], name="last"))
    return graph_model(nodes, {"x": [1, 4, 3, 5]}, ["y"], constants)


@pytest.mark.parametrize(("quantized", "target"), [(False, "host"), (True, "host"), (True, "cortex-m4")])
def test_activations_of_five_axes(quantized: bool, target: str, tmp_path: Path) -> None:
    proto = head(quantized)
    x = np.random.default_rng(1).standard_normal((1, 4, 3, 5)).astype(np.float32)
    literally = onnxruntime.SessionOptions()
    literally.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString(), literally).run(None, {"x": x})
    machine = twin_target(load_target(target))
    (found,) = run_lowered(canonical(proto), {"x": x}, tmp_path, target=machine).values()
    step = 0.0625 if machine.arithmetic == "fixed" else 0.0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 + step)
