"""A package on a board with an operating system: placed there for one use, over ssh, adb or an emulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

from edgeprune.board import Board
from edgeprune.compiled import Package
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import LIBRARY, PROGRAM, BoardRunner
from edgeprune.deploy.facts import check_fit, check_room
from edgeprune.deploy.session import Session
from edgeprune.progress import Progress, silent
from edgeprune.road.board_use import OnBoard, require_package
from edgeprune.runner.build import build_runner

_PROGRAM_BYTES = 4 << 20
"""What edge-run and its threads' stacks take beside the model."""


def board_files(package: Package, progress: Progress = silent) -> dict[str, bytes]:
    """What a board needs of `package`, by file name: the model and the program that runs it."""
    manifest = package.manifest
    return {PROGRAM: build_runner(manifest.target, progress=progress), LIBRARY: package.member(manifest.library)}


@contextmanager
def open_on_linux(
    path: str | PathLike[str], board: Board, threads: int | None = None, progress: Progress = silent
) -> Iterator[OnBoard]:
    """The package at `path` on `board` until the end of the block; without `threads`, as many as the board's file says.

    Raises EdgepruneError: package-wanted (usage); board-architecture, board-cpu-features, board-memory,
    board-disk-full before anything is put there; what reaching the board raises.
    """
    require_package(path, board)
    wanted = threads or board.threads
    with Package.open(path) as package:
        manifest = package.manifest
        transport = transport_of(board)
        with Session(transport, progress) as session:
            check_fit(board, session.facts, manifest.target, where=str(path))
            files = board_files(package, progress)
            disk = sum(map(len, files.values()))
            memory = disk + manifest.weights_bytes + wanted * manifest.ram_bytes + _PROGRAM_BYTES
            check_room(board, session.facts, memory_bytes=memory, disk_bytes=disk)
            session.begin()
            ports, keeps = (manifest.inputs, manifest.outputs), bool(manifest.states)
            runner = BoardRunner(session, files, ports, threads=wanted, keeps=keeps)
            yield OnBoard(package, board, session.kind, runner, wanted, session)
