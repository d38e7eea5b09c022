from __future__ import annotations

import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import EdgepruneError
from edgeprune.sweep.results import RESULTS, Row, open_results, pareto_front, read_rows


def row(key: str, **facts) -> Row:
    plain = {"model": "a.onnx", "target": "host", "status": "done", "metric": "top1", "total_bytes": 10}
    return Row(key, **{**plain, **facts})


def test_rows_come_back_as_they_were(tmp_path):
    rows = [row("a", options={"sparsity": 0.5}), row("b", status="failed", error={"code": "x", "what": "y"})]
    with open_results(tmp_path / "new" / "folder") as results:
        for each in rows:
            results.append(each)
    assert list(read_rows(tmp_path / "new" / "folder" / RESULTS).values()) == rows
    assert [each.finished for each in rows] == [True, False]


def test_the_latest_row_of_a_job_counts(tmp_path):
    with open_results(tmp_path) as results:
        for each in (row("a", status="failed"), row("b"), row("a", accuracy_after=0.5)):
            results.append(each)
    assert {key: each.status for key, each in read_rows(tmp_path / RESULTS).items()} == {"a": "done", "b": "done"}


@pytest.mark.parametrize("torn", [b'{"key":"b"', b"\xff", b'{"key":"b","model":"'])
def test_a_line_that_was_cut_off_is_dropped_and_the_next_is_whole(tmp_path, torn):
    with open_results(tmp_path) as results:
        results.append(row("a"))
    path = tmp_path / RESULTS
    path.write_bytes(path.read_bytes() + torn)
    assert list(read_rows(path)) == ["a"]
    with open_results(tmp_path) as results:
        results.append(row("c"))
    assert list(read_rows(path)) == ["a", "c"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / RESULTS).write_text('{"key": 3}\n')
    with pytest.raises(EdgepruneError) as caught, open_results(tmp_path):
        pass
    assert (caught.value.code, caught.value.where) == ("results-corrupt", f"{tmp_path / RESULTS}, line 1")
    assert "this is no result" in caught.value.what


def test_one_sweep_at_a_time(tmp_path):
    with open_results(tmp_path), pytest.raises(EdgepruneError) as caught, open_results(tmp_path):
        pass
    assert (caught.value.code, caught.value.what) == ("sweep-running", "another sweep writes to this folder")
    with open_results(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EdgepruneError) as caught, open_results(tmp_path / "file"):
        pass
    assert (caught.value.code, caught.value.exit_code) == ("output-unwritable", 2)


def _hold(folder, ready, done):
    with open_results(folder):
        ready.set()
        done.wait(20)


def test_the_lock_holds_between_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(20)
        with pytest.raises(EdgepruneError, match="another sweep"), open_results(tmp_path):
            pass
    finally:
        done.set()
        process.join(20)


FEW = st.integers(0, 4)


@given(st.lists(st.tuples(FEW, FEW, st.sampled_from(["a", "b"])), max_size=12), st.sampled_from(["top1", "mse"]))
def test_the_pareto_front_is_that_of_brute_force(points, metric):
    rows = [
        row(str(index), accuracy_after=float(accuracy), latency_ms=float(latency), target=target, metric=metric)
        for index, (accuracy, latency, target) in enumerate(points)
    ]
    sign = -1 if metric == "mse" else 1

    def beaten(index: int) -> bool:
        accuracy, latency, target = points[index]
        return any(
            other == target
            and sign * better >= sign * accuracy
            and faster <= latency
            and (better != accuracy or faster < latency)
            for better, faster, other in points
        )

    assert pareto_front(rows) == {str(index) for index in range(len(points)) if not beaten(index)}


def test_bytes_count_where_a_latency_is_not_known():
    rows = [
        row("small", accuracy_after=0.8, total_bytes=10, latency_ms=2.0),
        row("large", accuracy_after=0.8, total_bytes=20, latency_ms=1.0),
        row("other", accuracy_after=0.9, total_bytes=30),
    ]
    assert pareto_front(rows[:2]) == {"large"}
    assert pareto_front(rows) == {"small", "other"}


def test_rows_that_were_not_measured_alike_do_not_compete():
    base = {"accuracy_after": 0.8, "latency_ms": 1.0}
    worse = {"accuracy_after": 0.7, "latency_ms": 2.0}
    others = [{"data": "d"}, {"board": "b"}, {"target": "x86-64-v3"}, {"metric": "top5"}]
    rows = [row("0", **base), *(row(str(index), **{**worse, **other}) for index, other in enumerate(others, 1))]
    assert len(pareto_front(rows)) == 5
    assert pareto_front([row("0", status="failed"), row("1", accuracy_after=None)]) == set()
