"""What a worker does, with the real road on networks that compile in a moment."""

from __future__ import annotations

from pathlib import Path

import jobs as small
import msgspec
import pytest

from edgeprune.compiled import Package
from edgeprune.errors import EdgepruneError
from edgeprune.sweep import steps
from edgeprune.sweep.grid import Job
from edgeprune.sweep.results import Row

KEY = "0123456789ab"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Row, Path]:
    folder = tmp_path_factory.mktemp("made")
    (folder / "scratch").mkdir()
    job = Job(str(small.tiny_network(folder / "tiny.onnx", 8)), "host", seconds=0.1, options=small.DENSE)
    return job, steps.make(job, KEY, str(folder), str(folder / "scratch")), folder


def test_a_package_is_made_and_its_facts_are_the_row(made):
    _, row, folder = made
    assert (row.status, row.package, row.error) == ("done", f"tiny-host-{KEY}.edge", None)
    with Package.open(folder / row.package) as package:
        facts = package.inspection
    assert (row.total_bytes, row.ram_bytes, row.macs) == (facts["total_bytes"], facts["ram_bytes"], facts["macs"])
    assert (row.sparsity, row.accuracy_after) == (0, None)
    assert row.seconds > 0
    assert not list((folder / "scratch").iterdir())


def test_a_package_that_is_there_is_not_made_again(made):
    job, row, folder = made
    before = (folder / row.package).stat().st_mtime_ns
    again = steps.make(job, KEY, str(folder), "no such folder")
    assert msgspec.structs.replace(again, seconds=row.seconds) == row
    assert (folder / row.package).stat().st_mtime_ns == before


def test_a_damaged_package_is_made_anew(made, tmp_path):
    job, row, _ = made
    (tmp_path / row.package).write_bytes(b"PK\x03\x04 half")
    assert steps.make(job, KEY, str(tmp_path), str(tmp_path)).status == "done"
    Package.open(tmp_path / row.package).close()


def test_measuring_adds_the_latency(made):
    job, row, folder = made
    measured = steps.measure(job, row, str(folder))
    assert measured.latency_ms > 0
    assert measured.measured[1] > measured.measured[0]
    assert measured.seconds > row.seconds


def test_a_package_for_another_machine_has_no_latency(made, monkeypatch):
    job, row, folder = made

    def refuse(*_: object, **__: object) -> None:
        raise EdgepruneError("cpu-missing-features", "this machine lacks avx512f")

    monkeypatch.setattr("edgeprune.flow.bench", refuse)
    measured = steps.measure(job, row, str(folder))
    assert (measured.status, measured.latency_ms) == ("done", None)
    assert measured.latency_note == "board local: this machine lacks avx512f"


def test_a_missed_budget_is_a_row_without_a_package(made, tmp_path):
    job, _, _ = made
    tight = msgspec.structs.replace(job, options={"dense": True, "size": 1024.0})
    row = steps.make_and_measure(tight, KEY, str(tmp_path), str(tmp_path))
    assert (row.status, row.package, row.finished) == ("missed", None, True)
    assert "over the budget" in row.shortfall
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_a_row(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    job = Job(str(tmp_path / "broken.onnx"), "host", options=small.DENSE)
    row = steps.make_and_measure(job, KEY, str(tmp_path), str(tmp_path))
    assert (row.status, row.finished, row.package) == ("failed", False, None)
    assert row.error["code"].startswith("model-")


@pytest.mark.parametrize(
    ("options", "board", "expected"),
    [
        ({}, "local", True),
        ({}, "", False),
        ({"sparsity": 0.5}, "local", False),
        ({"pattern": "1x16"}, "local", True),
        ({"pattern": "2:4"}, "local", False),
        ({"dense": True}, "local", False),
        ({"dense": True, "latency": 1.0}, "local", True),
    ],
)
def test_a_board_is_held_where_a_choice_is_measured_on_it(options, board, expected):
    assert steps.needs_board(Job("a.onnx", "host", board=board, options=options)) is expected
