"""A package's twin on this machine: it computes what the model says, and is compiled once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import flow
from edgeprune.compiled import Package
from edgeprune.lowering import build
from edgeprune.options import Options
from edgeprune.road.twin import open_twin


@pytest.fixture
def network(tmp_path: Path) -> Path:
    weights = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


def test_it_is_compiled_once_and_computes_what_the_model_says(network, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(network.parent / "cache"))
    path = network.parent / "network.edge"
    flow.compile(network, target="raspberry-pi-4", output=path, options=Options(dense=True))
    x = {"x": np.random.default_rng(1).standard_normal((1, 7)).astype(np.float32)}
    with Package.open(path) as package, open_twin(package) as twin:
        first = twin.run(x)
    monkeypatch.setattr(build, "build", None)
    with Package.open(path) as package, open_twin(package) as twin:
        second = twin.run(x)
    wanted = onnxruntime.InferenceSession(str(network)).run(None, x)[0]
    np.testing.assert_allclose(first["y"], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(second["y"], first["y"])
