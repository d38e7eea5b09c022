"""The whole road on a small generated network and data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import flow
from edgeprune.errors import EdgepruneError
from edgeprune.options import Options

CARD = """
metric = "{metric}"
[train]
file = "rows.npz"
rows = "0:48"
[test]
file = "rows.npz"
rows = "48:"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two convolutions and a classifier, 3 x 8 x 8 to 5 classes."""
    generator = np.random.default_rng(1)

    def weight(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {"w1": weight(16, 3, 3, 3), "w2": weight(32, 16, 3, 3), "w3": weight(5, 32), "b3": weight(5)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["ar"], name="relu1"),
        helper.make_node("Conv", ["ar", "w2"], ["b"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["b"], ["br"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["br"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="classify", transB=1),
        helper.make_node("Softmax", ["logits"], ["scores"], name="softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(network, path)
    centred = constants["b3"] - np.log(_oracle(path, _rows(80))).mean(axis=0)
    network.graph.initializer[3].CopyFrom(numpy_helper.from_array(centred, "b3"))
    onnx.save(network, path)
    return path


def _rows(count: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((count, 3, 8, 8), dtype=np.float32)


def _oracle(model: Path, rows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": rows})[0]


@pytest.fixture(scope="module")
def card(model: Path) -> Path:
    """Rows labelled by the network itself, so that the original is always right."""
    rows = _rows(80)
    np.savez(model.parent / "rows.npz", x=rows, y=_oracle(model, rows).argmax(axis=1))
    path = model.parent / "card.toml"
    path.write_text(CARD.format(metric="top1"))
    return path


@pytest.fixture(scope="module")
def dense(model: Path, card: Path) -> Path:
    package = model.parent / "dense.edge"
    flow.compile(model, data=card, output=package, options=Options(dense=True))
    return package


def test_a_dense_package_gives_what_onnx_runtime_gives(model: Path, dense: Path, tmp_path: Path) -> None:
    rows = _rows(80)[:7]
    np.savez(tmp_path / "in.npz", x=rows)
    assert flow.run(dense, tmp_path / "in.npz", tmp_path / "out.npz")["rows"] == 7
    with np.load(tmp_path / "out.npz") as outputs:
        np.testing.assert_allclose(outputs["scores"], _oracle(model, rows), rtol=1e-4, atol=1e-5)


def test_accuracy_is_measured_on_the_test_rows(dense: Path, card: Path) -> None:
    accuracy = flow.inspect(dense)["accuracy"]
    assert accuracy == {"metric": "top1", "before": 1.0, "after": 1.0, "samples": 32}
    score = flow.evaluate(dense, data=card)
    assert (score.metric, score.value, score.samples) == ("top1", 1.0, 32)


def test_a_pruned_package_is_smaller_and_runs_its_own_ir(model: Path, card: Path, dense: Path, tmp_path: Path) -> None:
    result = flow.compile(
        model, data=card, output=tmp_path / "p.edge", options=Options(sparsity=0.75, pattern="1x16", epochs=0)
    )
    assert result.met and result.package is not None
    before, after = flow.inspect(dense), flow.inspect(tmp_path / "p.edge")
    assert after["weights_bytes"] < 0.6 * before["weights_bytes"]
    assert after["macs"] < before["macs"] == before["dense_macs"] == after["dense_macs"]
    (tmp_path / "pruned.onnx").write_bytes(result.package.member("model.onnx"))
    rows = _rows(80)[:5]
    outputs = result.package.run(rows)["scores"]
    expected = np.concatenate([_oracle(tmp_path / "pruned.onnx", row[None]) for row in rows])
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_package(model: Path, card: Path, tmp_path: Path) -> None:
    options = Options(sparsity=0.5, pattern="1x1", epochs=0, seed=3)
    for name in ("a.edge", "b.edge"):
        flow.compile(model, data=card, output=tmp_path / name, options=options)
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()


def test_a_missed_limit_writes_nothing(model: Path, card: Path, tmp_path: Path) -> None:
    options = Options(sparsity=0.95, pattern="1x16", epochs=0, max_drop=0.0, max_drop_given=True)
    result = flow.compile(model, data=card, output=tmp_path / "p.edge", options=options)
    assert not result.met and result.package is None
    assert "more than the 0 allowed" in result.shortfall
    assert not list(tmp_path.iterdir())


def test_best_effort_writes_in_spite_of_a_missed_budget(model: Path, card: Path, tmp_path: Path) -> None:
    options = Options(dense=True, size=1000, best_effort=True)
    result = flow.compile(model, data=card, output=tmp_path / "p.edge", options=options)
    assert not result.met and "over the budget of 1,000" in result.shortfall
    assert (tmp_path / "p.edge").exists()


def test_without_a_level_the_accuracy_limit_chooses_it(model: Path, card: Path, tmp_path: Path) -> None:
    result = flow.prune(model, data=card, output=tmp_path / "p.onnx", options=Options(epochs=0, max_drop=100.0))
    facts = flow.inspect(tmp_path / "p.onnx")
    assert 0 < facts["nonzero_weights"] < facts["weights"]
    assert result.met and not result.shortfall
    strict = flow.prune(model, data=card, options=Options(epochs=0, max_drop=0.0))
    kept = strict.inspection["nonzero_weights"]
    assert kept >= facts["nonzero_weights"]


def test_a_sparse_model_is_recognised(model: Path, card: Path, tmp_path: Path) -> None:
    flow.prune(model, data=card, output=tmp_path / "p.onnx", options=Options(pattern="2:4", epochs=0))
    result = flow.compile(tmp_path / "p.onnx", data=card, output=tmp_path / "p.edge")
    conv2 = next(layer for layer in result.inspection["layers"] if layer["name"] == "conv2")
    assert conv2["pattern"] != "" and conv2["density"] == pytest.approx(0.5)


def test_bench_says_what_was_measured(model: Path, dense: Path) -> None:
    report = flow.bench(dense, vs=("onnxruntime",), model=model, seconds=0.3)
    assert report["kind"] == "measured" and report["board"] == "local"
    assert set(report["latency_ms"]) == {"median", "min", "p90", "runs"}
    assert report["peers"][0]["runtime"] == "onnxruntime" and report["peers"][0]["latency_ms"] > 0
    assert {layer["name"] for layer in report["layers"]} >= {"conv1", "conv2", "classify"}


def test_pruning_without_data_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError) as caught:
        flow.compile(model, output=tmp_path / "p.edge")
    assert str(caught.value).splitlines() == [
        "pruning needs inputs to calibrate on, and none were given [data-missing]",
        "  where: --data",
        "  hint:  give a data card (--data CARD.toml), or --random-calibration (then no accuracy is known), or --dense",
    ]


def test_fidelity_needs_a_reference(model: Path, dense: Path, card: Path) -> None:
    fidelity = card.parent / "fidelity.toml"
    fidelity.write_text(CARD.format(metric="fidelity"))
    with pytest.raises(EdgepruneError, match="fidelity compares"):
        flow.evaluate(dense, data=fidelity)
    assert flow.evaluate(dense, data=fidelity, reference=model).value == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (Options(precision="fp16"), "precision-unsupported"),
        (Options(backend="tflite"), "backend-unsupported"),
    ],
)
def test_what_no_stage_does_is_refused(model: Path, options: Options, code: str) -> None:
    with pytest.raises(EdgepruneError) as caught:
        flow.compile(model, options=options)
    assert caught.value.code == code and caught.value.exit_code == 2
