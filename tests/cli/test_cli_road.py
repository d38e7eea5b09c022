"""The verbs in a row on a small model, with the real stages, and the C program of the README on what they made."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

README = Path(__file__).parents[2] / "README.md"
SHAPES = {"stem": (16, 3, 3, 3), "body": (32, 16, 3, 3), "head": (10, 32)}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional network for 3 x 32 x 32 images and ten classes, with random weights."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array((random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)
        for name, shape in SHAPES.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["a"], "stem_conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "stem_relu"),
        helper.make_node("Conv", ["b", "body"], ["c"], "body_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], "body_relu"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "head"], ["scores"], "head_gemm", transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])
    graph = helper.make_graph(nodes, "small", [image], [scores], weights)
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def package(small_model: Path) -> Path:
    path = small_model.with_suffix(".edge")
    command = [sys.executable, "-m", "edgeprune", "compile", str(small_model), "--dense", "-o", str(path), "--quiet"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (finished.returncode, finished.stderr) == (0, "")
    return path


def test_inspect_shows_what_was_compiled(cli, package):
    report = cli("inspect", package, "--json").json
    assert report["weights"] == sum(np.prod(shape) for shape in SHAPES.values())
    assert report["nonzero_weights"] == report["weights"]
    assert report["accuracy"] is None
    named = {"target", "precision", "backend", "weights_bytes", "code_bytes", "total_bytes", "ram_bytes", "macs"}
    assert named | {"dense_macs", "layers", "provenance"} <= set(report)


def test_run_gives_what_onnx_runtime_gives(cli, package, small_model, tmp_path):
    images = np.random.default_rng(1).standard_normal((3, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=images)
    assert cli("run", package, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz").code == 0
    session = onnxruntime.InferenceSession(small_model, providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["scores"].reshape(3, 10), expected, rtol=1e-4, atol=1e-5)


def test_bench_has_every_promised_field(cli, package, small_model):
    arguments = ("bench", package, "--vs", "onnxruntime,litert", "--model", small_model, "--seconds", "0.3")
    report = cli(*arguments, "--json").json
    assert (report["board"], report["kind"]) == ("local", "measured")
    assert {"median", "min", "p90", "runs"} <= set(report["latency_ms"])
    assert [peer["runtime"] for peer in report["peers"]] == ["onnxruntime", "litert"]
    assert all({"name", "time_us"} <= set(layer) for layer in report["layers"])
    assert "onnxruntime" in cli(*arguments).out


@pytest.mark.parametrize("pattern", ["1x1", "2:4", "1x8"])
def test_prune_writes_a_model_with_the_zeros_that_were_asked_for(cli, small_model, tmp_path, pattern):
    out = tmp_path / "pruned.onnx"
    level = [] if ":" in pattern else ["--sparsity", "0.5"]
    arguments = ("prune", small_model, "--random-calibration", "--pattern", pattern, *level, "--epochs", "0", "-o", out)
    finished = cli(*arguments, "--json")
    assert (finished.code, finished.json["output"]) == (0, str(out))
    onnx.checker.check_model(onnx.load(out))
    assert finished.json["nonzero_weights"] < finished.json["weights"]
    seen = cli("inspect", out, "--json").json
    assert seen["nonzero_weights"] == finished.json["nonzero_weights"]


def test_a_truncated_model_is_one_clear_error_and_no_file(cli, small_model, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(small_model.read_bytes()[:-700])
    finished = cli("compile", broken, "--dense", "-o", tmp_path / "out.edge", "--json")
    assert finished.code == 1
    assert finished.json["error"]["code"].startswith("model-")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]


def test_a_package_with_a_changed_byte_is_refused(cli, package, tmp_path):
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 1
    broken = tmp_path / "broken.edge"
    broken.write_bytes(content)
    finished = cli("inspect", broken, "--json")
    assert finished.code == 1
    assert finished.json["error"]["code"] == "package-corrupt"


def test_a_size_that_cannot_be_met_exits_3_and_writes_nothing(cli, small_model, tmp_path):
    out = tmp_path / "out.edge"
    finished = cli("compile", small_model, "--dense", "--size", "1k", "-o", out, "--json")
    assert (finished.code, finished.json["met"]) == (3, False)
    assert "over the budget" in finished.json["error"]["what"]
    assert not out.exists()
    assert cli("compile", small_model, "--dense", "--size", "1k", "-o", out, "--best-effort").code == 3
    assert out.exists()


def test_the_c_program_of_the_readme_runs(package, tmp_path):
    code = README.read_text(encoding="utf-8").partition("```c\n")[2].partition("```")[0]
    (tmp_path / "main.c").write_text(code, encoding="utf-8")
    with zipfile.ZipFile(package) as members:
        members.extractall(tmp_path / "parts")
    compiler = ["gcc"] if shutil.which("gcc") else [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run(
        [*compiler, "-Wall", "-Werror", "main.c", "-Iparts", "./parts/model.so", "-o", "main"],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    subprocess.run(["./main"], cwd=tmp_path, check=True, timeout=60)
