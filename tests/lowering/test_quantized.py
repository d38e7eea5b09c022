"""Networks in QDQ form, compiled: our integer kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lowered import canonical, graph_model, run_lowered
from onnx import helper

from edgeprune.ir.execute import Session
from edgeprune.lowering.layout import Mode
from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import Call
from edgeprune.target import load_target


def network():
    """Two convolutions, a sum, a pool and a dense layer, with 8 bits between them; scales are powers of two: exact."""
    generator = np.random.default_rng(5)
    constants: dict[str, np.ndarray] = {"zero": np.array(-3, np.int8), "step": np.array(2.0**-4, np.float32)}
    nodes = []

    def rounded(name: str) -> str:
        nodes.append(helper.make_node("QuantizeLinear", [name, "step", "zero"], [f"{name}_q"], name=f"{name}_q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", "step", "zero"], [f"{name}_r"]))
        return f"{name}_r"

    def stored(name: str, *shape: int) -> str:
        constants[f"{name}_s"] = generator.integers(-16, 17, shape).astype(np.int8)
        constants[f"{name}_scale"] = (2.0 ** generator.integers(-7, -4, shape[0])).astype(np.float32)
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_s", f"{name}_scale"], [name], axis=0))
        return name

    x = rounded("x")
    nodes.append(helper.make_node("Conv", [x, stored("w1", 19, 3, 3, 3)], ["a"], name="first", pads=[1] * 4))
    a = rounded("a")
    nodes.append(helper.make_node("Conv", [a, stored("w2", 19, 19, 1, 1)], ["b"], name="second"))
    nodes.append(helper.make_node("Add", [a, rounded("b")], ["c"], name="sum"))
    nodes.append(helper.make_node("MaxPool", [rounded("c")], ["p"], name="pool", kernel_shape=[3, 2], strides=[3, 2]))
    nodes.append(helper.make_node("Flatten", ["p"], ["f"]))
    nodes.append(helper.make_node("Gemm", ["f", stored("w3", 5, 19 * 6)], ["y"], name="dense", transB=1))
    rounded("y")
    return canonical(graph_model(nodes, {"x": [1, 3, 6, 6]}, ["y_r"], constants))


@pytest.mark.parametrize("mode", [None, "channels", "pixels"])
def test_results_are_those_of_the_definition(tmp_path: Path, mode: Mode | None):
    model = network()
    row = {"x": np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)}
    found = run_lowered(model, row, tmp_path, mode)["y_r"]
    np.testing.assert_array_equal(found, Session(model).run(row)["y_r"])


def test_layers_with_stored_weights_use_our_kernels():
    plan = lower(network(), load_target("x86-64-v3"))
    kernels = {step.layer.name: step.layer.kernel for step in plan.steps if isinstance(step, Call)}
    assert all(kernels[name].startswith("integer") for name in ("first", "second"))
    assert "tvm" not in kernels["dense"]
