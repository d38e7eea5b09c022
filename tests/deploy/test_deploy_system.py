"""Packages on the emulated system, by the verbs' own way: what it computes and counts is what qemu-user does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from board_model import board_outputs, board_package, board_rows
from system_board import needs_system

from edgeprune.board import load_board
from edgeprune.deploy import emulated_system
from edgeprune.deploy.emulated_system import SystemTransport, check_ready
from edgeprune.errors import EdgepruneError
from edgeprune.road.detecting import detect
from edgeprune.road.on_board import bench_on_board, deploy_on_board, evaluate_on_board, run_on_board

NAME = "emulated-arm64-system"


@pytest.fixture(scope="module")
def package() -> Path:
    return board_package("raspberry-pi-4").path


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose labels are ONNX Runtime's answers, but for the last."""
    folder = tmp_path_factory.mktemp("data")
    rows = board_rows()
    labels = board_outputs(rows)[:, 0].argmax(1)
    labels[-1] = (labels[-1] + 1) % 3
    np.savez(folder / "rows.npz", x=rows[:, 0], y=labels)
    path = folder / "card.toml"
    path.write_text('metric = "top1"\n[test]\nfile = "rows.npz"\n')
    return path


@needs_system
def test_deploy_bench_and_evaluate(package: Path, card: Path) -> None:
    told = deploy_on_board(package, NAME, quiet)
    assert (told["board"], told["verified"]["equal"]) == (NAME, True)
    assert told["uploaded_bytes"] == sum(told["files"].values())
    assert told["folder"].startswith("/root/.cache/edgeprune/board/models/")
    bench = bench_on_board(package, NAME, (), None, 1.0, quiet)
    counted = bench_on_board(package, "emulated-rpi4", (), None, 1.0, quiet)
    assert (bench["kind"], bench["latency_ms"], bench["threads"]) == ("emulated", None, 1)
    assert counted["instructions"] <= bench["instructions"] < 1.05 * counted["instructions"] + 5000
    assert [layer["name"] for layer in bench["layers"]] == [layer["name"] for layer in counted["layers"]]
    score = evaluate_on_board(package, card, "test", None, NAME, None, quiet)
    assert (round(score.value, 3), score.samples) == (0.667, 3)


@needs_system
def test_outputs_are_the_same_whichever_way_it_went_there(package: Path, tmp_path: Path) -> None:
    """Bit by bit: over ssh to another system, and on this machine's files under qemu-user."""
    np.savez(tmp_path / "in.npz", x=board_rows()[:, 0])
    found = []
    for name in (NAME, "emulated-rpi4"):
        told = run_on_board(package, tmp_path / "in.npz", tmp_path / "out.npz", name, None, quiet)
        assert (told["rows"], told["board"]) == (3, name)
        with np.load(tmp_path / "out.npz") as outputs:
            found.append(outputs["y"])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], board_outputs(board_rows())[:, 0], atol=1e-5)


def test_threads_are_refused_where_instructions_are_counted() -> None:
    with pytest.raises(EdgepruneError) as caught:
        SystemTransport(load_board(NAME)).run(["runs/1/edge-run", "bench", "--threads", "2"], 1.0)
    assert caught.value.code == "emulated-threads"


def test_it_is_found_where_it_could_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/qemu-system-aarch64")
    monkeypatch.setattr(emulated_system, "require_packages", lambda folder: None)
    board = load_board(NAME)
    assert detect([board]) == [{"detected": True, "detected_target": "aarch64-generic", "problem": None}]
    monkeypatch.undo()
    monkeypatch.setattr("shutil.which", lambda name: None)
    (told,) = detect([board])
    assert (told["detected"], told["problem"]) == (False, "qemu-system-aarch64 is not installed")
    with pytest.raises(EdgepruneError, match="not installed"):
        SystemTransport(board).connect()
    monkeypatch.undo()
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/qemu-system-aarch64")
    monkeypatch.setenv("EDGEPRUNE_SYSTEM", str(tmp_path))
    with pytest.raises(EdgepruneError, match="Debian's package"):
        check_ready(board)


def test_a_board_without_an_address_takes_none() -> None:
    with pytest.raises(EdgepruneError) as caught:
        load_board(f"{NAME}@127.0.0.1; reboot")
    assert (caught.value.code, caught.value.what) == ("board-invalid", f"board {NAME} has no address")


def quiet(*told: object) -> None:
    """Progress that nobody sees."""


def test_a_transport_that_was_closed() -> None:
    transport = SystemTransport(load_board(NAME))
    with pytest.raises(EdgepruneError) as caught:
        transport.run(["true"], 1.0)
    assert caught.value.code == "board-lost"
    transport.close()
