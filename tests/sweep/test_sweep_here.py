"""A sweep on worker processes of this machine, as users start it."""

from __future__ import annotations

import json
import subprocess
import sys

import jobs as small

from edgeprune.sweep.results import RESULTS

COMMAND = [sys.executable, "-m", "edgeprune", "sweep"]


def test_two_models_are_compiled_and_measured(tmp_path):
    for name, channels in (("a", 4), ("b", 12)):
        small.tiny_network(tmp_path / f"{name}.onnx", channels)
    text = 'models = ["a.onnx", "b.onnx"]\nseconds = 0.1\n[options]\ndense = true\n'
    (tmp_path / "sweep.toml").write_text(text)
    command = [*COMMAND, str(tmp_path / "sweep.toml"), "-o", str(tmp_path / "out"), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    report = json.loads(finished.stdout)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert (report["jobs"], report["done"], report["earlier"]) == (2, 2, 0)
    assert all(row["latency_ms"] > 0 for row in report["rows"])
    packages = {row["package"] for row in report["rows"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {RESULTS, *packages}
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert json.loads(again.stdout)["rows"] == report["rows"]
