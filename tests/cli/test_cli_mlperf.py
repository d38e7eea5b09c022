"""`bench --mlperf-tiny`: what is passed on, what is printed, what is refused."""

from __future__ import annotations

import json

import pytest

COUNTED = {
    "board": "emulated-m4",
    "kind": "emulated",
    "precision": "int8",
    "mlperf_tiny": {
        "model": "kws01",
        "performance": {"kind": "emulated", "instructions": 3098269, "runs": [{"instructions": 3098269}] * 5},
        "accuracy": {"metric": "top1", "value": 0.89, "samples": 400, "top1": 0.89},
    },
}
MEASURED = {
    "board": "nucleo-l4r5zi",
    "kind": "measured",
    "precision": "int8",
    "mlperf_tiny": {
        "model": "kws01",
        "clock_mhz": 4.0,
        "performance": {"kind": "measured", "inferences_per_second": 12.345, "runs": [{"inferences": 150}] * 5},
        "accuracy": None,
    },
}


def test_it_is_asked_for_and_told(cli, road, package, card):
    road.answers["bench"] = COUNTED
    arguments = ("bench", package, "--board", "emulated-m4", "--mlperf-tiny", "--data", card)
    assert cli(*arguments, "--json").json == COUNTED
    [(name, _, named)] = road.calls
    assert (name, named["mlperf_tiny"], named["data"], named["board"]) == ("bench", True, card, "emulated-m4")
    text = cli(*arguments).out
    assert "MLPerf Tiny on emulated-m4" in text and "kws01" in text
    assert "3,098,269 an inference (emulated)" in text and "0.8900 of 400 rows" in text
    assert "ms" not in text.replace("mlperf", "") and "second" not in text


def test_what_was_measured_is_told_as_throughput(cli, road, package):
    road.answers["bench"] = MEASURED
    text = cli("bench", package, "--board", "nucleo-l4r5zi", "--mlperf-tiny").out
    assert "12.35 (measured, clock of 4 MHz)" in text and "top1" not in text


@pytest.mark.parametrize(
    ("arguments", "what", "where"),
    [
        (["--data", "card.toml"], "--data goes with --mlperf-tiny", "--data"),
        (["--mlperf-tiny", "--vs", "litert"], "--vs means nothing to MLPerf Tiny", "--vs"),
        (["--mlperf-tiny", "--threads", "2"], "--threads means nothing to MLPerf Tiny", "--threads"),
        (["--mlperf-tiny", "--model", "m.onnx"], "--model means nothing to MLPerf Tiny", "--model"),
    ],
)
def test_what_does_not_go_together_is_refused(cli, road, package, arguments, what, where):
    finished = cli("bench", package, "--board", "emulated-m4", *arguments, "--json")
    error = json.loads(finished.out)["error"]
    assert (finished.code, error["code"], error["where"]) == (2, "option-conflict", where)
    assert error["what"].startswith(what) and error["hint"].startswith("leave ")
    assert not road.calls
