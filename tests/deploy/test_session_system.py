"""A board that is another system altogether: its own kernel, busybox for a shell, dropbear for an ssh server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import pytest
import session_checks
from session_checks import error, session
from system_board import CACHE, SystemBoard, needs_system
from tiny_ports import PORTS

from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.errors import EdgepruneError

pytestmark = needs_system


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemBoard]:
    board = SystemBoard(tmp_path_factory.mktemp("system"))
    yield board
    board.close()


@pytest.fixture
def board(machine: SystemBoard) -> SystemBoard:
    machine.empty()
    return machine


def test_place_run_bench_and_leave_nothing(board: SystemBoard) -> None:
    assert 0 < session_checks.check_place_run_bench(board, "aarch64") < 10000


@pytest.mark.parametrize("check", [session_checks.check_full_disk, session_checks.check_second_user_waits])
def test_what_holds_on_every_board(board: SystemBoard, check: Callable[[SystemBoard], None]) -> None:
    check(board)


def test_the_connection_drops_and_nothing_is_left(board: SystemBoard) -> None:
    session_checks.check_drop(board, "bench")
    assert not board.running()


def test_another_host_key(board: SystemBoard, tmp_path: Path) -> None:
    """The key of somebody else under this board's address."""
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{board.system.port} {make_key(tmp_path / 'other')}")
    caught = error(lambda: session(board, known_hosts=str(known)).__enter__())
    assert caught.code == "board-key-changed"
    assert "this may be another machine" in caught.what


def test_another_client_key(board: SystemBoard, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    caught = error(lambda: session(board, identity=str(tmp_path / "other")).__enter__())
    assert caught.code == "board-login-refused"
    assert caught.what == "board emulated-arm64-system refuses every key that was offered"


def make_key(path: Path) -> str:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(path))
    return key.export_public_key().decode()


def test_the_network_goes_down_for_a_while(board: SystemBoard) -> None:
    """Nothing answers any more: every step ends within its time, and the next use cleans up."""
    with pytest.raises(EdgepruneError) as caught, session(board, command_seconds=3.0, connect_seconds=2.0) as opened:
        opened.begin()
        board.hang_up()
        board.system.tell("set_link", name="card", up=False)
        start = time.monotonic()
        opened.place(board.files)
    assert caught.value.code in ("board-timeout", "board-lost")
    assert time.monotonic() - start < 40
    board.system.tell("set_link", name="card", up=True)
    assert f"{CACHE.removeprefix('/root')}/lock" in "".join(board.left())
    board.shell(f"sed -i 's,/[0-9]*$,/999999999,' {CACHE}/lock")
    with session(board) as opened:
        opened.begin()
    assert board.left() == []


def test_the_board_restarts_in_the_middle(board: SystemBoard) -> None:
    restarted = threading.Thread(target=board.system.restart, args=(60.0,))
    with pytest.raises(EdgepruneError) as caught, session(board) as opened:
        opened.begin()
        runner = BoardRunner(opened, {**board.files, "edge-run": session_checks.HANGING}, PORTS)
        board.hang_up()
        restarted.start()
        runner.bench(10.0)
    restarted.join()
    assert caught.value.code == "board-lost"
    assert "rebooted" in caught.value.hint
    with session(board) as again:
        again.begin()
        assert again.facts.boot != opened.facts.boot
        assert again.place(board.files) > 0
    assert board.left() == []
