"""What must hold on every board that ssh reaches, whoever answers there: a server in this process or a whole system."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from tiny_ports import PORTS, check_run, tiny_rows

from edgeprune.board import Board
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import BoardRunner
from edgeprune.deploy.session import Session
from edgeprune.errors import EdgepruneError

HANGING = b"#!/bin/sh\nsleep 30\n"


class ReachedBoard(Protocol):
    """A board and what goes wrong on it."""

    files: dict[str, bytes]

    def board(self, **changes: Any) -> Board: ...
    def left(self) -> list[str]: ...
    def cached_count(self) -> int: ...
    def damage_largest(self) -> None: ...
    def fill_disk(self) -> None: ...
    def drop_on(self, word: str) -> None: ...
    def running(self) -> bool: ...


def session(board: ReachedBoard, **changes: Any) -> Session:
    return Session(transport_of(board.board(**changes)))


def error(call: Callable[[], object]) -> EdgepruneError:
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def check_place_run_bench(board: ReachedBoard, machine: str) -> float:
    """Nothing is left afterwards but the files that stay; gives the median of the bench."""
    with session(board) as opened:
        assert opened.facts.machine == machine
        opened.begin()
        runner = BoardRunner(opened, board.files, PORTS)
        assert runner.uploaded == sum(map(len, board.files.values()))
        check_run(runner)
        told = runner.bench(0.1)
        assert [layer.name for layer in told.layers] == ["add", "add", "compare"]
    assert board.left() == []
    assert board.cached_count() == 2
    assert told.latency_ns is not None
    return told.latency_ns.median


def check_only_what_changed_is_uploaded(board: ReachedBoard) -> None:
    expected = [(board.files, None), (board.files, 0), ({**board.files, "model.so": b"another"}, len(b"another"))]
    for files, sent in expected:
        with session(board) as opened:
            opened.begin()
            found = opened.place(files)
            assert sent is None or found == sent
    board.damage_largest()
    with session(board) as opened:
        opened.begin()
        assert opened.place(board.files) > 1000


def check_full_disk(board: ReachedBoard) -> None:
    with session(board) as opened:
        opened.begin()
        board.fill_disk()
        caught = error(lambda: opened.place({"large": bytes(range(256)) * 1000, **board.files}))
    assert caught.code == "board-disk-full"
    assert caught.what == f"the disk of board {opened.board.name} is full"
    assert "folder in the board's file" in caught.hint
    assert board.left() == []


def check_drop(board: ReachedBoard, word: str) -> None:
    """The connection is cut while a command with `word` runs."""
    board.drop_on(word)

    def use() -> None:
        with session(board) as opened:
            opened.begin()
            large = {"large": os.urandom(2_000_000)} if word == "part-" else {}
            BoardRunner(opened, {**board.files, **large}, PORTS).bench(1.0)

    caught = error(use)
    assert caught.code == "board-lost"
    assert caught.what.startswith("the connection to board ")
    assert "rebooted" in caught.hint
    assert board.left() == []


def check_hanging_program(board: ReachedBoard) -> None:
    start = time.monotonic()
    with pytest.raises(EdgepruneError) as caught, session(board, command_seconds=2.0) as opened:
        opened.begin()
        BoardRunner(opened, {**board.files, "edge-run": HANGING}, PORTS).bench(0.0)
    assert caught.value.code == "board-timeout"
    assert caught.value.what == f"board {opened.board.name} did not finish within 2 s: edge-run"
    assert time.monotonic() - start < 25
    assert board.left() == []
    assert not board.running()


def check_second_user_is_told(board: ReachedBoard) -> None:
    with session(board) as first, session(board) as second:
        first.begin()
        caught = error(second.begin)
        assert caught.code == "board-busy"
        told = rf"board {first.board.name} is in use by \S+ on \S+ \(process {os.getpid()}\), for \d+ s"
        assert re.fullmatch(told, caught.what)
    assert board.left() == []


def check_second_user_waits(board: ReachedBoard) -> None:
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


def check_what_programs_write(board: ReachedBoard) -> None:
    """Programs that are none of ours, that fail and that say too little."""

    def runner(program: bytes) -> BoardRunner:
        return BoardRunner(opened, {**board.files, "edge-run": program}, PORTS)

    with session(board) as opened:
        opened.begin()
        name = opened.board.name
        caught = error(lambda: runner(b"#!/bin/sh\necho hello\n").bench(0.1))
        assert (caught.code, caught.where) == ("board-outputs", "edge-run")
        caught = error(lambda: runner(b"#!/bin/sh\nprintf 'no \\033[31mway\\n' >&2\nexit 3\n").bench(0.1))
        assert caught.code == "board-program-failed"
        assert caught.what == f"the program failed on board {name} (code 3): no ?[31mway"
        caught = error(lambda: runner(b"#!/bin/sh\nkill -9 $$\n").bench(0.1))
        assert (caught.code, "137" in caught.hint) == ("board-program-failed", True)
        assert caught.what.startswith(f"the program failed on board {name} (code 137): ")
        caught = error(lambda: runner(b"\x7fELF nothing").bench(0.1))
        assert caught.code == "board-program-failed"
        assert caught.what.startswith(f"board {name} cannot start the program: ")
        short = runner(b"#!/bin/sh\n: > outputs.bin\necho '{\"rows\": 5}'\n")
        caught = error(lambda: short.run_rows(tiny_rows(5)))
        assert (caught.code, caught.what) == ("board-outputs", f"board {name} gave 0 bytes for 5 rows")
    assert board.left() == []
