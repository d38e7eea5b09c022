"""The whole way to a board over a real ssh connection, with what can go wrong on it."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ssh_board import SshBoard
from stand_in_runner import stand_in_runner
from tiny_library import build_tiny_library
from tiny_ports import PORTS, check_run, tiny_rows

from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.session import Session
from edgeprune.errors import EdgepruneError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    library = build_tiny_library(tmp_path_factory.mktemp("tiny") / "model.so")
    return {"edge-run": stand_in_runner(), "model.so": library.read_bytes()}


def session(board, **changes):
    return Session(transport_of(board.board(**changes)))


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("sftp", [True, False])
def test_place_run_bench_and_leave_nothing(board, files, sftp):
    if not sftp:
        board.faults.no_sftp = True
        board.restart()
    with session(board) as opened:
        assert opened.facts.machine == os.uname().machine
        opened.begin()
        runner = BoardRunner(opened, files, PORTS)
        assert runner.uploaded == sum(map(len, files.values()))
        check_run(runner)
        told = runner.bench(0.1)
        assert (told.latency_ns.median, told.latency_ns.runs, told.peak_rss_bytes) == (2000, 100, 4096000)
        assert [layer.name for layer in told.layers] == ["add", "add", "compare"]
    assert board.left() == []
    assert len(board.cached()) == 2


def test_only_what_changed_is_uploaded(board, files):
    with session(board) as opened:
        opened.begin()
        opened.place(files)
    with session(board) as opened:
        opened.begin()
        assert opened.place(files) == 0
    with session(board) as opened:
        opened.begin()
        assert opened.place({**files, "model.so": b"another"}) == len(b"another")
    damaged = max(board.cached(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(b"damaged on the board")
    with session(board) as opened:
        opened.begin()
        assert opened.place(files) > 1000


def test_a_damaged_upload_is_sent_again_and_refused_when_damaged_twice(board, files):
    board.faults.flip_uploads = 1
    with session(board) as opened:
        opened.begin()
        assert opened.place({"x": b"one piece"}) == 9
    board.faults.flip_uploads = 2
    with session(board) as opened:
        opened.begin()
        caught = error(lambda: opened.place({"x": b"another piece"}))
    assert caught.code == "board-upload-corrupt"
    assert str(caught).startswith("what arrived on board shelf is not what was sent: its sha256 differs, twice")
    assert board.left() == []


def test_a_full_disk(board, files):
    board.faults.disk_full = True
    with session(board) as opened:
        opened.begin()
        caught = error(lambda: opened.place(files))
    assert caught.code == "board-disk-full"
    assert caught.what == "the disk of board shelf is full"
    assert "folder in the board's file" in caught.hint
    assert board.left() == []


@pytest.mark.parametrize("place", ["write", "edge-run"])
def test_the_connection_drops_and_nothing_is_left(board, files, place):
    board.faults.drop_on = "write" if place == "write" else "edge-run bench"

    def use():
        with session(board) as opened:
            opened.begin()
            BoardRunner(opened, files, PORTS).bench(0.1)

    caught = error(use)
    assert caught.code == "board-lost"
    assert caught.what.startswith("the connection to board shelf was lost: ")
    assert "rebooted" in caught.hint
    assert board.left() == []


def test_a_board_that_stays_away_is_given_up_and_cleaned_at_the_next_use(board, files):
    with pytest.raises(EdgepruneError) as caught, session(board, connect_seconds=0.5) as opened:
        opened.begin()
        opened.place(files)
        board.stop()
        opened.place({"x": b"more"})
    assert caught.value.code == "board-lost"
    assert board.left() != []
    board.restart()
    lock = board.home / ".cache/edgeprune/board/lock"
    lock.write_text(lock.read_text().replace(f"/{os.getpid()}", "/999999999"))
    with session(board) as opened:
        opened.begin()
        assert len(list((board.home / ".cache/edgeprune/board/runs").iterdir())) == 1
    assert board.left() == []


def test_a_program_that_hangs_is_ended(board, files):
    start = time.monotonic()
    with pytest.raises(EdgepruneError) as caught, session(board, command_seconds=2.0) as opened:
        opened.begin()
        BoardRunner(opened, files, PORTS).bench(0.125)
    assert caught.value.code == "board-timeout"
    assert caught.value.what == "board shelf did not finish within 2 s: edge-run"
    assert time.monotonic() - start < 25
    assert board.left() == []
    assert not processes_in(board.home)


INTERRUPTED = """
import pickle, sys
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.session import Session
board, files, ports = pickle.load(sys.stdin.buffer)
with Session(transport_of(board)) as opened:
    opened.begin()
    BoardRunner(opened, files, ports).bench(0.125)
