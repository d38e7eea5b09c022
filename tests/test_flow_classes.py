"""The road of networks that give nothing but class numbers: they are judged by the scores these are made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import flow
from edgeprune.options import Options

CARD = 'metric = "{metric}"\n[train]\nfile = "rows.npz"\nrows = "0:48"\n[test]\nfile = "rows.npz"\nrows = "48:"\n'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two linear layers and ArgMax, 12 values to one of 6 classes."""
    generator = np.random.default_rng(4)
    weights = {"w1": generator.standard_normal((12, 24)), "w2": generator.standard_normal((24, 6))}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "w2"], ["c"], name="second"),
        helper.make_node("ArgMax", ["c"], ["class"], name="best", axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "classes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 12])],
        [helper.make_tensor_value_info("class", TensorProto.INT64, ["n"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("classes") / "classes.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    rows = generator.standard_normal((80, 12)).astype(np.float32)
    np.savez(path.parent / "rows.npz", x=rows, y=classes(path, rows))
    return path


def classes(path: Path, rows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": rows})[0])


def card(model: Path, metric: str) -> Path:
    path = model.parent / f"{metric}.toml"
    path.write_text(CARD.format(metric=metric))
    return path


@pytest.mark.parametrize(("metric", "precision"), [("top1", "fp32"), ("fidelity", "int8")])
def test_units_go_by_the_scores(model: Path, tmp_path: Path, metric: str, precision: str):
    options = Options(pattern="channel", sparsity=0.3, epochs=2, precision=precision)  # type: ignore[arg-type]
    data = card(model, metric)
    found = flow.compile(model, data=data, output=tmp_path / "x.edge", options=options, target="x86-64-v2")
    accuracy = found.inspection["accuracy"]
    assert accuracy["before"] == 1.0 and accuracy["after"] > 0.5
    assert flow.evaluate(tmp_path / "x.edge", data=data, reference=model).value == accuracy["after"]
    assert found.package is not None and list(found.package.run(np.zeros((1, 12), np.float32))) == ["class"]


def test_a_pruned_model_gives_what_the_original_gave(model: Path, tmp_path: Path):
    options = Options(pattern="1x1", sparsity=0.2, epochs=0, random_calibration=True)
    flow.prune(model, output=tmp_path / "x.onnx", options=options)
    assert [value.name for value in onnx.load(tmp_path / "x.onnx").graph.output] == ["class"]
    assert flow.evaluate(model, data=card(model, "top1")).value == 1.0
