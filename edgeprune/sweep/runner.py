"""Runs the jobs of a sweep on dask.distributed, one row a job, and takes up what an earlier run left."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeprune.board import load_board
from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent
from edgeprune.road.judging import available_cores
from edgeprune.sweep import steps
from edgeprune.sweep.dispatch import Task, board_resource, dispatch
from edgeprune.sweep.grid import Job
from edgeprune.sweep.identity import job_keys
from edgeprune.sweep.results import ResultsFile, Row, open_results
from edgeprune.target import load_target

_ADDRESS = re.compile(r"(?:tcp|tls)://(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?):(\d{1,5})")
_SCRATCH = ".unfinished-"
_LABEL = "sweep"


@dataclass(frozen=True)
class Work:
    """What workers do for a job; another set stands in for it in tests."""

    make: Callable[[Job, str, str, str], Row] = steps.make
    measure: Callable[[Job, Row, str], Row] = steps.measure
    make_and_measure: Callable[[Job, str, str, str], Row] = steps.make_and_measure


@dataclass(frozen=True)
class Crew:
    """Who does it: the cluster at `scheduler`, else `workers` processes here (None: as many as there are cores)."""

    scheduler: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class SweepResult:
    """One row a job, in the order of the jobs; `earlier` of them were finished before."""

    rows: tuple[Row, ...]
    earlier: int


def check_scheduler(address: str) -> None:
    """Refuse what is no address of a scheduler. Raises EdgepruneError (scheduler-invalid, usage)."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[1]) < 65536:
        hint = "write tcp://HOST:PORT or tls://HOST:PORT"
        what = f"'{address}' is no address of a scheduler"
        raise EdgepruneError("scheduler-invalid", what, where="--scheduler", hint=hint, exit_code=2)


def run_sweep(
    jobs: Sequence[Job],
    folder: Path,
    *,
    crew: Crew | None = None,
    work: Work | None = None,
    progress: Progress = silent,
) -> SweepResult:
    """Do every job that has no finished row in `folder` yet; rows and packages go there.

    First the packages that can be made anywhere, side by side; then, with nothing else running on this machine, what
    holds a board: a job at a time on each. Raises EdgepruneError (dependency-missing, scheduler-invalid, sweep-running,
    target-unknown, board-unknown, file-missing, ...); a job that fails is a row.
    """
    crew = crew or Crew()
    _check(jobs, crew)
    keyed = job_keys(jobs)
    folder = folder.absolute()
    with open_results(folder) as results, _scratch(folder) as scratch:
        finished = {key for key, row in results.rows.items() if row.finished}
        left = {key: job for key, job in keyed.items() if key not in finished}
        _Run(left, folder, scratch, crew, work or Work(), results, progress).run()
        return SweepResult(tuple(results.rows[key] for key in keyed), len(keyed) - len(left))


class _Run:
    """One run over the jobs that are left."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        folder: Path,
        scratch: Path,
        crew: Crew,
        work: Work,
        results: ResultsFile,
        progress: Progress,
    ) -> None:
        self.jobs, self.folder, self.scratch = jobs, folder, scratch
        self.crew, self.work, self.results, self.progress = crew, work, results, progress
        self.done = 0

    def run(self) -> None:
        """Do what can be done anywhere, then what holds a board."""
        self.progress(_LABEL, 0, len(self.jobs), "")
        anywhere: dict[str, Task] = {}
        on_board: dict[str, Task] = {}
        for key, job in self.jobs.items():
            refused = steps.refusal(job, key)
            arguments = (job, key, str(self.folder), str(self.scratch))
            if refused is not None:
                self._note(refused)
            elif steps.needs_board(job):
                on_board[key] = Task(self.work.make_and_measure, arguments, job.board)
            else:
                anywhere[key] = Task(self.work.make, arguments)
        for key, row in self._carry_out(anywhere):
            job = self.jobs[key]
            if row.finished and steps.wants_measuring(job, row):
                on_board[key] = Task(self.work.measure, (job, row, str(self.folder)), job.board)
            else:
                self._note(row)
        for _, row in self._carry_out(on_board):
            self._note(row)

    def _note(self, row: Row) -> None:
        if self.results.rows.get(row.key) != row:
            self.results.append(row)
        self.done += 1
        self.progress(_LABEL, self.done, len(self.jobs), f"{Path(row.model).name} for {row.target}: {row.status}")

    def _carry_out(self, tasks: Mapping[str, Task]) -> Iterator[tuple[str, Row]]:
        if not tasks:
            return
        with self._client(tasks) as client:
            for key, future in dispatch(client, tasks):
                yield key, self._row(key, future)

    def _row(self, key: str, future: Any) -> Row:
        if future.cancelled():
            hint = "start the same sweep again: what is finished is not done again"
            where = self.crew.scheduler or "this machine"
            raise EdgepruneError("scheduler-lost", "the scheduler went away", where=where, hint=hint)
        error = future.exception()
        if error is None:
            row: Row = future.result()
            return row
        if type(error).__name__ == "KilledWorker":
            hint = "give it more memory: fewer workers (--workers)"
            error = EdgepruneError("worker-lost", "the worker process died during this job", hint=hint)
        return steps.failed(self.jobs[key], key, error)

    def _client(self, tasks: Mapping[str, Task]) -> AbstractContextManager[Any]:
        from edgeprune.sweep.workers import cluster_workers, local_workers

        boards = sorted({board_resource(task.board) for task in tasks.values() if task.board})
        if self.crew.scheduler is not None:
            return cluster_workers(self.crew.scheduler, boards, self.folder)
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(available_cores()))
        if boards:
            return local_workers([cores], dict.fromkeys(boards, 1), self.scratch)
        return local_workers(self._shares(cores, len(tasks)), {}, self.scratch)

    def _shares(self, cores: list[int], tasks: int) -> list[list[int]]:
        """The cores of each worker: as many as the jobs have threads."""
        threads = min(max(_threads(job) for job in self.jobs.values()), len(cores))
        most = len(cores) // threads if self.crew.workers is None else self.crew.workers
        count = max(1, min(most, tasks))
        each = max(threads, len(cores) // count)
        return [[cores[(index * each + offset) % len(cores)] for offset in range(each)] for index in range(count)]


def _check(jobs: Sequence[Job], crew: Crew) -> None:
    if find_spec("distributed") is None:
        raise EdgepruneError(
            "dependency-missing",
            "a sweep runs on dask.distributed, which is not installed",
            where="edgeprune sweep",
            hint='pip install "edgeprune[sweep]"',
        )
    if crew.scheduler is not None:
        check_scheduler(crew.scheduler)
    for target in sorted({job.target for job in jobs}):
        load_target(target)
    for name in sorted({job.board for job in jobs if job.board}):
        board = load_board(name)
        if board.transport != "local":
            what = f"board {name} is reached by {board.transport}, which a sweep cannot do"
            raise EdgepruneError("transport-unsupported", what, where="board", hint='use "local"', exit_code=2)


def _threads(job: Job) -> int:
    threads = job.options.get("threads", 1)
    return threads if isinstance(threads, int) and threads > 0 else 1


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for what is not finished, beside the results; leftovers of killed runs go first."""
    for left in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
