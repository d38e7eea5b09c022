"""The whole way to a device with adb's own server between: the real client, a device of the tests' own."""

from __future__ import annotations

import pytest
from adb_board import AdbServer
from adb_server import adb_connected
from stand_in_runner import stand_in_runner
from tiny_library import build_tiny_library
from tiny_ports import PORTS, check_run

from edgeprune.board import Board
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.session import Session


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A device that adb's own server is connected to; gives its serial number and its folder."""
    folders = AdbServer(tmp_path / "devices", {"phone": "device"})
    with adb_connected(folders, tmp_path, monkeypatch) as serial:
        yield serial, folders


def test_place_run_bench_and_leave_nothing(phone, tmp_path):
    serial, folders = phone
    library = build_tiny_library(tmp_path / "model.so")
    files = {"edge-run": stand_in_runner(), "model.so": library.read_bytes()}
    board = Board(name="phone", target="x86-64-v2", transport="adb", serial=serial, command_seconds=20.0)
    with Session(transport_of(board)) as opened:
        opened.begin()
        runner = BoardRunner(opened, files, PORTS)
        check_run(runner)
        assert runner.bench(0.1).latency_ns.median == 2000
        large = bytes(range(256)) * 2000
        opened.place({"large": large})
        assert opened.fetch("large", len(large)) == large
        ran = transport_of(board)
        ran.connect()
        assert ran.run(["sh", "-c", "cat; echo bad >&2; exit 3"], 20.0, b"typed").code == 3
    assert folders.left("phone") == []
