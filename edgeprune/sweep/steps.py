"""What a worker does for one job: make the package, measure it on its board. A failure is a row, never an exception."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.errors import EdgepruneError
from edgeprune.model_file import ModelFile
from edgeprune.pattern import parse_pattern
from edgeprune.sweep.grid import Job
from edgeprune.sweep.identity import package_name
from edgeprune.sweep.results import Row


def make(job: Job, key: str, folder: str, scratch: str) -> Row:
    """The package of `job`, written to `folder` by way of `scratch` beside it; one that is there already is used."""
    return _watched(_make, _blank(job, key), job, folder, scratch)


def measure(job: Job, row: Row, folder: str) -> Row:
    """`row` with the latency of its package on the board of `job`."""
    return _watched(_measure, row, job, folder)


def make_and_measure(job: Job, key: str, folder: str, scratch: str) -> Row:
    """Both, for a job that holds its board from the start."""
    row = make(job, key, folder, scratch)
    return measure(job, row, folder) if wants_measuring(job, row) else row


def wants_measuring(job: Job, row: Row) -> bool:
    """Whether there is a package and a board to measure it on."""
    return bool(job.board) and row.package is not None


def needs_board(job: Job) -> bool:
    """Whether making the package measures on the board: for a latency budget, or where the level is to be chosen.

    Raises EdgepruneError as `Job.choices` does.
    """
    if not job.board:
        return False
    options = job.choices()
    density = None if options.pattern is None else parse_pattern(options.pattern).density
    by_hand = options.dense or options.sparsity is not None or density is not None
    return options.latency is not None or not by_hand


def refusal(job: Job, key: str) -> Row | None:
    """The row of a job whose options contradict each other; None where they do not."""
    try:
        job.choices()
    except EdgepruneError as error:
        return failed(job, key, error)
    return None


def failed(job: Job, key: str, error: BaseException) -> Row:
    """The row of a job that ended with `error`."""
    return msgspec.structs.replace(_blank(job, key), status="failed", error=_told(error))


def _make(row: Row, job: Job, folder: str, scratch: str) -> Row:
    name = package_name(job, row.key)
    options = job.choices()
    path = Path(folder) / name
    known = None if options.best_effort else _inspection_of(path)
    if known is not None:
        return _with_facts(row, known, name, "")
    from edgeprune import flow

    unfinished = Path(scratch) / name
    model = ModelFile(job.model, job.arch, job.dimensions)
    result = flow.compile(model, target=job.target, data=job.data, output=unfinished, options=options)
    if result.package is not None:
        result.package.close()
        os.replace(unfinished, path)
    return _with_facts(row, result.inspection, None if result.package is None else name, result.shortfall)


def _inspection_of(path: Path) -> dict[str, Any] | None:
    """What is in the package of an earlier run that was stopped; None where there is none, or it is damaged."""
    from edgeprune.compiled import Package

    try:
        with Package.open(path) as package:
            return package.inspection
    except EdgepruneError:
        return None


def _measure(row: Row, job: Job, folder: str) -> Row:
    from edgeprune import flow

    began = time.time()
    try:
        report = flow.bench(Path(folder) / str(row.package), threads=job.choices().threads, seconds=job.seconds)
    except EdgepruneError as error:
        if error.code != "cpu-missing-features":
            raise
        return msgspec.structs.replace(row, latency_note=f"board {job.board}: {error.what}")
    latency = float(report["latency_ms"]["median"])
    return msgspec.structs.replace(row, latency_ms=latency, measured=(began, time.time()))


def _watched(step: Callable[..., Row], row: Row, job: Job, *arguments: Any) -> Row:
    began = time.perf_counter()
    try:
        found = step(row, job, *arguments)
    except Exception as error:
        found = failed(job, row.key, error)
    seconds = row.seconds + time.perf_counter() - began
    return msgspec.structs.replace(found, seconds=seconds, worker=socket.gethostname())


def _blank(job: Job, key: str) -> Row:
    return Row(
        key=key,
        model=job.model,
        target=job.target,
        status="done",
        board=job.board,
        data=job.data,
        options=job.options,
    )


def _with_facts(row: Row, facts: dict[str, Any], package: str | None, shortfall: str) -> Row:
    accuracy = facts.get("accuracy") or {}
    return msgspec.structs.replace(
        row,
        status="missed" if shortfall else "done",
        package=package,
        shortfall=shortfall,
        metric=accuracy.get("metric"),
        accuracy_before=accuracy.get("before"),
        accuracy_after=accuracy.get("after"),
        sparsity=1 - facts["nonzero_weights"] / facts["weights"] if facts.get("weights") else None,
        **{name: facts.get(name) for name in ("macs", "total_bytes", "ram_bytes")},
    )


def _told(error: BaseException) -> dict[str, str]:
    if isinstance(error, EdgepruneError):
        return error.as_dict()
    return {"code": "internal", "what": f"{type(error).__name__}: {error}".split("\n")[0], "where": "", "hint": ""}
