from __future__ import annotations

import os
import time

import pytest
from adb_board import AdbServer
from stand_in_runner import stand_in_runner
from tiny_library import build_tiny_library
from tiny_ports import PORTS, check_run

from edgeprune.board import Board
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.session import Session
from edgeprune.errors import EdgepruneError

SERIAL = "R5CT1234567"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    library = build_tiny_library(tmp_path_factory.mktemp("tiny") / "model.so")
    return {"edge-run": stand_in_runner(), "model.so": library.read_bytes()}


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = AdbServer(tmp_path / "devices", {SERIAL: "device"})
    monkeypatch.setenv("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
    monkeypatch.setenv("ADBUTILS_ADB_PATH", "/bin/false")
    yield server
    server.close()


def session(**changes):
    facts = {"name": "phone", "target": "x86-64-v2", "transport": "adb", "command_seconds": 10.0, "wait_seconds": 0.0}
    return Session(transport_of(Board(**{**facts, **changes})))


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("serial", ["", SERIAL])
def test_place_run_bench_and_leave_nothing(server, files, serial):
    with session(serial=serial) as opened:
        assert opened.facts.machine == os.uname().machine
        opened.begin()
        assert opened.run_folder.startswith("/data/local/tmp/edgeprune/runs/")
        runner = BoardRunner(opened, files, PORTS)
        assert runner.uploaded == sum(map(len, files.values()))
        check_run(runner)
        assert runner.bench(0.1).latency_ns.median == 2000
    assert server.left(SERIAL) == []
    with session(serial=serial) as opened:
        opened.begin()
        assert opened.place(files) == 0


def test_large_files_travel_whole(server):
    content = bytes(range(256)) * 1000
    with session() as opened:
        opened.begin()
        opened.place({"x": content})
        assert opened.fetch("x", len(content)) == content
        opened.write("y", b"")
        assert opened.fetch("y", 0) == b""


def test_several_devices_and_no_serial_number(server):
    server.devices["192.168.1.5:5555"] = "device"
    caught = error(lambda: session().__enter__())
    assert (caught.code, caught.exit_code) == ("board-ambiguous", 2)
    assert caught.what == f"adb sees 2 devices: {SERIAL}, 192.168.1.5:5555"
    assert caught.hint == f"name one: --board phone@{SERIAL}"
    server.devices["192.168.1.5:5555"] = "offline"
    session().__enter__().__exit__(None, None, None)


@pytest.mark.parametrize(
    ("devices", "serial", "what", "hint"),
    [
        ({}, "", "adb sees no device", "USB debugging"),
        ({SERIAL: "device"}, "other", "adb does not see it", SERIAL),
        ({SERIAL: "unauthorized"}, "", "adb says that it is unauthorized", "screen"),
        ({SERIAL: "offline"}, SERIAL, "adb says that it is offline", "plug it in again"),
    ],
)
def test_devices_that_cannot_be_used(server, devices, serial, what, hint):
    server.devices = devices
    caught = error(lambda: session(serial=serial).__enter__())
    assert (caught.code, caught.what) == ("board-unreachable", f"board phone cannot be reached: {what}")
    assert hint in caught.hint


def test_no_server(server):
    server.close()
    caught = error(lambda: session().__enter__())
    assert (caught.code, caught.where, caught.hint) == (
        "board-unreachable",
        "adb's server",
        "start it: adb start-server",
    )


def test_a_full_disk(server, files):
    with session() as opened:
        opened.begin()
        server.fail_send = "write failed: No space left on device"
        caught = error(lambda: opened.place(files))
    assert (caught.code, caught.what) == ("board-disk-full", "the disk of board phone is full")
    assert server.left(SERIAL) == []


def test_a_folder_that_cannot_be_written(server, files):
    with session() as opened:
        opened.begin()
        server.fail_send = "couldn't create file: Permission denied"
        caught = error(lambda: opened.place(files))
    assert caught.code == "board-upload-failed"
    assert caught.what == "a file cannot be written on board phone: couldn't create file: Permission denied"


def test_the_cable_is_pulled_and_put_back(server, files):
    server.drop_on = "edge-run bench"
    with pytest.raises(EdgepruneError) as caught, session() as opened:
        opened.begin()
        BoardRunner(opened, files, PORTS).bench(0.1)
    assert caught.value.code == "board-lost"
    assert caught.value.what == "the connection to board phone was lost: the connection was closed"
    assert server.left(SERIAL) == []


def test_the_cable_stays_out(server, files):
    with pytest.raises(EdgepruneError) as caught, session(serial=SERIAL) as opened:
        opened.begin()
        server.devices.clear()
        opened.place(files)
    assert caught.value.code == "board-lost"
    assert caught.value.what == f"the connection to board phone was lost: device '{SERIAL}' not found"


def test_a_program_that_hangs_is_ended(server, files):
    start = time.monotonic()
    with pytest.raises(EdgepruneError) as caught, session(command_seconds=2.0) as opened:
        opened.begin()
        BoardRunner(opened, files, PORTS).bench(0.125)
    assert caught.value.what == "board phone did not finish within 2 s: edge-run"
    assert time.monotonic() - start < 20
    assert server.left(SERIAL) == []


def test_a_hostile_word_stays_one_word(server):
    with session() as opened:
        words = ["echo", "$(touch hacked)", "; touch hacked", "`touch hacked`", "'", "a b", "*"]
        ran = opened._transport.run(words, 5.0)
    assert ran.text == " ".join(words[1:]) + "\n"
    assert server.left(SERIAL) == []
