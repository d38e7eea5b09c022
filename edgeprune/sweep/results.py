"""The results of a sweep: one JSON line a job, appended whole, and the Pareto front among them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgeprune.errors import EdgepruneError
from edgeprune.metric import better

RESULTS = "results.jsonl"


class Row(msgspec.Struct, frozen=True):
    """What became of one job.

    `status` is done, missed (a limit was not met, by `shortfall`) or failed (with `error`). `package` is a file name
    in the folder of the sweep. `sparsity` is the share of weights removed, `latency_ms` the median on `board`, with
    `latency_note` where there is none. `measured` is when the board was held, in seconds since 1970.
    """

    key: str
    model: str
    target: str
    status: Literal["done", "missed", "failed"]
    board: str = ""
    data: str | None = None
    options: dict[str, Any] = {}
    package: str | None = None
    shortfall: str = ""
    error: dict[str, str] | None = None
    metric: str | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    sparsity: float | None = None
    macs: int | None = None
    total_bytes: int | None = None
    ram_bytes: int | None = None
    latency_ms: float | None = None
    latency_note: str = ""
    seconds: float = 0.0
    measured: tuple[float, float] | None = None
    worker: str = ""

    @property
    def finished(self) -> bool:
        """Whether there is nothing to gain from doing the job again."""
        return self.status != "failed"


def read_rows(path: Path) -> dict[str, Row]:
    """The latest row of every job, by key; a last line that was cut off does not count.

    Raises EdgepruneError (results-corrupt) naming the line.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = msgspec.json.decode(line, type=Row)
        except msgspec.MsgspecError as error:
            hint = "repair or remove this line; its job is done again then"
            where = f"{path}, line {number}"
            raise EdgepruneError("results-corrupt", f"this is no result: {error}", where=where, hint=hint) from error
        rows.pop(row.key, None)
        rows[row.key] = row
    return rows


class ResultsFile:
    """The open results of one sweep: `rows` that were there, and `append` for more."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._descriptor = descriptor
        self.rows = read_rows(path)

    def append(self, row: Row) -> None:
        """Add one line, on disk when this returns."""
        line = memoryview(msgspec.json.encode(row, order="deterministic") + b"\n")
        while line:
            line = line[os.write(self._descriptor, line) :]
        os.fsync(self._descriptor)
        self.rows[row.key] = row


@contextmanager
def open_results(folder: Path) -> Iterator[ResultsFile]:
    """The results in `folder`, which is made where needed, for one sweep at a time.

    Raises EdgepruneError (output-unwritable, sweep-running, results-corrupt).
    """
    path = folder / RESULTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        what = f"cannot write '{path}': {error.strerror or error}"
        hint = "name a folder that can be written to"
        raise EdgepruneError("output-unwritable", what, where="--output", hint=hint, exit_code=2) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            hint = "wait for it, or name another folder with -o"
            raise EdgepruneError(
                "sweep-running", "another sweep writes to this folder", where=str(folder), hint=hint
            ) from error
        _cut_torn_line(descriptor, path)
        yield ResultsFile(path, descriptor)
    finally:
        os.close(descriptor)


def _cut_torn_line(descriptor: int, path: Path) -> None:
    content = path.read_bytes()
    os.ftruncate(descriptor, content.rfind(b"\n") + 1)


def pareto_front(rows: Iterable[Row]) -> set[str]:
    """Keys of the rows that no other row beats: accuracy against latency, or against bytes where latency is unknown.

    Rows compete where they were measured alike: on the same data, metric, target and board. A row is beaten by one
    that is no worse in both and better in one.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.accuracy_after is not None and row.total_bytes is not None:
            groups.setdefault((row.data, row.metric, row.target, row.board), []).append(row)
    return {key for group in groups.values() for key in _front(group)}


def _front(rows: Sequence[Row]) -> Iterator[str]:
    timed = all(row.latency_ms is not None for row in rows)
    costs = [float(row.latency_ms if timed else row.total_bytes) for row in rows]  # type: ignore[arg-type]
    sign = -1 if better(str(rows[0].metric)) == "lower" else 1
    order = sorted(range(len(rows)), key=lambda index: (costs[index], -sign * float(rows[index].accuracy_after or 0)))
    best, best_cost = float("-inf"), float("-inf")
    for index in order:
        value = sign * float(rows[index].accuracy_after or 0)
        if value > best or (value == best and costs[index] == best_cost):
            best, best_cost = value, costs[index]
            yield rows[index].key
