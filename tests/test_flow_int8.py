"""The road in integers on a small generated network: quantized, pruned, trained, compiled, and pruned again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import flow
from edgeprune.errors import EdgepruneError
from edgeprune.ir.execute import Session
from edgeprune.ir.quantization import is_quantized
from edgeprune.ir.stored_weights import with_real_weights, without_pairs
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.options import Options
from edgeprune.road.precision import precisions
from edgeprune.target import load_target

CARD = """
metric = "{metric}"
[train]
file = "{rows}"
rows = "0:48"
[test]
file = "rows.npz"
rows = "48:"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with a residual sum, 3 x 8 x 8 to 5 classes."""
    generator = np.random.default_rng(4)

    def weight(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {"w1": weight(16, 3, 3, 3), "w2": weight(16, 16, 3, 3), "w3": weight(5, 16), "b3": weight(5)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["ar"], name="relu1"),
        helper.make_node("Conv", ["ar", "w2"], ["b"], name="conv2", pads=[1] * 4),
        helper.make_node("Add", ["b", "ar"], ["c"], name="sum"),
        helper.make_node("Relu", ["c"], ["cr"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["cr"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="classify", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _rows() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((80, 3, 8, 8), dtype=np.float32)


def _outputs(model: Path, rows: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": row[None]})[0] for row in rows])


@pytest.fixture(scope="module")
def card(model: Path) -> Path:
    np.savez(model.parent / "rows.npz", x=_rows(), y=_outputs(model, _rows()).argmax(1))
    path = model.parent / "card.toml"
    path.write_text(CARD.format(metric="top1", rows="rows.npz"))
    return path


@pytest.fixture(scope="module")
def quantized(model: Path, card: Path) -> Path:
    """The pruned int8 network as ONNX."""
    path = model.parent / "pruned.int8.onnx"
    flow.prune(model, data=card, output=path, options=_options(sparsity=0.5, pattern="2x16", epochs=0))
    return path


def _options(**given: Any) -> Options:
    return Options(precision="int8", best_effort=True, **given)


def _weights(path: Path) -> dict[str, np.ndarray]:
    return {layer.name: read_weight(layer) for layer in weighted_layers(with_real_weights(flow.load_model(path)))}


def test_compiled_integers_equal_onnx_runtime_on_the_written_model(quantized: Path, card: Path, tmp_path: Path) -> None:
    result = flow.compile(quantized, data=card, output=tmp_path / "x.edge", options=Options(dense=True))
    assert result.inspection["precision"] == "int8"
    assert all(
        layer["kernel"].startswith("integer")
        for layer in result.inspection["layers"]
        if layer["op"].startswith(("Conv", "Gemm"))
    )
    np.savez(tmp_path / "in.npz", x=_rows()[:20])
    flow.run(tmp_path / "x.edge", tmp_path / "in.npz", tmp_path / "out.npz")
    found, wanted = np.load(tmp_path / "out.npz")["logits"].reshape(20, 5), _outputs(quantized, _rows()[:20])
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
    assert np.mean(np.abs(found - wanted) > 1e-5) < 0.1


def test_pruned_weights_keep_their_zeros_in_integers(quantized: Path) -> None:
    for name in ("conv1", "conv2"):
        weight = _weights(quantized)[name]
        if weight.shape[2] % 2 == 0:
            pairs = (weight != 0).reshape(*weight.shape[:2], -1, 2, weight.shape[3]).any((3, 4))
            assert pairs.mean() <= 0.55
    stored = flow.inspect(quantized)
    assert stored["precision"] == "int8"
    assert stored["weights_bytes"] == stored["weights"]


def test_an_int8_model_is_pruned_further_in_integers(quantized: Path, card: Path, tmp_path: Path) -> None:
    path = tmp_path / "further.onnx"
    options = Options(sparsity=0.75, pattern="2x16", epochs=1, best_effort=True)
    result = flow.prune(quantized, data=card, output=path, options=options)
    assert result.inspection["precision"] == "int8"
    before, after = _weights(quantized), _weights(path)
    assert np.count_nonzero(after["conv2"]) < 0.7 * np.count_nonzero(before["conv2"])


def test_fp32_computes_an_int8_model_with_real_numbers(quantized: Path, card: Path, tmp_path: Path) -> None:
    options = Options(precision="fp32", dense=True)
    result = flow.compile(quantized, data=card, output=tmp_path / "x.edge", options=options)
    assert result.inspection["precision"] == "fp32"
    assert not any(layer["kernel"].startswith("integer") for layer in result.inspection["layers"])


def test_taking_pairs_off_leaves_the_function(quantized: Path) -> None:
    model = flow.load_model(quantized)
    plain = without_pairs(with_real_weights(model))
    assert not is_quantized(plain)
    feeds = {"image": _rows()[:1]}
    exact, rounded = (Session(each, 1).run(feeds)["logits"] for each in (plain, model))
    np.testing.assert_allclose(exact, rounded, atol=0.1 * np.abs(rounded).max())


def test_a_budget_that_float_misses_is_met_in_integers(model: Path, card: Path, tmp_path: Path) -> None:
    dense = flow.compile(model, data=card, output=tmp_path / "dense.edge", options=Options(dense=True)).inspection
    size = dense["total_bytes"] - 0.72 * dense["weights_bytes"]
    options = Options(size=size, epochs=0, max_drop=5.0)
    result = flow.compile(model, data=card, output=tmp_path / "x.edge", options=options)
    assert result.met, result.shortfall
    assert result.inspection["total_bytes"] <= size


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (Options(), ("fp32",)),
        (Options(latency=1.0), ("fp32", "mixed")),
        (Options(latency=1.0, sparsity=0.5), ("fp32",)),
        (Options(precision="int8", latency=1.0), ("int8",)),
    ],
)
def test_float_models_stay_float_while_they_can(model: Path, options: Options, wanted: tuple[str, ...]) -> None:
    assert precisions(flow.load_model(model), options) == wanted


def test_int8_models_stay_int8_unless_told(quantized: Path) -> None:
    arrived = flow.load_model(quantized)
    assert precisions(arrived, Options(latency=1.0)) == ("int8",)
    assert precisions(arrived, Options(precision="fp32")) == ("fp32",)


def test_labels_are_wanted_for_the_test_alone(model: Path, card: Path) -> None:
    np.savez(model.parent / "bare.npz", x=_rows())
    bare = model.parent / "bare.toml"
    bare.write_text(CARD.format(metric="top1", rows="bare.npz"))
    result = flow.prune(model, data=bare, options=Options(sparsity=0.5, pattern="1x16", epochs=1, best_effort=True))
    assert result.inspection["accuracy"]["metric"] == "top1"


def test_integers_without_data_are_refused(model: Path) -> None:
    with pytest.raises(EdgepruneError) as caught:
        flow.compile(model, options=Options(precision="int8", dense=True))
    assert str(caught.value) == (
        "int8 needs inputs to calibrate on, and none were given [data-missing]\n  where: --precision int8\n"
        "  hint:  give a data card (--data CARD.toml), or --random-calibration (then no accuracy is known)"
    )
    assert caught.value.exit_code == 2


def test_integers_have_patterns_of_their_own() -> None:
    target = load_target("x86-64-v3")
    assert target.for_precision("fp32") == target
    assert target.for_precision("int8").patterns == target.patterns_int8
