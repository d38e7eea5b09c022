"""adb's own server before a device that is a 64-bit Arm system with busybox: what a phone's shell is like."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from adb_board import ROOT, AdbServer
from adb_server import adb_connected
from system_board import SystemBoard, needs_system
from tiny_ports import PORTS, check_run

from edgeprune.board import Board
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.session import Session
from edgeprune.deploy.transport_ssh import SshTransport

pytestmark = needs_system


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[SystemBoard]:
    board = SystemBoard(tmp_path)
    board.shell(f"mkdir -p {ROOT}")
    yield board
    board.close()


def test_place_run_bench_and_leave_nothing(
    machine: SystemBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = SshTransport(machine.board())
    reached.connect()

    def shell(command: str, stdin: bytes) -> tuple[int, bytes, bytes]:
        ran = reached.run(shlex.split(f"sh -c {shlex.quote(command)}"), 30.0, stdin)
        return ran.code, ran.stdout, ran.stderr

    folders = AdbServer(tmp_path / "devices", {"phone": "device"}, shell)
    with adb_connected(folders, tmp_path, monkeypatch) as serial:
        board = Board(name="phone", target="android-arm64-v8.0", transport="adb", serial=serial, command_seconds=30.0)
        with Session(transport_of(board)) as opened:
            assert opened.facts.machine == "aarch64"
            opened.begin()
            assert opened.run_folder.startswith(f"{ROOT}/edgeprune/runs/")
            runner = BoardRunner(opened, machine.files, PORTS)
            check_run(runner)
            told = runner.bench(0.1)
        assert told.latency_ns is not None
        assert 0 < told.latency_ns.median < 10000
        assert machine.shell(f"ls {ROOT}/edgeprune/runs; find {ROOT} -type f | grep -v /cache/") == ""
        assert len(machine.shell(f"ls {ROOT}/edgeprune/cache").split()) == 2
    reached.close()
