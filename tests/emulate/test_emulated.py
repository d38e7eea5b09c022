from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from board_model import board_outputs, board_package, board_rows

from edgeprune.board import load_board
from edgeprune.deploy import emulated
from edgeprune.deploy.emulated import EmulatedTransport
from edgeprune.emulate.counter import read_regions
from edgeprune.emulate.processors import cpuinfo, processor_of, write_tree
from edgeprune.errors import EdgepruneError
from edgeprune.runner.build import build_runner
from edgeprune.target import cpu_flags_of, load_target

needs_qemu = pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
BOARDS = ("emulated-rpi3", "emulated-rpi4", "emulated-rpi5")
BENCH = ("bench", "--library", "model.so", "--threads", "1", "--seconds", "3", "--json")


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> Iterator[EmulatedTransport]:
    """A connected board with edge-run, a model and three rows of inputs on it."""
    transport = EmulatedTransport(load_board(request.param))
    transport.connect()
    target = transport.board.target
    transport.upload(build_runner(load_target(target)), "edge-run", 10)
    transport.upload(board_package(target).member("model.so"), "model.so", 10)
    transport.upload(board_rows().tobytes(), "inputs.bin", 10)
    assert transport.run(["chmod", "+x", "edge-run"], 10).code == 0
    yield transport
    transport.close()


@needs_qemu
def test_outputs_are_those_of_onnx_runtime(board: EmulatedTransport) -> None:
    words = ("run", "--library", "model.so", "--inputs", "inputs.bin", "--outputs", "outputs.bin")
    ran = board.run([*board.launcher, "./edge-run", *words], 60)
    assert (ran.code, json.loads(ran.stdout)) == (0, {"rows": 3})
    found = np.frombuffer(board.download("outputs.bin", 10), np.float32).reshape(3, 1, 3)
    np.testing.assert_allclose(found, board_outputs(board_rows()), atol=1e-5)


@needs_qemu
def test_instructions_repeat_and_layers_add_up(board: EmulatedTransport) -> None:
    told = [json.loads(board.run([*board.launcher, "./edge-run", *BENCH], 60).stdout) for _ in range(2)]
    assert told[0]["instructions"] == told[1]["instructions"] > 1000
    assert told[0]["latency_ns"] is None
    assert told[0]["layers"] == told[1]["layers"]
    # A profile notes the time after every step: a few instructions each.
    steps = [layer["instructions"] for layer in told[0]["layers"]]
    assert 0.9 * told[0]["instructions"] < sum(steps) < told[0]["instructions"] + 40 * len(steps)
    assert {"first", "second"} <= {layer["name"] for layer in told[0]["layers"]}


@needs_qemu
def test_programs_see_the_board(board: EmulatedTransport) -> None:
    facts = json.loads(board.run([*board.launcher, "./edge-run", "facts"], 60).stdout)
    target = load_target(board.board.target)
    assert facts["machine"] == "aarch64"
    assert facts["cores"] == [target.cpu] * 4
    assert facts["top_frequency_mhz"] == target.clock_mhz
    assert set(target.cpu_flags) <= set(facts["features"].split())
    assert board.run(["sh", "-c", "uname -m; head -n 1 $EDGEPRUNE_CPUINFO"], 10).text == "aarch64\nprocessor\t: 0\n"


@needs_qemu
def test_threads_are_refused_where_instructions_are_counted() -> None:
    transport = EmulatedTransport(load_board("emulated-rpi4"))
    transport.connect()
    with pytest.raises(EdgepruneError) as caught:
        transport.run([*transport.launcher, "./edge-run", "bench", "--threads", "2"], 10)
    folder = Path(transport.launcher[-1]).parent
    transport.close()
    assert caught.value.code == "emulated-threads"
    assert "2 threads" in caught.value.what
    assert not folder.exists()


@needs_qemu
def test_a_processor_without_a_feature_is_told_apart() -> None:
    """A Raspberry Pi 4 refuses what was compiled for a Raspberry Pi 5."""
    transport = EmulatedTransport(load_board("emulated-rpi4"))
    transport.connect()
    transport.upload(build_runner(load_target("raspberry-pi-5")), "edge-run", 10)
    transport.upload(board_package("raspberry-pi-5").member("model.so"), "model.so", 10)
    transport.run(["chmod", "+x", "edge-run"], 10)
    ran = transport.run([*transport.launcher, "./edge-run", *BENCH], 60)
    transport.close()
    assert ran.code == 1
    assert "lacks an instruction set" in ran.said


@pytest.mark.parametrize("name", ["raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "jetson-nano"])
def test_cpuinfo_has_what_the_target_needs(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    assert cpu_flags_of(cpuinfo(target)) >= set(target.cpu_flags)
    write_tree(tmp_path, target)
    cores = sorted(path.name for path in (tmp_path / "sys/devices/system/cpu").glob("cpu?"))
    assert cores == ["cpu0", "cpu1", "cpu2", "cpu3"]
    midr = (tmp_path / "sys/devices/system/cpu/cpu0/regs/identification/midr_el1").read_text()
    assert int(midr, 16) >> 4 & 0xFFF == processor_of(target).part


def test_the_core_of_a_raspberry_pi_4() -> None:
    assert processor_of(load_target("raspberry-pi-4")).midr == 0x410FD083


def test_other_processors_cannot_be_emulated() -> None:
    with pytest.raises(EdgepruneError, match="target riscv64-generic") as caught:
        processor_of(load_target("riscv64-generic"))
    assert caught.value.code == "emulator-unsupported"


def test_a_missing_emulator_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    transport = EmulatedTransport(load_board("emulated-rpi4"))
    with pytest.raises(EdgepruneError) as caught:
        transport.connect()
    transport.close()
    assert (caught.value.code, caught.value.hint) == ("emulator-missing", "apt-get install qemu-user")


def test_an_emulator_without_plugins_is_told(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="counted no instructions") as caught:
        read_regions(tmp_path / "absent.txt")
    assert caught.value.code == "emulator-failed"
    assert "qemu-user-static" in caught.value.hint


def test_regions_that_do_not_fit_the_bench_are_told() -> None:
    printed = json.dumps({"layers": [{"name": "a", "time_ns": 1}], "latency_ns": {}}).encode()
    with pytest.raises(EdgepruneError, match="5 regions"):
        emulated._instructions(printed, [9, 7, 7, 1, 2])
    with pytest.raises(EdgepruneError, match=r"the runs took \[7, 8\]"):
        emulated._instructions(printed, [9, 7, 8, 1, 2, 3])
    told = emulated._instructions(printed, [9, 7, 7, 1, 2, 3])
    assert (told["instructions"], told["layers"]) == (7, [{"name": "a", "instructions": 2}])
