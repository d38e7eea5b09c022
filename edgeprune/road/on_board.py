"""The part of the road that runs elsewhere: a package deployed to a board, run, measured and verified there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgeprune.board import Board, load_board
from edgeprune.compiled import Package
from edgeprune.data.samples import Samples
from edgeprune.deploy.connect import transport_of
from edgeprune.deploy.edge_run import LIBRARY, PROGRAM, BenchTold, BoardRunner
from edgeprune.deploy.facts import check_fit, check_room
from edgeprune.deploy.session import Session
from edgeprune.errors import EdgepruneError
from edgeprune.metric import Score
from edgeprune.progress import Progress, silent
from edgeprune.road.board_check import Verdict, compare, host_outputs, verify_rows
from edgeprune.road.inspecting import is_package
from edgeprune.road.judging import evaluate_runner
from edgeprune.road.opened import Opened
from edgeprune.road.rows import read_rows, write_rows
from edgeprune.runner.build import build_runner

if TYPE_CHECKING:
    import onnx_ir as ir

_PROGRAM_BYTES = 4 << 20
"""What edge-run and its threads' stacks take beside the model."""


@dataclass(frozen=True)
class OnBoard:
    """A package on a board, placed there and ready to run."""

    package: Package
    session: Session
    files: dict[str, bytes]
    runner: BoardRunner
    threads: int

    def run_rows(self, samples: Samples, progress: Progress = silent) -> dict[str, np.ndarray]:
        """One inference a row; outputs by name, stacked along a new first axis in place of a batch axis of 1."""
        shaped = {
            spec.name: samples.inputs[spec.name].reshape(samples.count, *spec.shape) for spec in self.package.inputs
        }
        outputs = self.runner.run_rows(shaped, progress)
        return {name: rows[:, 0] if rows.shape[1:2] == (1,) else rows for name, rows in outputs.items()}


@contextmanager
def open_on_board(
    path: str | PathLike[str], board: Board, threads: int | None = None, progress: Progress = silent
) -> Iterator[OnBoard]:
    """The package at `path` on `board` until the end of the block; without `threads`, as many as the board's file says.

    Raises EdgepruneError: package-wanted (usage); board-architecture, board-cpu-features, board-memory,
    board-disk-full before anything is put there; what reaching the board raises.
    """
    if not is_package(path):
        hint = f"compile it first: edgeprune compile {path} --target {board.target}"
        what = f"{path} is a model, and a board runs packages (.edge)"
        raise EdgepruneError("package-wanted", what, where=str(path), hint=hint, exit_code=2)
    wanted = threads or board.threads
    with Package.open(path) as package:
        manifest = package.manifest
        transport = transport_of(board)
        with Session(transport, progress) as session:
            check_fit(board, session.facts, manifest.target, where=str(path))
            program = build_runner(manifest.target)
            files = {PROGRAM: program, LIBRARY: package.member(manifest.library)}
            disk = sum(map(len, files.values()))
            memory = disk + manifest.weights_bytes + wanted * manifest.ram_bytes + _PROGRAM_BYTES
            check_room(board, session.facts, memory_bytes=memory, disk_bytes=disk)
            session.begin()
            runner = BoardRunner(session, files, (manifest.inputs, manifest.outputs), threads=wanted)
            yield OnBoard(package, session, files, runner, wanted)


def run_on_board(
    package: str | PathLike[str], input: Path, output: Path, board: str, threads: int | None, progress: Progress
) -> dict[str, Any]:
    """The JSON of `run --board`."""
    with open_on_board(package, load_board(board), threads, progress) as opened:
        rows = read_rows(input, opened.package.inputs)
        outputs = opened.run_rows(rows, progress)
    write_rows(output, outputs)
    return {"output": str(output), "rows": rows.count, "board": opened.session.board.name}


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

    with open_on_board(package, load_board(board), threads, progress) as opened:
        samples = load_card(data).load(split, opened.package.inputs)
        run = _ahead(lambda: opened.run_rows(samples, progress))
        return evaluate_runner(Opened(opened.package.inputs, run), data, split, reference)


