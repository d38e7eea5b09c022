"""The whole way to a device with adb's own server between: the real client, a device of the tests' own."""

from __future__ import annotations

import os
import socket
import subprocess
import time

import adbutils
import pytest
from adb_board import AdbServer
from adb_daemon import AdbDaemon
from stand_in_runner import stand_in_runner
from tiny_library import build_tiny_library
from tiny_ports import PORTS, check_run

from edgeprune.board import Board
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.session import Session


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A device that adb's own server is connected to; gives its serial number and its folder."""
    folders = AdbServer(tmp_path / "devices", {"phone": "device"})
    daemon = AdbDaemon(folders, "phone")
    port = free_port()
    monkeypatch.setenv("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "ADB_MDNS_AUTO_CONNECT": "0",
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",
    }
    command = [adbutils.adb_path(), "-P", str(port), "nodaemon", "server"]
    client = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port)
    serial = f"127.0.0.1:{daemon.port}"
    assert "connected" in adbutils.AdbClient().connect(serial, timeout=20)
    yield serial, folders
    client.terminate()
    client.wait(20)
    daemon.close()
    folders.close()


def wait_for(port):
    end = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)


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
