"""--repeat and --profile on `compile` and `prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.options import Options


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, `small.onnx`, beside rows that it labels itself, `card.toml`."""
    folder = tmp_path_factory.mktemp("network")
    random = np.random.default_rng(0)
    weights = {"stem": (16, 3, 3, 3), "body": (32, 16, 3, 3), "head": (10, 32)}
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["a"], "stem_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "stem_relu"),
        helper.make_node("Conv", ["b", "body"], ["c"], "body_conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "head"], ["scores"], "head_gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        [
            numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "small.onnx"
    )
    np.savez(folder / "rows.npz", x=random.standard_normal((60, 3, 8, 8)).astype(np.float32))
    sections = {"train": "0:40", "validate": "40:50", "test": "50:"}
    text = "".join(f'[{name}]\nfile = "rows.npz"\nrows = "{rows}"\n' for name, rows in sections.items())
    (folder / "card.toml").write_text('metric = "fidelity"\n' + text)
    return folder


def options_of(road: Any) -> Options:
    return road.calls[-1][2]["options"]


@pytest.mark.parametrize("verb", ["compile", "prune"])
def test_a_profile_presets_what_was_not_given(cli, road, model, card, tmp_path, verb):
    given = (verb, model, "-d", card, "-o", tmp_path / "o.bin", "--profile", "automotive")
    assert cli(*given).code == 0
    assert options_of(road) == Options(max_drop=0.3, max_drop_given=True, epochs=6)
    assert cli(*given, "--max-drop", "1.0", "--epochs", "0", "--threads", "2").code == 0
    assert options_of(road) == Options(max_drop=1.0, max_drop_given=True, epochs=0, threads=2)


def test_without_data_a_profile_trains_nothing(cli, road, model, tmp_path):
    assert cli("compile", model, "--random-calibration", "--profile", "medical", "-o", tmp_path / "o.edge").code == 0
    assert options_of(road).epochs is None
    assert options_of(road).objective == "drop"


def test_an_unknown_profile_is_told_before_any_work(cli, road, model, tmp_path):
    finished = cli("compile", model, "-o", tmp_path / "o.edge", "--profile", "cluod", "--json")
    assert (finished.code, finished.json["error"]["code"], road.calls) == (2, "profile-unknown", [])
    assert "did you mean cloud" in finished.json["error"]["hint"]


def test_compile_repeats_over_seeds_and_keeps_one(cli, network, tmp_path):
    out = tmp_path / "o.edge"
    asked = ("--sparsity", "0.5", "--pattern", "1x8", "--epochs", "0", "--seed", "5", "--repeat", "2")
    report = cli("compile", network / "small.onnx", "-d", network / "card.toml", *asked, "-o", out, "--json").json
    assert [row["seed"] for row in report["repeats"]] == [5, 6]
    assert report["seed"] in (5, 6)
    accuracies = [row["accuracy_after"] for row in report["repeats"]]
    assert report["mean"]["accuracy_after"] == pytest.approx(np.mean(accuracies))
    assert report["spread"]["accuracy_after"] == pytest.approx(np.std(accuracies, ddof=1))
    assert {"validate", "latency_ms", "sparsity", "total_bytes"} <= set(report["mean"])
    best = max(row["validate"] for row in report["repeats"])
    assert next(row for row in report["repeats"] if row["seed"] == report["seed"])["validate"] == best
    assert cli("inspect", out, "--json").json["provenance"]["seed"] == report["seed"]
    assert [path.name for path in tmp_path.iterdir()] == ["o.edge"]


def test_prune_repeats_too_and_says_how_far_the_seeds_lie_apart(cli, network, tmp_path):
    out = tmp_path / "o.onnx"
    asked = ("--random-calibration", "--sparsity", "0.5", "--epochs", "0", "--repeat", "2")
    finished = cli("prune", network / "small.onnx", *asked, "-o", out)
    assert finished.code == 0
    assert "2 seeds, 2 within every limit; seed 0 is kept" in finished.out
    assert "latency" not in finished.out
    onnx.checker.check_model(onnx.load(out))


def test_seeds_that_all_miss_their_limit_write_nothing(cli, network, tmp_path):
    out = tmp_path / "o.edge"
    asked = ("compile", network / "small.onnx", "--dense", "--size", "1k", "--repeat", "2", "-o", out, "--json")
    finished = cli(*asked)
    assert (finished.code, finished.json["output"], out.exists()) == (3, None, False)
    assert [row["met"] for row in finished.json["repeats"]] == [False, False]
    assert (cli(*asked, "--best-effort").code, out.exists()) == (3, True)


def test_no_repeat_at_all_is_wrong_usage(cli, model, tmp_path):
    assert cli("compile", model, "--dense", "--repeat", "0", "-o", tmp_path / "o.edge").code == 2
