"""The part of the road that runs elsewhere: a package deployed to a board, run, measured and verified there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.board import BARE, load_board
from edgeprune.compiled import Package
from edgeprune.deploy.edge_run import LIBRARY, PROGRAM, BoardRunner
from edgeprune.errors import EdgepruneError
from edgeprune.metric import Score
from edgeprune.progress import Progress, silent
from edgeprune.road.bare_board import open_on_bare
from edgeprune.road.board_check import Verdict, compare, host_outputs, real_outputs, verify_rows
from edgeprune.road.board_use import OnBoard
from edgeprune.road.judging import evaluate_runner
from edgeprune.road.linux_board import board_files, open_on_linux
from edgeprune.road.opened import Opened, package_states
from edgeprune.road.rows import read_rows, write_rows

if TYPE_CHECKING:
    import onnx_ir as ir


@contextmanager
def open_on_board(
    path: str | PathLike[str], name: str, threads: int | None = None, progress: Progress = silent
) -> Iterator[OnBoard]:
    """The package at `path` on the board `name` until the end of the block.

    Raises EdgepruneError as `open_on_linux` and `open_on_bare` do.
    """
    board = load_board(name)
    bare = board.transport in BARE
    with open_on_bare(path, board, threads) if bare else open_on_linux(path, board, threads, progress) as opened:
        yield opened


def run_on_board(
    package: str | PathLike[str], input: Path, output: Path, board: str, threads: int | None, progress: Progress
) -> dict[str, Any]:
    """The JSON of `run --board`."""
    with open_on_board(package, board, threads, progress) as opened:
        rows = read_rows(input, opened.package.inputs)
        outputs = opened.run_rows(rows, progress)
    write_rows(output, outputs)
    return {"output": str(output), "rows": rows.count, "board": opened.board.name}


def evaluate_on_board(
    package: str | PathLike[str],
    data: str | PathLike[str],
    split: str,
    reference: ir.Model | None,
    board: str,
    threads: int | None,
    progress: Progress,
) -> Score:
    """The metric of a data card for a package on a board. Raises EdgepruneError as `evaluate_runner` does."""
    from edgeprune.data import load_card

    with open_on_board(package, board, threads, progress) as opened:
        samples = load_card(data).load(split, opened.package.inputs)
        run = _ahead(lambda: opened.run_rows(samples, progress))
        runner = Opened(opened.package.inputs, run, _stay, package_states(opened.package))
        return evaluate_runner(runner, data, split, reference)


def bench_on_board(
    package: str | PathLike[str],
    board: str,
    vs: tuple[str, ...],
    threads: int | None,
    seconds: float,
    progress: Progress,
) -> dict[str, Any]:
    """The JSON of `bench --board`. Raises EdgepruneError (option-conflict, usage) where peers are asked for."""
    if vs:
        what = "other runtimes are measured on this machine only"
        raise EdgepruneError("option-conflict", what, where="--vs", hint="leave --vs or --board out", exit_code=2)
    with open_on_board(package, board, threads, progress) as opened:
        return opened.bench(seconds, progress)


def verify_on_board(
    package: str | PathLike[str],
    board: str,
    samples: int,
    data: str | PathLike[str] | None,
    threads: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """The JSON of `verify`. Raises EdgepruneError (board-outputs-differ) where an output is not the host's."""
    with open_on_board(package, board, threads, progress) as opened:
        verdict = _verify(opened, samples, data, progress)
    return {"board": opened.board.name, "samples": verdict.samples, **verdict.as_dict()}


def deploy_on_board(package: str | PathLike[str], board: str, progress: Progress) -> dict[str, Any]:
    """The JSON of `deploy`: the package is verified on the board with one row and stays there."""
    facts = load_board(board)
    if facts.transport in BARE:
        what = f"board {board} is a microcontroller, which has no files"
        hint = f"edgeprune flash {package} --board {board}"
        raise EdgepruneError("board-bare", what, where="--board", hint=hint, exit_code=2)
    with open_on_linux(package, facts, None, progress) as opened:
        assert opened.session is not None and isinstance(opened.runner, BoardRunner)
        verdict = _verify(opened, 1, None, progress)
        files = board_files(opened.package)
        folder = opened.session.install(_folder_name(opened.package), files)
        uploaded = opened.runner.uploaded
    return {
        "board": opened.board.name,
        "folder": folder,
        "files": {name: len(content) for name, content in files.items()},
        "uploaded_bytes": uploaded,
        "verified": verdict.as_dict(),
        "command": f"{folder}/{PROGRAM} bench --library {folder}/{LIBRARY}",
    }


def flash_on_board(package: str | PathLike[str], board: str, progress: Progress) -> dict[str, Any]:
    """The JSON of `flash`: the package is in the microcontroller, and verified there with one row."""
    facts = load_board(board)
    if facts.transport not in BARE:
        return deploy_on_board(package, board, progress)
    with open_on_bare(package, facts, write=True, progress=progress) as opened:
        verdict = _verify(opened, 1, None, progress)
    return {"board": opened.board.name, **opened.facts, "verified": verdict.as_dict()}


def _verify(opened: OnBoard, samples: int, data: str | PathLike[str] | None, progress: Progress) -> Verdict:
    rows = verify_rows(opened.package, samples, data)
    ours, how = host_outputs(opened.package, rows, progress)
    theirs = opened.run_rows(rows, progress)
    real = real_outputs(opened.package)
    return compare(ours, theirs, opened.package.manifest.precision, how, opened.board.name, real)


def _folder_name(package: Package) -> str:
    """The model's name as a folder may be called, with what tells its versions apart."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", package.manifest.name).strip("-")[:64] or "model"
    return f"{name}-{package.manifest.members[package.manifest.library][:8]}"


def _stay() -> None:
    """What was run ahead was reset on its way."""


def _ahead(run_all: Callable[[], dict[str, np.ndarray]]) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """A runner of rows in order whose first call runs them all: one journey to the board in place of many."""
    results: Iterator[dict[str, np.ndarray]] | None = None

    def run(_: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal results
        if results is None:
            outputs = run_all()
            count = len(next(iter(outputs.values())))
            results = iter({name: rows[index][None] for name, rows in outputs.items()} for index in range(count))
        return next(results)

    return run
