"""adb's own server, connected to a device of the tests' own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import adbutils
import pytest
from adb_board import AdbServer
from adb_daemon import AdbDaemon


@contextmanager
def adb_connected(folders: AdbServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The serial number of the device "phone" of `folders`, as adb's own server sees it until the end of the block."""
    daemon = AdbDaemon(folders, "phone")
    port = free_port()
    monkeypatch.setenv("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    environment = {
        **os.environ,
        "HOME": str(home),
        "ADB_MDNS_AUTO_CONNECT": "0",
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",
    }
    command = [adbutils.adb_path(), "-P", str(port), "nodaemon", "server"]
    client = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        serial = f"127.0.0.1:{daemon.port}"
        assert "connected" in adbutils.AdbClient().connect(serial, timeout=20)
        yield serial
    finally:
        client.terminate()
        client.wait(20)
        daemon.close()
        folders.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)
