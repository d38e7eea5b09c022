"""Jobs on a cluster in this process (threads), with short jobs in place of the real ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jobs as small
import pytest

from edgeprune.errors import EdgepruneError
from edgeprune.progress import silent
from edgeprune.sweep.grid import Sweep, expand
from edgeprune.sweep.results import RESULTS, read_rows
from edgeprune.sweep.runner import Crew, check_scheduler, run_sweep

SETTINGS: dict[str, Any] = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}


def sweep(folder: Any, models: int = 1, **facts: Any) -> Any:
    names = tuple(f"m{index}" for index in range(models))
    return expand(Sweep(models=tuple(small.model_files(folder, names)), **facts), folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One worker with two threads and one board."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, resources={"board:local": 1}, **SETTINGS
    ) as found:
        yield found


@pytest.fixture
def run(cluster: Any, tmp_path: Any) -> Any:
    def run_on(jobs: Any, work: Any = small.WORK, progress: Any = silent) -> Any:
        crew = Crew(scheduler=cluster.scheduler_address)
        return run_sweep(jobs, tmp_path / "out", crew=crew, work=work, progress=progress)

    return run_on


def test_one_row_a_job_in_the_order_of_the_jobs(run, tmp_path):
    jobs = sweep(tmp_path, 2, targets=("host", "x86-64-v3"), options=small.DENSE)
    said = []
    result = run(jobs, progress=lambda *step: said.append(step))
    assert [(row.model, row.target) for row in result.rows] == [(job.model, job.target) for job in jobs]
    assert {row.status for row in result.rows} == {"done"}
    assert all((tmp_path / "out" / row.package).exists() for row in result.rows)
    assert [(done, total) for _, done, total, _ in said] == [(done, 4) for done in range(5)]
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [*[".edge"] * 4, ".jsonl"]


def test_jobs_on_one_board_never_overlap(run, tmp_path):
    jobs = sweep(tmp_path, 1, vary={"seed": list(range(6))})
    held = sorted(row.measured for row in run(jobs).rows)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(held))
    assert all(end - begin >= 0.9 * small.HELD for begin, end in held)


def test_jobs_without_a_board_run_side_by_side(run, tmp_path):
    jobs = sweep(tmp_path, 1, board="", vary={"seed": [0, 1]})
    assert [row.status for row in run(jobs, work=small.PAIRED).rows] == ["done", "done"]


def test_packages_are_made_side_by_side_and_then_measured_one_by_one(run, tmp_path):
    jobs = sweep(tmp_path, 1, options=small.DENSE, vary={"seed": [0, 1, 2, 3]})
    held = sorted(row.measured for row in run(jobs, work=small.PAIRED).rows)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(held))


def test_what_is_finished_is_not_done_again(run, tmp_path):
    first = sweep(tmp_path, 1, board="", vary={"seed": [0, 1]})
    assert run(first).earlier == 0
    before = (tmp_path / "out" / RESULTS).read_bytes()
    again = run(sweep(tmp_path, 1, board="", vary={"seed": [1, 2, 0]}))
    assert (again.earlier, [row.options["seed"] for row in again.rows]) == (2, [1, 2, 0])
    after = (tmp_path / "out" / RESULTS).read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == 3


def test_a_failing_job_is_a_row_and_is_tried_again(run, tmp_path):
    jobs = sweep(tmp_path, 1, board="", vary={"seed": [12, 13, 14]})
    result = run(jobs)
    assert [row.status for row in result.rows] == ["done", "failed", "done"]
    assert result.rows[1].error == {"code": "internal", "what": "ValueError: thirteen", "where": "", "hint": ""}
    assert run(jobs).earlier == 2


def test_contradictory_options_are_a_row_without_any_work(run, tmp_path):
    jobs = sweep(tmp_path, 1, board="", vary={"pattern": ["2:4", "1x1"], "sparsity": [0.5, 0.75]})
    result = run(jobs)
    assert [row.status for row in result.rows] == ["done", "failed", "done", "done"]
    assert result.rows[1].error["code"] == "option-conflict"
    lines = (tmp_path / "out" / RESULTS).read_bytes().count(b"\n")
    run(jobs)
    assert (tmp_path / "out" / RESULTS).read_bytes().count(b"\n") == lines


def test_an_interrupt_keeps_what_is_finished(run, tmp_path):
    jobs = sweep(tmp_path, 1, board="", vary={"seed": list(range(5))})

    def stop(label: str, done: int, total: int, note: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(jobs, progress=stop)
    assert len(read_rows(tmp_path / "out" / RESULTS)) == 2
    assert not list((tmp_path / "out").glob(".unfinished-*"))
    assert run(jobs).earlier == 2


@pytest.mark.parametrize(
    ("workers", "code", "told"),
    [
        (0, "workers-missing", "the cluster has no worker"),
        (1, "board-unreachable", "no worker has the resource board:local"),
    ],
)
def test_a_cluster_that_cannot_do_the_jobs_is_refused(tmp_path, workers, code, told):
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=False, **SETTINGS) as found,
        pytest.raises(EdgepruneError) as caught,
    ):
        run_sweep(sweep(tmp_path), tmp_path, crew=Crew(found.scheduler_address), work=small.WORK)
    assert (caught.value.code, caught.value.what) == (code, told)
    assert "dask worker" in caught.value.hint or "--resources board:local=1" in caught.value.hint


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeprune.sweep.workers.CONNECT", "0.5s")
    with pytest.raises(EdgepruneError) as caught:
        run_sweep(sweep(tmp_path), tmp_path, crew=Crew("tcp://127.0.0.1:9"), work=small.WORK)
    assert (caught.value.code, caught.value.what) == (
        "scheduler-unreachable",
        "no scheduler answers at tcp://127.0.0.1:9",
    )


@pytest.mark.parametrize(
    "address",
    ["", "localhost:8786", "http://x:1", "tcp://x", "tcp://x:0", "tcp://x:65536", "tcp://a b:1", "inproc://1"],
)
def test_what_is_no_address_of_a_scheduler_is_refused(tmp_path, address):
    with pytest.raises(EdgepruneError) as caught:
        run_sweep(sweep(tmp_path), tmp_path, crew=Crew(address))
    assert (caught.value.code, caught.value.exit_code) == ("scheduler-invalid", 2)
    assert caught.value.what == f"'{address}' is no address of a scheduler"


@pytest.mark.parametrize("address", ["tcp://head:8786", "tls://10.0.0.1:1", "tcp://[::1]:8786", "tcp://a-b.c:65535"])
def test_addresses_of_schedulers(address):
    check_scheduler(address)


def test_unknown_targets_and_boards_are_told_before_any_work(tmp_path):
    for facts, code in (({"targets": ("x86-64-v9",)}, "target-unknown"), ({"board": "locl"}, "board-unknown")):
        with pytest.raises(EdgepruneError) as caught:
            run_sweep(sweep(tmp_path, **facts), tmp_path / "out")
        assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_without_dask_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr("edgeprune.sweep.runner.find_spec", lambda name: None)
    with pytest.raises(EdgepruneError) as caught:
        run_sweep(sweep(tmp_path), tmp_path)
    assert (caught.value.code, caught.value.hint) == ("dependency-missing", 'pip install "edgeprune[sweep]"')
    assert caught.value.what == "a sweep runs on dask.distributed, which is not installed"