"""


def test_an_interrupt_leaves_nothing(board, files):
    user = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert user.stdin is not None
    user.stdin.write(pickle.dumps((board.board(), files, PORTS)))
    user.stdin.close()
    while user.poll() is None and not processes_in(board.home, "/edge-run\0bench"):
        time.sleep(0.02)
    user.send_signal(signal.SIGINT)
    assert user.stderr is not None
    assert b"KeyboardInterrupt" in user.stderr.read()
    assert user.wait() != 0
    assert board.left() == []
    assert not processes_in(board.home)


def processes_in(folder, called=""):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            command = path.read_text()
            if str(folder) in command and called in command:
                found.append(path)
    return found


def test_a_second_user_is_told_who_holds_the_board(board, files):
    with session(board) as first, session(board) as second:
        first.begin()
        caught = error(second.begin)
        assert caught.code == "board-busy"
        assert re.fullmatch(rf"board shelf is in use by \S+ on \S+ \(process {os.getpid()}\), for \d+ s", caught.what)
    assert board.left() == []


def test_a_second_user_waits(board, files):
    told = []
    with session(board) as first:
        first.begin()
        waiting = Session(transport_of(board.board(wait_seconds=20.0)), lambda *said: told.append(said))
        with waiting as second:
            threading.Timer(0.5, lambda: first.__exit__(None, None, None)).start()
            second.begin()
            second.place({"x": b"here"})
    assert told[0][0] == "waiting for the board"
    assert f"process {os.getpid()}" in told[0][3]
    assert board.left() == []


def test_two_boards_at_once(board, tmp_path, files):
    other = SshBoard(tmp_path / "other")
    failures = []

    def use(which):
        try:
            with session(which) as opened:
                opened.begin()
                check_run(BoardRunner(opened, files, PORTS))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=use, args=(which,)) for which in (board, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert not failures
    assert board.left() == other.left() == []


def test_what_a_board_writes_besides(board, files):
    noisy = b"#!/bin/sh\necho hello\n"
    with session(board) as opened:
        opened.begin()
        runner = BoardRunner(opened, {**files, "edge-run": noisy}, PORTS)
        caught = error(lambda: runner.bench(0.1))
        assert (caught.code, caught.where) == ("board-outputs", "edge-run")
        failing = b"#!/bin/sh\nprintf 'no \\033[31mway\\n' >&2\nexit 3\n"
        runner = BoardRunner(opened, {**files, "edge-run": failing}, PORTS)
        caught = error(lambda: runner.bench(0.1))
        assert caught.code == "board-program-failed"
        assert caught.what == "the program failed on board shelf (code 3): no ?[31mway"
        runner = BoardRunner(opened, {**files, "edge-run": b"\x7fELF nothing"}, PORTS)
        caught = error(lambda: runner.bench(0.1))
        assert caught.code == "board-program-failed"
        assert caught.what.startswith("board shelf cannot start the program: ")
        short = b"#!/bin/sh\n: > outputs.bin\necho '{\"rows\": 5}'\n"
        runner = BoardRunner(opened, {**files, "edge-run": short}, PORTS)
        caught = error(lambda: runner.run_rows(tiny_rows(5)))
        assert (caught.code, caught.what) == ("board-outputs", "board shelf gave 0 bytes for 5 rows")
