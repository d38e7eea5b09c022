"""Sweeps whose workers die, and sweeps that are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs as small

from edgeprune.sweep.grid import Sweep, expand
from edgeprune.sweep.results import RESULTS
from edgeprune.sweep.runner import Crew, run_sweep

COMMAND = [sys.executable, "-m", "edgeprune", "sweep"]


def test_a_job_that_takes_its_worker_down_is_a_row(tmp_path):
    models = tuple(small.model_files(tmp_path, ("m",)))
    jobs = expand(Sweep(models=models, board="", vary={"seed": [1, 99, 2]}), tmp_path)
    rows = run_sweep(jobs, tmp_path / "out", crew=Crew(workers=1), work=small.WORK).rows
    assert [row.status for row in rows] == ["done", "failed", "done"]
    assert rows[1].error["code"] == "worker-lost"
    assert rows[1].error["what"] == "the worker process died during this job"


def test_ctrl_c_ends_all_processes_and_leaves_nothing_unfinished(tmp_path):
    scratch, marker, out = tmp_path / "tmp", tmp_path / "started", tmp_path / "out"
    scratch.mkdir()
    (tmp_path / "net.py").write_text(
        f"import pathlib, time\ndef build():\n    pathlib.Path({str(marker)!r}).touch()\n    time.sleep(300)\n"
    )
    command = [*COMMAND, "--model", f"{tmp_path}/net.py:build", "--set", "dense=true", "-o", str(out)]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _wait_for(marker, process)
        os.killpg(process.pid, signal.SIGINT)
        shown, told = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, shown) == (130, "")
    assert told == (
        "error: interrupted; what is finished is kept [interrupted]\n"
        f"  where: {out}\n  hint:  the same command goes on from there\n"
    )
    assert [path.name for path in out.iterdir()] == [RESULTS]
    assert list(scratch.iterdir()) == []
    assert _ends(process.pid)


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no worker started the job"
        time.sleep(0.05)


def _ends(group: int) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
