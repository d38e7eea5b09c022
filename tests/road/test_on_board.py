"""Packages on boards: real runs by edge-run, over ssh and on this machine as a board."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import msgspec
import numpy as np
import onnx
import pytest
from board_model import board_package
from package_factory import make_manifest
from stand_in_runner import stand_in_runner
from tiny_library import build_tiny_library

from edgeprune import flow
from edgeprune.deploy.edge_run import LIBRARY
from edgeprune.errors import EdgepruneError
from edgeprune.options import Options
from edgeprune.package.format import MODEL, write_package
from edgeprune.package.manifest import Port
from edgeprune.road import linux_board
from edgeprune.target import load_target

INPUTS = (Port("first", (1, 2, 3), "float32"), Port("second", (1, 2), "int64"))
OUTPUTS = (Port("total", (1, 2, 3), "float32"), Port("flag", (), "bool"))


def tiny_model():
    """What the tiny library computes, in ONNX."""
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    tiny (float[1,2,3] first, int64[1,2] second) => (float[1,2,3] total, bool flag)
    <int64 zero = {0}, int64 one = {1}, int64[2] row = {1, 1}, int64[1] all = {2}>
    {
        flat = Reshape(second, all)
        added = Gather(flat, zero)
        real = Cast<to=1>(added)
        total = Add(first, real)
        tested = Gather(flat, one)
        flag = Equal(tested, zero)
    }
    """
    return onnx.parser.parse_model(text).SerializeToString()


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_tiny_library(tmp_path_factory.mktemp("tiny") / "model.so").read_bytes()


@pytest.fixture
def stand_in(monkeypatch):
    """The tiny library is no ELF file that edge-run itself would take."""
    monkeypatch.setattr(linux_board, "build_runner", lambda target, progress: stand_in_runner())


@pytest.fixture
def package(tmp_path, library, stand_in):
    return write(tmp_path / "tiny.edge", library)


def write(path, library, **changes):
    manifest = msgspec.structs.replace(make_manifest(), inputs=INPUTS, outputs=OUTPUTS, **changes)
    write_package(path, manifest, {LIBRARY: library, MODEL: tiny_model()})
    return path


