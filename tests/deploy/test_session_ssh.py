"""The whole way to a board over a real ssh connection, with what can go wrong on it."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import session_checks
from session_checks import error, session
from ssh_board import SshBoard
from stand_in_runner import stand_in_runner
from tiny_library import build_tiny_library
from tiny_ports import PORTS, check_run

from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.errors import EdgepruneError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    library = build_tiny_library(tmp_path_factory.mktemp("tiny") / "model.so")
    return {"edge-run": stand_in_runner(), "model.so": library.read_bytes()}


@pytest.fixture
def board(board, files):
    board.files = files
    return board


@pytest.mark.parametrize("sftp", [True, False])
def test_place_run_bench_and_leave_nothing(board, sftp):
    if not sftp:
        board.faults.no_sftp = True
        board.restart()
    assert session_checks.check_place_run_bench(board, os.uname().machine) == 2000


def test_sftp_that_is_promised_and_not_there(board):
    board.faults.broken_sftp = True
    board.restart()
    session_checks.check_place_run_bench(board, os.uname().machine)


@pytest.mark.parametrize(
    "check",
    [
        session_checks.check_only_what_changed_is_uploaded,
        session_checks.check_full_disk,
        session_checks.check_hanging_program,
        session_checks.check_second_user_is_told,
        session_checks.check_second_user_waits,
        session_checks.check_what_programs_write,
    ],
)
def test_what_holds_on_every_board(board, check):
    check(board)


@pytest.mark.parametrize("word", ["write", "edge-run bench"])
def test_the_connection_drops_and_nothing_is_left(board, word):
    session_checks.check_drop(board, word)


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


INTERRUPTED = """
import pickle, sys
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.session import Session
board, files, ports = pickle.load(sys.stdin.buffer)
with Session(transport_of(board)) as opened:
    opened.begin()
    BoardRunner(opened, files, ports).bench(20.0)
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
