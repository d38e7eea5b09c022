"""The whole way to a board over a real ssh connection, with what can go wrong on it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path

import asyncssh
import numpy as np
import pytest
from ssh_board import SshBoard
from stand_in_runner import stand_in_runner
from tiny_library import build_tiny_library, tiny_inputs

from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.interface import Port
from edgeprune.deploy.session import Session
from edgeprune.errors import EdgepruneError

INPUTS = (Port("first", (1, 2, 3), "float32"), Port("second", (1, 2), "int64"))
OUTPUTS = (Port("total", (1, 2, 3), "float32"), Port("flag", (), "bool"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    library = build_tiny_library(tmp_path_factory.mktemp("tiny") / "model.so")
    return {"edge-run": stand_in_runner(), "model.so": library.read_bytes()}


@pytest.fixture
def board(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    board = SshBoard(tmp_path / "board")
    yield board
    board.close()


def session(board, **changes):
    return Session(transport_of(board.board(**changes)))


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def rows(count):
    given = [tiny_inputs(seed) for seed in range(count)]
    return {name: np.stack([row[name] for row in given]) for name in given[0]}


def check_run(runner, count=5):
    given = rows(count)
    outputs = runner.run_rows(given)
    np.testing.assert_array_equal(outputs["total"], given["first"] + given["second"][:, :, :1, None].astype("f4"))
    np.testing.assert_array_equal(outputs["flag"], given["second"][:, 0, 1] == 0)


@pytest.mark.parametrize("sftp", [True, False])
def test_place_run_bench_and_leave_nothing(board, files, sftp):
    if not sftp:
        board.faults.no_sftp = True
        board.restart()
    with session(board) as opened:
        assert opened.facts.machine == os.uname().machine
        opened.begin()
        runner = BoardRunner(opened, files, (INPUTS, OUTPUTS))
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
            BoardRunner(opened, files, (INPUTS, OUTPUTS)).bench(0.1)

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
        BoardRunner(opened, files, (INPUTS, OUTPUTS)).bench(0.125)
    assert caught.value.code == "board-timeout"
    assert caught.value.what == "board shelf did not finish within 2 s: edge-run"
    assert time.monotonic() - start < 25
    assert board.left() == []
    assert not processes_in(board.home)


def test_an_interrupt_leaves_nothing(board, files):
    with pytest.raises(KeyboardInterrupt), session(board) as opened:
        opened.begin()
        runner = BoardRunner(opened, files, (INPUTS, OUTPUTS))
        interrupt = partial(signal.pthread_kill, threading.main_thread().ident, signal.SIGINT)
        threading.Timer(1.0, interrupt).start()
        runner.bench(0.125)
    assert board.left() == []
    assert not processes_in(board.home)


def processes_in(folder):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.append(path)
    return found


def test_an_unknown_host_key(board):
    board.write_known_hosts()
    caught = error(lambda: session(board).__enter__())
    assert caught.code == "board-key-unknown"
    fingerprint = board.host_key.get_fingerprint()
    assert caught.what == f"the host key of board shelf is not known ({fingerprint})"
    assert caught.where == f"pi@127.0.0.1:{board.port}"
    assert f"ssh-keyscan -p {board.port} 127.0.0.1 >> " in caught.hint
    assert board.commands == []


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_another_host_key_than_the_known_one(board, kind):
    board.write_known_hosts(asyncssh.generate_private_key(kind))
    caught = error(lambda: session(board).__enter__())
    assert caught.code == "board-key-changed"
    assert caught.what.startswith("the host key of board shelf is not the known one")
    assert caught.what.endswith("this may be another machine")
    assert f"-R '[127.0.0.1]:{board.port}'" in caught.hint
    assert board.commands == []


def test_a_revoked_host_key(board):
    path = board.write_known_hosts(board.host_key)
    path.write_text(f"{path.read_text()}@revoked {path.read_text()}")
    caught = error(lambda: session(board).__enter__())
    assert caught.code == "board-key-refused"
    assert "revoked" in caught.what


def test_the_users_ssh_configuration_cannot_switch_the_check_off(board, tmp_path):
    folder = tmp_path / "nobody/.ssh"
    folder.mkdir(parents=True)
    (folder / "config").write_text("Host *\n  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")
    assert error(lambda: session(board, known_hosts="").__enter__()).code == "board-key-unknown"


def test_a_key_that_the_board_does_not_take(board):
    other = board.write_key("other")
    caught = error(lambda: session(board, identity=str(other)).__enter__())
    assert caught.code == "board-login-refused"
    assert caught.what == "board shelf refuses every key that was offered"
    assert f"ssh-copy-id -p {board.port} pi@127.0.0.1" in caught.hint


def test_key_files_that_cannot_be_used(board, tmp_path):
    locked = tmp_path / "locked"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(locked), "pkcs8-pem", passphrase="secret")
    caught = error(lambda: session(board, identity=str(locked)).__enter__())
    assert caught.code == "board-identity-invalid"
    assert "ssh-add" in caught.hint
    caught = error(lambda: session(board, identity=str(tmp_path / "nowhere")).__enter__())
    assert (caught.code, caught.where) == ("board-identity-invalid", str(tmp_path / "nowhere"))


def test_boards_that_do_not_answer(board):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        caught = error(lambda: session(board, port=port, connect_seconds=0.5).__enter__())
        assert caught.code == "board-unreachable"
        assert "no answer within" in caught.what
    caught = error(lambda: session(board, port=port).__enter__())
    assert caught.what.startswith("board shelf cannot be reached: ")
    assert error(lambda: session(board, host="no.such.host.invalid").__enter__()).code == "board-unreachable"
    caught = error(lambda: session(board, host=""))
    assert (caught.code, caught.exit_code, caught.what) == ("board-address-missing", 2, "board shelf has no address")


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
                check_run(BoardRunner(opened, files, (INPUTS, OUTPUTS)))
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


def test_another_host_on_the_way(board, tmp_path, files):
    jump = SshBoard(tmp_path / "jump", like=board)
    board.write_known_hosts(board.host_key, also=[jump])
    with session(board, jump=f"pi@127.0.0.1:{jump.port}") as opened:
        opened.begin()
        assert opened.place({"x": b"through"}) == 7
    assert jump.forwarded == [board.port]
    board.write_known_hosts(board.host_key)
    caught = error(lambda: session(board, jump=f"pi@127.0.0.1:{jump.port}").__enter__())
    assert (caught.code, caught.where) == ("board-key-unknown", f"pi@127.0.0.1:{jump.port}")
    jump.close()


def test_what_a_board_writes_besides(board, files):
    noisy = b"#!/bin/sh\necho hello\n"
    with session(board) as opened:
        opened.begin()
        runner = BoardRunner(opened, {**files, "edge-run": noisy}, (INPUTS, OUTPUTS))
        caught = error(lambda: runner.bench(0.1))
        assert (caught.code, caught.where) == ("board-outputs", "edge-run")
        failing = b"#!/bin/sh\nprintf 'no \\033[31mway\\n' >&2\nexit 3\n"
        runner = BoardRunner(opened, {**files, "edge-run": failing}, (INPUTS, OUTPUTS))
        caught = error(lambda: runner.bench(0.1))
        assert caught.code == "board-program-failed"
        assert caught.what == "the program failed on board shelf (code 3): no ?[31mway"
        runner = BoardRunner(opened, {**files, "edge-run": b"\x7fELF nothing"}, (INPUTS, OUTPUTS))
        caught = error(lambda: runner.bench(0.1))
        assert caught.code == "board-program-failed"
        assert caught.what.startswith("board shelf cannot start the program: ")
        short = b"#!/bin/sh\n: > outputs.bin\necho '{\"rows\": 5}'\n"
        runner = BoardRunner(opened, {**files, "edge-run": short}, (INPUTS, OUTPUTS))
        caught = error(lambda: runner.run_rows(rows(5)))
        assert (caught.code, caught.what) == ("board-outputs", "board shelf gave 0 bytes for 5 rows")
