"""The options of `sweep`, and what it shows; the jobs themselves are not run here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeprune.sweep.grid import Job
from edgeprune.sweep.results import Row
from edgeprune.sweep.runner import Crew, SweepResult


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `run_sweep` was asked for; `rows` is what it answers."""
    asked: dict[str, Any] = {"rows": lambda jobs: [Row("0", job.model, job.target, "done") for job in jobs]}

    def run_sweep(jobs: tuple[Job, ...], folder: Path, **named: Any) -> SweepResult:
        asked.update(jobs=jobs, folder=folder, **named)
        return SweepResult(tuple(asked["rows"](jobs)), 1)

    monkeypatch.setattr("edgeprune.sweep.runner.run_sweep", run_sweep)
    return asked


def facts(**changes: Any) -> Callable[[Any], list[Row]]:
    plain = {"metric": "top1", "data": "d", "total_bytes": 2048, "sparsity": 0.5, "accuracy_after": 0.9}
    return lambda jobs: [
        Row("a", "/x/net.onnx", "host", "done", options={"seed": 0, "epochs": 1}, latency_ms=0.5, **plain),
        Row("b", "/x/net.onnx", "host", "done", options={"seed": 1, "epochs": 1}, latency_ms=0.9, **plain),
        Row("c", "/x/net.onnx", "host", options={"seed": 2, "epochs": 1}, **changes),
    ]


def test_options_describe_a_sweep(cli, seen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.toml").touch()
    arguments = ("--model", "a.onnx", "--model", "b.onnx", "-t", "x86-64-v3", "-d", "card.toml", "-o", tmp_path)
    varied = ("--vary", "sparsity=0.5,0.75", "--vary", "pattern=1x16", "--set", "epochs=4", "--set", "dense=false")
    budgets = ("--budget", "size=64k,max-drop=2", "--budget", "latency=0.5")
    assert cli("sweep", *arguments, *varied, *budgets, "--workers", "3").code == 0
    assert seen["crew"] == Crew(None, 3)
    assert (seen["folder"], len(seen["jobs"])) == (tmp_path, 8)
    first = seen["jobs"][0]
    assert (first.model, first.target, first.data) == (
        str(Path("a.onnx").absolute()),
        "x86-64-v3",
        f"{Path.cwd()}/card.toml",
    )
    assert first.options == {
        "epochs": 4,
        "dense": False,
        "size": 65536.0,
        "max_drop": 2.0,
        "sparsity": 0.5,
        "pattern": "1x16",
    }


def test_a_sweep_without_data_may_calibrate_on_random_inputs(cli, seen, tmp_path):
    assert cli("sweep", "--model", "a.onnx", "--random-calibration", "-o", tmp_path).code == 0
    assert seen["jobs"][0].options == {"random_calibration": True}
    card = tmp_path / "card.toml"
    assert "there is no file" in cli("sweep", "--model", "a.onnx", "-d", card, "-o", tmp_path).err
    card.touch()
    both = cli("sweep", "--model", "a.onnx", "-d", card, "--random-calibration", "-o", tmp_path)
    assert (both.code, "exclude each other [option-conflict]" in both.err) == (2, True)


def test_a_file_describes_a_sweep(cli, seen, tmp_path):
    (tmp_path / "s.toml").write_text('models = ["a.onnx"]\nboard = ""\n')
    assert cli("sweep", tmp_path / "s.toml", "-o", tmp_path, "--scheduler", "tcp://head:8786").code == 0
    assert (seen["jobs"][0].model, seen["jobs"][0].board) == (str(tmp_path / "a.onnx"), "")
    assert seen["crew"] == Crew("tcp://head:8786", None)


def test_the_front_is_marked_and_only_what_varies_is_shown(cli, seen, tmp_path):
    seen["rows"] = facts(status="missed", shortfall="latency is 0.700 ms")
    text = cli("sweep", "--model", "net.onnx", "-o", tmp_path).out
    assert "2 done, 1 over a limit, 0 failed" in text
    [first] = [line for line in text.splitlines() if "seed=0" in line]
    assert first.split()[0] == "*"
    assert not any(line.lstrip().startswith("*") for line in text.splitlines() if "seed=1" in line)
    assert "epochs" not in text
    assert "latency is 0.700 ms" in text
    assert {"0.9000", "50.0", "2.0", "0.500"} <= set(first.split())


def test_json_has_every_row(cli, seen, tmp_path):
    seen["rows"] = facts(status="missed")
    report = cli("sweep", "--model", "net.onnx", "-o", tmp_path, "--json").json
    counts = {"jobs": 3, "earlier": 1, "done": 2, "missed": 1, "failed": 0, "output": str(tmp_path)}
    assert {name: report[name] for name in counts} == counts
    assert [(row["key"], row["pareto"]) for row in report["rows"]] == [("a", True), ("b", False), ("c", False)]


def test_a_failed_job_is_exit_code_1(cli, seen, tmp_path):
    seen["rows"] = facts(status="failed", error={"code": "model-corrupt", "what": "no model", "where": "", "hint": ""})
    shown = cli("sweep", "--model", "net.onnx", "-o", tmp_path)
    assert shown.code == 1
    assert "no model [model-corrupt]" in " ".join(shown.out.split())
    assert "error: 1 of 3 jobs failed [jobs-failed]" in shown.err
    finished = cli("sweep", "--model", "net.onnx", "-o", tmp_path, "--json")
    assert (finished.code, finished.json["error"]["code"], len(finished.json["rows"])) == (1, "jobs-failed", 3)


def test_an_interrupt_says_that_finished_jobs_are_kept(cli, seen, tmp_path):
    def interrupt(jobs: Any) -> Any:
        raise KeyboardInterrupt

    seen["rows"] = interrupt
    finished = cli("sweep", "--model", "net.onnx", "-o", tmp_path)
    assert finished.code == 130
    assert "what is finished is kept" in finished.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "usage"),
        (("none.toml",), "file-missing"),
        (("s.toml", "--model", "a.onnx"), "option-conflict"),
        (("--model", "a.onnx", "--vary", "sparsity"), "usage"),
        (("--model", "a.onnx", "--set", "=3"), "usage"),
        (("--model", "a.onnx", "--vary", "sparsty=0.5"), "option-unknown"),
        (("--model", "a.onnx", "--vary", "sparsity=much"), "sweep-invalid"),
    ],
)
def test_wrong_usage_is_told_before_any_work(cli, seen, tmp_path, monkeypatch, arguments, code):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text('models = ["a.onnx"]\n')
    finished = cli("sweep", *arguments, "-o", tmp_path / "out", "--json")
    assert json.loads(finished.out)["error"]["code"] == code
    assert finished.code == (1 if code == "file-missing" else 2)
    assert "jobs" not in seen


def test_states_are_given_to_every_job(cli, seen, tmp_path):
    arguments = ("--model", "a.onnx", "--random-calibration", "--state", "h=hn", "--state", "c=cn", "-o", tmp_path)
    assert cli("sweep", *arguments).code == 0
    assert [job.choices().states for job in seen["jobs"]] == [("h=hn", "c=cn")]