@pytest.fixture
def bench_board(tmp_path, monkeypatch):
    """This machine as a board of the user's, with a folder of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config/edgeprune/boards"
    folder.mkdir(parents=True)
    facts = f'target = "host"\ntransport = "local"\nthreads = 2\nfolder = "{tmp_path}/there"\n'
    (folder / "bench.toml").write_text(facts)
    return "bench"


def left(tmp_path):
    board = tmp_path / "there"
    files = [path.relative_to(board).as_posix() for path in board.rglob("*") if not path.is_dir()]
    return [name for name in files if not name.startswith("cache/")]


def test_bench_tells_what_was_measured_and_how(package, bench_board, tmp_path):
    report = flow.bench(package, board=bench_board, seconds=0.1)
    assert (report["board"], report["kind"], report["threads"], report["peers"]) == ("bench", "measured", 2, [])
    assert report["latency_ms"] == {"median": 0.002, "min": 0.0015, "p90": 0.0025, "runs": 100}
    assert report["layers"] == [{"name": "add", "time_us": 3.0}, {"name": "compare", "time_us": 3.0}]
    assert report["peak_rss_bytes"] == 4096000
    assert set(report["conditions"]) == {"before", "after"}
    assert "temperature_c" in report["conditions"]["before"]
    assert report["machine"]["cores"] > 0
    assert left(tmp_path) == []


def test_run_gives_what_this_machine_gives(package, bench_board, tmp_path):
    generator = np.random.default_rng(0)
    first = generator.normal(size=(9, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "in.npz", first=first, second=generator.integers(-2, 2, (9, 2)))
    here = flow.run(package, tmp_path / "in.npz", tmp_path / "here.npz")
    there = flow.run(package, tmp_path / "in.npz", tmp_path / "there.npz", board=bench_board)
    assert (here["rows"], there["rows"], there["board"]) == (9, 9, "bench")
    with np.load(tmp_path / "here.npz") as ours, np.load(tmp_path / "there.npz") as theirs:
        assert sorted(ours) == sorted(theirs) == ["flag", "total"]
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], strict=True)


def test_evaluate_gives_what_this_machine_gives(package, bench_board, tmp_path):
    generator = np.random.default_rng(0)
    arrays = {"first": generator.normal(size=(20, 2, 3)).astype(np.float32), "second": np.zeros((20, 2), np.int64)}
    np.savez(tmp_path / "rows.npz", y=arrays["first"] + np.float32(0.5), **arrays)
    card = tmp_path / "card.toml"
    card.write_text('metric = "mse"\n[test]\nfile = "rows.npz"\n')
    here = flow.evaluate(package, data=card)
    assert flow.evaluate(package, data=card, board=bench_board) == here
    assert here.samples == 20


def test_verify(package, bench_board, tmp_path):
    report = flow.verify(package, board=bench_board, samples=7)
    assert report == {
        "board": "bench",
        "samples": 7,
        "equal": True,
        "exact": True,
        "max_difference": 0.0,
        "tolerance": 1e-4,
        "reference": "the same library on this machine",
    }
    assert left(tmp_path) == []


def test_deploy_leaves_what_runs_there(package, bench_board, tmp_path):
    report = flow.deploy(package, board=bench_board)
    assert report["uploaded_bytes"] == sum(report["files"].values())
    assert report["folder"].startswith(f"{tmp_path}/there/models/tiny-")
    assert [name.split("/")[-1] for name in sorted(left(tmp_path))] == ["edge-run", "model.so"]
    told = subprocess.run([*shlex.split(report["command"]), "--threads", "1", "--seconds", "1"], capture_output=True)
    assert json.loads(told.stdout)["latency_ns"]["runs"] == 100
    again = flow.deploy(package, board=bench_board)
    assert (again["folder"], again["uploaded_bytes"]) == (report["folder"], 0)


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def test_packages_for_other_machines_are_refused_before_anything_is_uploaded(bench_board, library, stand_in, tmp_path):
    arm = write(tmp_path / "arm.edge", library, target=load_target("raspberry-pi-4"))
    caught = error(lambda: flow.deploy(arm, board=bench_board))
    assert caught.code == "board-architecture"
    assert caught.what == "the package was compiled for raspberry-pi-4 (aarch64), and board bench is x86_64"
    assert (caught.hint, caught.where) == ("compile it for this board: --target host", str(arm))
    target = msgspec.structs.replace(load_target("x86-64-v2"), name="x86-64-v9", cpu_flags=("sse2", "avx1024", "amx9"))
    wide = write(tmp_path / "wide.edge", library, target=target)
    caught = error(lambda: flow.bench(wide, board=bench_board))
    assert caught.code == "board-cpu-features"
    assert caught.what == "the package was compiled for x86-64-v9, and board bench lacks avx1024, amx9"
    large = write(tmp_path / "large.edge", library, ram_bytes=1 << 50)
    caught = error(lambda: flow.verify(large, board=bench_board))
    assert caught.code == "board-memory"
    assert re.fullmatch(r"board bench has [\d.]+ MiB of memory free, and 2147483\d{3}\.\d MiB are needed", caught.what)
    assert not (tmp_path / "there").exists()


def test_what_a_board_cannot_do(package, bench_board, tmp_path):
    caught = error(lambda: flow.bench(package, board=bench_board, vs=("onnxruntime",)))
    assert (caught.code, caught.exit_code, caught.where) == ("option-conflict", 2, "--vs")
    caught = error(lambda: flow.verify(tmp_path / "model.onnx", board=bench_board))
    assert (caught.code, caught.exit_code) == ("package-wanted", 2)


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
def test_an_emulated_board_counts_instructions(tmp_path):
    path = board_package("raspberry-pi-4").path
    report = flow.bench(path, board="emulated-rpi4", seconds=0.1)
    assert (report["kind"], report["latency_ms"]) == ("emulated", None)
    assert report["instructions"] > 1000
    assert "conditions" not in report
    assert all(set(layer) - {"predicted_us"} == {"name", "instructions"} for layer in report["layers"])
    assert report["unpredicted"] if report["predicted_ms"] is None else report["predicted_ms"]["value"] > 0
    verified = flow.verify(path, board="emulated-rpi4", samples=3)
    assert (verified["equal"], verified["reference"]) == (True, "the package's model on ONNX Runtime")
    caught = error(lambda: flow.verify(path))
    assert caught.code == "board-architecture"


def test_a_compiled_network_runs_there_as_here(bench_board, tmp_path):
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    network (float[1,3,9,9] x) => (float[1,8] y)
    <float[8,3,3,3] w, float[8] b>
    { c = Conv<pads=[1,1,1,1]>(x, w, b)
      r = Relu(c)
      p = GlobalAveragePool(r)
      y = Flatten(p) }
    """
    model = onnx.parser.parse_model(text)
    generator = np.random.default_rng(3)
    for tensor, shape in (("w", (8, 3, 3, 3)), ("b", (8,))):
        values = generator.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, tensor))
    onnx.save(model, tmp_path / "network.onnx")
    flow.compile(tmp_path / "network.onnx", output=tmp_path / "network.edge", options=Options(dense=True))
    report = flow.verify(tmp_path / "network.edge", board=bench_board, samples=5)
    assert (report["samples"], report["exact"]) == (5, True)
    told = flow.bench(tmp_path / "network.edge", board=bench_board, seconds=0.1)
    assert 0 < told["latency_ms"]["min"] <= told["latency_ms"]["median"] <= told["latency_ms"]["p90"]
    assert told["layers"]
