"""The page of `report`: well-formed, complete, and honest about where figures come from."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from edgeprune.report.page import report_page
from edgeprune.report.plots import Bar, bar_plot

LAYERS = [
    {"name": f"<conv {index}>", "op": "Conv", "pattern": "1x16", "density": 0.25, "kernel": "conv2d"}
    | {"macs": 100 * index, "dense_macs": 400 * index}
    for index in range(1, 5)
]
PACKAGE = {
    "target": "cortex-m4",
    "precision": "int8",
    "backend": "tvm",
    "weights_bytes": 3000,
    "code_bytes": 1000,
    "total_bytes": 4000,
    "ram_bytes": 2048,
    "macs": 1000,
    "dense_macs": 4000,
    "nonzero_weights": 250,
    "weights": 1000,
    "accuracy": {"metric": "top1", "before": 0.91, "after": 0.9, "samples": 500},
    "layers": LAYERS,
    "provenance": {"source_sha256": "ab" * 32, "data_sha256": None, "seed": 7, "versions": {"numpy": "2.0"}},
}
MEASURED = {
    "board": "local",
    "kind": "measured",
    "precision": "int8",
    "latency_ms": {"median": 0.25, "min": 0.2, "p90": 0.3, "runs": 9},
    "peers": [
        {"runtime": "onnxruntime", "precision": "fp32", "latency_ms": 0.5, "speedup": 2.0},
        {"runtime": "litert", "precision": "fp32", "latency_ms": None, "speedup": None, "error": "not installed"},
    ],
    "layers": [{"name": "a", "time_us": 12.5}, {"name": "b", "time_us": 37.5}],
}
EMULATED = {
    "board": "emulated-m4",
    "kind": "emulated",
    "latency_ms": None,
    "instructions": 8362953,
    "predicted_ms": {"value": 102.4, "low": 60.0, "high": 176.0, "basis": "published results"},
    "peers": [],
    "layers": [{"name": "a", "instructions": 900}, {"name": "b", "instructions": 100}],
}


class Balanced(HTMLParser):
    """Collects the text; every tag that is opened is closed in its turn."""

    VOID = frozenset({"meta", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def text_of(page: str) -> str:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser.text


@pytest.mark.parametrize("runs", [[], [MEASURED], [EMULATED], [MEASURED, EMULATED]])
def test_a_page_is_well_formed_and_needs_nothing_else(runs):
    page = report_page("a <b> & c", PACKAGE, runs)
    assert "a <b> & c" in text_of(page)
    assert not any(word in page for word in ("<script", "src=", "href=", "@import", "url("))


def test_the_facts_of_a_package_are_there():
    text = text_of(report_page("model.edge", PACKAGE))
    for fact in ("0.9100", "0.9000", "top1 on 500 test rows", "25.0 %", "2.9 kB", "3.9 kB", "2.0 kB", "ab" * 32):
        assert fact in text
    assert "<conv 4>" in text
    assert "100 of 400" in text


def test_unchecked_accuracy_is_said_loudly_of_packages_alone():
    unchecked = {**PACKAGE, "accuracy": None}
    assert "No accuracy was checked" in text_of(report_page("p", unchecked))
    assert "No accuracy was checked" not in text_of(report_page("p", {**unchecked, "target": None}))


def test_every_run_says_its_kind():
    text = text_of(report_page("p", PACKAGE, [MEASURED, EMULATED]))
    assert "measured on that machine" in text
    assert "0.500 ms; edgeprune is 2.00 times as fast" in text
    assert "instructions counted on an emulated board; no time on a device" in text
    assert "8,362,953" in text
    assert "102.4 ms (60.0 ms to 176.0 ms): published results" in text
    assert "37.5 us, 75.0 %" in text
    assert "900, 90.0 %" in text


def test_a_model_without_layers_or_target_has_a_page():
    bare = {"target": None, "precision": "fp32", "macs": 0, "dense_macs": 0, "nonzero_weights": 0, "weights": 0}
    assert "Layers" not in text_of(report_page("empty", {**bare, "layers": [], "accuracy": None}))


def test_many_layers_are_cut_to_those_with_most_work():
    layers = [{**LAYERS[0], "name": f"layer {index}", "dense_macs": index + 1, "macs": 1} for index in range(100)]
    text = text_of(report_page("deep", {**PACKAGE, "layers": layers}))
    assert "40 layers with the least work are left out." in text


def test_bars_share_one_scale():
    plot = bar_plot([Bar("one", 50, 100, ""), Bar("two", 200, 200, "")])
    widths = [part.split('"')[0] for part in plot.split('width="')[2:]]
    assert widths == ["210.0", "105.0", "420.0", "420.0"]
    assert "nan" not in bar_plot([Bar("nothing", 0, 0, "")])
