from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from board_model import board_outputs, board_package, board_rows
from remembering import INPUTS, fed_by_hand, recurrent

from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.states import with_states
from edgeprune.lowering.build import build
from edgeprune.lowering.lower import lower
from edgeprune.runner.build import build_runner, runner_files
from edgeprune.target import load_target

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="runs an x86-64 library")
TARGET = "x86-64-v2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """edge-run with a compiled model, inputs of three rows and the outputs to expect."""
    made = tmp_path_factory.mktemp("board")
    (made / "edge-run").write_bytes(build_runner(load_target(TARGET)))
    (made / "edge-run").chmod(0o755)
    (made / "model.so").write_bytes(board_package(TARGET).member("model.so"))
    rows = board_rows()
    (made / "inputs.bin").write_bytes(rows.tobytes())
    (made / "expected.bin").write_bytes(board_outputs(rows).tobytes())
    return made


def ask(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["./edge-run", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def refused(folder: Path, *words: str) -> str:
    done = ask(folder, *words)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


@pytest.mark.parametrize("threads", ["1", "3"])
def test_rows_give_what_onnx_runtime_gives(folder: Path, threads: str) -> None:
    words = ["run", "--library", "model.so", "--inputs", "inputs.bin", "--outputs", "out.bin", "--threads", threads]
    assert json.loads(ask(folder, *words, "--json").stdout) == {"rows": 3}
    found = np.fromfile(folder / "out.bin", np.float32).reshape(3, 1, 3)
    np.testing.assert_allclose(found, board_outputs(board_rows()), atol=1e-5)


def test_verify_says_how_far_outputs_are_apart(folder: Path) -> None:
    words = ["verify", "--library", "model.so", "--inputs", "inputs.bin", "--expected"]
    done = ask(folder, *words, "expected.bin")
    told = json.loads(done.stdout)
    assert (done.returncode, told["rows"], told["equal"]) == (0, 3, True)
    assert told["largest_difference"] < 1e-5
    wrong = board_outputs(board_rows())
    wrong[2, 0, 1] += 0.25
    (folder / "wrong.bin").write_bytes(wrong.tobytes())
    done = ask(folder, *words, "wrong.bin")
    told = json.loads(done.stdout)
    assert (done.returncode, told["equal"]) == (3, False)
    assert told["largest_difference"] == pytest.approx(0.25, abs=1e-5)
    (folder / "wrong.bin").write_bytes(np.full(9, np.nan, np.float32).tobytes())
    assert ask(folder, *words, "wrong.bin").returncode == 3


def test_bench_reports_latencies_and_layers(folder: Path) -> None:
    told = json.loads(ask(folder, "bench", "--library", "model.so", "--seconds", "0.05", "--json").stdout)
    latency = told["latency_ns"]
    assert 0 < latency["min"] <= latency["median"] <= latency["p90"]
    assert latency["runs"] >= 10
    assert {"first", "second", "mean", "linear"} <= {layer["name"] for layer in told["layers"]}
    assert told["peak_rss_bytes"] > 100_000
    assert told["cores"]


def test_bench_does_the_runs_it_is_asked_for(folder: Path) -> None:
    told = json.loads(ask(folder, "bench", "--library", "model.so", "--runs", "4").stdout)
    assert told["latency_ns"]["runs"] == 4


def test_facts_name_the_machine(folder: Path) -> None:
    told = json.loads(ask(folder, "facts", "--json").stdout)
    assert told["machine"] == platform.machine()
    assert "sse2" in told["features"].split()
    assert told["memory_bytes"] > told["memory_free_bytes"] > 0


def test_libraries_of_other_processors_and_other_files_are_refused(folder: Path) -> None:
    for name, content in (("empty.so", b""), ("text.so", b"no library at all" * 9)):
        (folder / name).write_bytes(content)
        assert "no shared library" in refused(folder, "bench", "--library", name)
    (folder / "arm.so").write_bytes(board_package("raspberry-pi-4").member("model.so"))
    assert "for another processor" in refused(folder, "bench", "--library", "arm.so")
    whole = (folder / "model.so").read_bytes()
    (folder / "cut.so").write_bytes(whole[: len(whole) // 2])
    assert "cut off" in refused(folder, "bench", "--library", "cut.so")
    assert "No such file" in refused(folder, "bench", "--library", "absent.so")


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("int system(const char *); int edge_run(void) { return system(0); }", "wants system"),
        ("int edge_run(void) { return 0; }", "lacks edge_input_count"),
        ("__attribute__((constructor)) void edge_run(void) {}", "not one of edgeprune's"),
    ],
)
def test_libraries_that_are_not_models_are_refused(folder: Path, code: str, what: str) -> None:
    (folder / "other.c").write_text(code, encoding="utf-8")
    target = ["-target", "x86_64-linux-gnu.2.28", "-shared", "-fPIC", "-nostartfiles", "-Wl,--hash-style=both"]
    command = [sys.executable, "-m", "ziglang", "cc", *target, "other.c", "-o", "other.so"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    assert what in refused(folder, "bench", "--library", "other.so")


def test_wrong_words_are_told(folder: Path) -> None:
    assert ask(folder).returncode == 2
    assert "usage: edge-run" in ask(folder, "fly").stderr
    assert "there is no option --colour" in refused(folder, "bench", "--colour", "red")
    assert "--library is missing" in refused(folder, "bench")
    assert "--threads wants a value" in refused(folder, "bench", "--threads")
    assert "give a number from 1 to 1024" in refused(folder, "bench", "--threads", "0", "--library", "model.so")
    assert "--inputs is missing" in refused(folder, "run", "--library", "model.so")


def test_inputs_that_end_within_a_row_are_told(folder: Path) -> None:
    (folder / "short.bin").write_bytes(board_rows().tobytes()[:-4])
    words = ["run", "--library", "model.so", "--inputs", "short.bin", "--outputs", "out.bin"]
    assert "not a whole number of rows of 1980 bytes" in refused(folder, *words)
    (folder / "none.bin").write_bytes(b"")
    words[4] = "none.bin"
    assert json.loads(ask(folder, *words).stdout) == {"rows": 0}


def test_the_program_is_static(folder: Path) -> None:
    program = (folder / "edge-run").read_bytes()
    assert b"ld-linux" not in program
    assert b"ld-musl" not in program
    assert "edge_run.c" in runner_files()


@pytest.mark.parametrize("reset_every", [0, 3])
def test_what_is_remembered_goes_from_row_to_row(folder: Path, reset_every: int) -> None:
    model, target = recurrent("GRU"), load_target(TARGET)
    plan = lower(with_states(canonicalize(ir.from_proto(model)), ["h=hn"]), target)
    (folder / "stream.so").write_bytes(build(plan, target).library)
    rows = np.random.default_rng(8).normal(0, 1, (7, 2, 1, INPUTS)).astype(np.float32)
    (folder / "stream.bin").write_bytes(rows.tobytes())
    words = ["run", "--library", "stream.so", "--inputs", "stream.bin", "--outputs", "out.bin"]
    asked = [*words, "--reset-every", str(reset_every)] if reset_every else words
    assert json.loads(ask(folder, *asked).stdout) == {"rows": 7}
    wanted = fed_by_hand(model, {"h": "hn"}, {"x": rows}, reset_every)["y"]
    np.testing.assert_allclose(np.fromfile(folder / "out.bin", np.float32).reshape(wanted.shape), wanted, atol=1e-5)
    assert "--reset-every 0: give a number from 1" in refused(folder, *words, "--reset-every", "0")