def bench_on_board(
    package: str | PathLike[str],
    board: str,
    vs: tuple[str, ...],
    threads: int | None,
    seconds: float,
    progress: Progress,
) -> dict[str, Any]:
    """The JSON of `bench --board`: what was measured there, and how the board was doing before and after."""
    if vs:
        what = "other runtimes are measured on this machine only"
        raise EdgepruneError("option-conflict", what, where="--vs", hint="leave --vs or --board out", exit_code=2)
    with open_on_board(package, load_board(board), threads, progress) as opened:
        before = opened.session.conditions()
        progress("measuring on the board", 0, 1, "")
        told = opened.runner.bench(seconds)
        progress("measuring on the board", 1, 1, "")
        after = opened.session.conditions()
        facts, kind = opened.session.facts, opened.session.kind
    measured: dict[str, Any] = {
        "peak_rss_bytes": told.peak_rss_bytes,
        "conditions": {"before": before.as_dict(), "after": after.as_dict()},
    }
    return {
        "board": opened.session.board.name,
        "kind": kind,
        "precision": opened.package.manifest.precision,
        "threads": opened.threads,
        "latency_ms": _latency(told),
        "instructions": told.instructions,
        **_predicted(told),
        "peers": [],
        "peers_model": None,
        "layers": _layers(told),
        "machine": {"model": facts.model, "system": facts.system, "cores": facts.cores, "used_cores": told.cores},
        **(measured if kind == "measured" else {}),
    }


def verify_on_board(
    package: str | PathLike[str],
    board: str,
    samples: int,
    data: str | PathLike[str] | None,
    threads: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """The JSON of `verify`. Raises EdgepruneError (board-outputs-differ) where an output is not the host's."""
    with open_on_board(package, load_board(board), threads, progress) as opened:
        verdict = _verify(opened, samples, data, progress)
    return {"board": opened.session.board.name, "samples": verdict.samples, **verdict.as_dict()}


def deploy_on_board(package: str | PathLike[str], board: str, progress: Progress) -> dict[str, Any]:
    """The JSON of `deploy`: the package is verified on the board with one row and stays there."""
    with open_on_board(package, load_board(board), None, progress) as opened:
        verdict = _verify(opened, 1, None, progress)
        folder = opened.session.install(_folder_name(opened.package), opened.files)
    return {
        "board": opened.session.board.name,
        "folder": folder,
        "files": {name: len(content) for name, content in opened.files.items()},
        "uploaded_bytes": opened.runner.uploaded,
        "verified": verdict.as_dict(),
        "command": f"{folder}/{PROGRAM} bench --library {folder}/{LIBRARY}",
    }


def _verify(opened: OnBoard, samples: int, data: str | PathLike[str] | None, progress: Progress) -> Verdict:
    rows = verify_rows(opened.package, samples, data)
    ours, how = host_outputs(opened.package, rows, progress)
    theirs = opened.run_rows(rows, progress)
    return compare(ours, theirs, opened.package.manifest.precision, how, opened.session.board.name)


def _latency(told: BenchTold) -> dict[str, float | int] | None:
    if told.latency_ns is None:
        return None
    times = told.latency_ns
    return {"median": times.median / 1e6, "min": times.min / 1e6, "p90": times.p90 / 1e6, "runs": times.runs}


def _predicted(told: BenchTold) -> dict[str, Any]:
    """The predicted milliseconds, or why there are none; nothing where times were measured."""
    if told.instructions is None:
        return {}
    if told.predicted_ms is None:
        return {"predicted_ms": None, "unpredicted": told.unpredicted}
    return {"predicted_ms": msgspec.to_builtins(told.predicted_ms)}


def _layers(told: BenchTold) -> list[dict[str, Any]]:
    """One figure a layer, in the order they run: the steps of one layer added up."""
    layers: dict[str, dict[str, Any]] = {}
    for step in told.layers:
        layer = layers.setdefault(step.name, {"name": step.name})
        if step.time_ns is not None:
            layer["time_us"] = layer.get("time_us", 0.0) + step.time_ns / 1000
        if step.instructions is not None:
            layer["instructions"] = layer.get("instructions", 0) + step.instructions
        if step.predicted_us is not None:
            layer["predicted_us"] = layer.get("predicted_us", 0.0) + step.predicted_us
    return list(layers.values())


def _folder_name(package: Package) -> str:
    """The model's name as a folder may be called, with what tells its versions apart."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", package.manifest.name).strip("-")[:64] or "model"
    return f"{name}-{package.manifest.members[package.manifest.library][:8]}"


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
