"""The verb passes its options on and shows what comes back."""

from __future__ import annotations

import pytest

from edgeprune.cli.advise import share_bar

REPORT = {
    "target": "x86-64-v3",
    "kind": "measured",
    "threads": 2,
    "dense_ms": 0.9,
    "levels": [{"pattern": "1x16", "sparsity": 0.875, "latency_ms": 0.15, "speedup": 6.0}],
    "layers": [
        {
            "name": "stem[0]",
            "op": "Conv",
            "macs": 1000,
            "time_us": 450.0,
            "share": 0.5,
            "pattern": "1x16",
            "pays_from": 0.05,
            "speedup": {"0.5": 2.0, "0.75": 3.9, "0.875": 7.0},
            "verdict": "prune",
            "reason": "",
        },
        {
            "name": "thin",
            "op": "Conv",
            "macs": 10,
            "time_us": None,
            "share": None,
            "pattern": "",
            "pays_from": None,
            "speedup": {},
            "verdict": "keep",
            "reason": "depthwise: stays dense, each weight serves one channel only",
        },
    ],
}


@pytest.fixture
def advising(road):
    import sys

    road.answers["advise"] = dict(REPORT)
    sys.modules["edgeprune.flow"].advise = road.verb("advise")
    return road


def test_options_reach_the_road(advising, cli, model) -> None:
    finished = cli("advise", model, "--target", "x86-64-v4", "--threads", "2", "--json")
    assert (finished.code, finished.json) == (0, REPORT)
    ((verb, positional, named),) = advising.calls
    assert (verb, str(positional[0].spec)) == ("advise", str(model))
    assert (named["target"], named["threads"]) == ("x86-64-v4", 2)


def test_the_table_shows_shares_speedups_and_reasons(advising, cli, model) -> None:
    finished = cli("advise", model)
    for text in ("stem[0]", "██████ 50.0 %", "7.0x", "prune", "depthwise", "87.5 %", "6.00x", "0.900 ms dense"):
        assert text in finished.out


def test_a_model_that_is_not_there_is_named(cli, tmp_path) -> None:
    finished = cli("advise", tmp_path / "absent.onnx", "--json")
    assert finished.code == 1
    assert finished.json["error"]["code"] == "file-missing"


@pytest.mark.parametrize(
    ("share", "bar"),
    [(None, ""), (0.0, "0.0 %"), (0.01, "▏ 1.0 %"), (0.5, "██████ 50.0 %"), (1.0, "█" * 12 + " 100.0 %")],
)
def test_bars(share, bar) -> None:
    assert share_bar(share) == bar
