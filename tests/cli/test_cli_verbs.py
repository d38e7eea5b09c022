"""Each verb passes on what was asked, and prints one JSON object or a table."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeprune.cli.console import Console
from edgeprune.model_file import ModelFile
from edgeprune.options import Options
from edgeprune.target import load_target


@pytest.mark.parametrize("verb", ["compile", "prune"])
def test_the_road_gets_every_option(cli, road, model, card, tmp_path, verb):
    out = tmp_path / "out.bin"
    finished = cli(
        *(verb, model, "-o", out, "-t", "x86-64-v3", "-d", card, "--sparsity", "0.75", "--pattern", "1x16"),
        *("--max-drop", "2.5", "--latency", "0.5", "--size", "1.5M", "--ram", "64k", "--energy", "3", "--epochs", "0"),
        *("--seed", "7", "--threads", "2", "--precision", "fp32", "--best-effort", "--quiet"),
    )
    assert (finished.code, finished.err) == (0, "")
    [(name, positional, named)] = road.calls
    assert (name, positional) == (verb, (ModelFile(str(model)),))
    assert (named["target"], named["data"], named["output"]) == ("x86-64-v3", card, out)
    assert named["options"] == Options(
        sparsity=0.75,
        pattern="1x16",
        precision="fp32",
        max_drop=2.5,
        max_drop_given=True,
        latency=0.5,
        size=1.5 * 2**20,
        ram=65536,
        energy=3,
        epochs=0,
        seed=7,
        threads=2,
        best_effort=True,
    )


@pytest.mark.parametrize("verb", ["compile", "prune"])
def test_the_road_without_options_takes_the_defaults(cli, road, model, tmp_path, verb):
    assert cli(verb, model, "-o", tmp_path / "o", "--random-calibration").code == 0
    named = road.calls[0][2]
    assert (named["target"], named["data"]) == ("host", None)
    assert named["options"] == Options(random_calibration=True)


def test_compile_prints_the_inspection_as_json(cli, road, model, card, tmp_path):
    out = tmp_path / "o.edge"
    report = cli("compile", model, "-d", card, "-o", out, "--json").json
    assert report["output"] == str(out)
    assert (report["met"], report["macs"], report["accuracy"]["after"]) == (True, 10_200_000, 0.9)


def test_compile_tells_a_person_what_changed(cli, road, model, card, tmp_path):
    text = cli("compile", model, "-d", card, "-o", tmp_path / "o.edge").out
    for figure in ("0.9100", "0.9000", "top1 on 500 test rows", "40.8 M", "10.2 M", "25.0 %", "68.4 kB", "128.0 kB"):
        assert figure in text


def test_compile_says_when_fewer_weights_were_removed_than_asked_for(cli, road, model, card, tmp_path):
    facts = road.answers["compile"].inspection
    facts["nonzero_weights"] = int(0.9 * facts["weights"])
    finished = cli("compile", model, "-d", card, "--sparsity", "0.5", "-o", tmp_path / "o.edge")
    assert "10% of all weights were removed, 50% of the prunable ones were asked for" in finished.err
    facts["nonzero_weights"] = facts["weights"] // 2
    assert "were removed" not in cli("compile", model, "-d", card, "--sparsity", "0.5", "-o", tmp_path / "p.edge").err


def test_compile_says_loudly_that_no_accuracy_was_checked(cli, road, model, tmp_path):
    road.answers["compile"].inspection["accuracy"] = None
    finished = cli("compile", model, "--random-calibration", "-o", tmp_path / "o.edge")
    assert finished.code == 0
    assert "no accuracy was checked" in finished.err


@pytest.mark.parametrize("best_effort", [False, True])
def test_a_missed_limit_exits_3_and_says_by_how_much(cli, road, model, card, tmp_path, best_effort):
    road.answers["compile"].met = False
    road.answers["compile"].shortfall = "accuracy fell by 2.40 points, 1.00 are allowed"
    arguments = ["compile", model, "-d", card, "-o", tmp_path / "o.edge", *(["--best-effort"] if best_effort else [])]
    report = cli(*arguments, "--json")
    assert (report.code, report.json["met"], report.json["error"]["code"]) == (3, False, "limit-not-met")
    assert report.json["output"] == (str(tmp_path / "o.edge") if best_effort else None)
    shown = cli(*arguments)
    assert shown.code == 3
    assert "fell by 2.40 points" in shown.err


def test_a_checkpoint_is_loaded_with_its_architecture(cli, road, card, tmp_path):
    checkpoint = tmp_path / "weights.pth"
    checkpoint.touch()
    (tmp_path / "net.py").touch()
    arch = f"{tmp_path}/net.py:build"
    assert cli("compile", checkpoint, "--arch", arch, "-o", tmp_path / "o.edge").code == 0
    (tmp_path / "o.edge").touch()
    assert cli("eval", tmp_path / "o.edge", "--reference", checkpoint, "--arch", arch, "--data", card).code == 0
    assert road.calls[0][1] == (ModelFile(str(checkpoint), arch),)
    assert road.calls[1][2]["reference"] == ModelFile(str(checkpoint), arch)


def test_open_dimensions_reach_every_verb_that_reads_a_model(cli, road, model, card, tmp_path):
    sizes = ("--dimension", "sequence=512", "--dimension", "mask:1=8")
    expected = ModelFile(str(model), None, {"sequence": 512, "mask:1": 8})
    package = tmp_path / "p.edge"
    package.touch()
    assert cli("compile", model, "--dense", "-o", tmp_path / "o.edge", *sizes).code == 0
    assert cli("prune", model, "--data", card, "-o", tmp_path / "o.onnx", *sizes).code == 0
    assert cli("inspect", model, *sizes).code == 0
    assert cli("eval", model, "--data", card, *sizes).code == 0
    assert [call[1][0] for call in road.calls] == [expected] * 4
    assert cli("bench", package, "--model", model, *sizes).code == 0
    assert cli("eval", package, "--reference", model, "--data", card, *sizes).code == 0
    assert (road.calls[4][2]["model"], road.calls[5][2]["reference"]) == (expected, expected)
    assert road.calls[5][1] == (ModelFile(str(package)),)


def test_a_module_with_a_callable_is_a_model(cli, road, tmp_path):
    (tmp_path / "net.py").touch()
    assert cli("inspect", f"{tmp_path}/net.py:build").code == 0
    assert cli("inspect", f"{tmp_path}/other.py:build").code == 1


def test_eval(cli, road, model, card):
    finished = cli("eval", model, "--data", card, "--split", "validate", "--threads", "2", "--json")
    assert finished.json == {"metric": "top1", "value": 0.91, "samples": 500, "split": "validate"}
    name, positional, named = road.calls[0]
    assert (name, positional[0], named["data"], named["split"]) == ("evaluate", ModelFile(str(model)), card, "validate")
    assert "0.91" in cli("eval", model, "--data", card).out
    road.answers["evaluate"].top1_agreement = 0.75
    assert cli("eval", model, "--data", card, "--json").json["top1_agreement"] == 0.75


def test_run(cli, road, package, card, tmp_path):
    out = tmp_path / "out.npz"
    road.answers["run"]["output"] = str(out)
    finished = cli("run", package, "--input", card, "--output", out, "--json")
    assert finished.json == {"output": str(out), "rows": 5}
    assert road.calls[0][:2] == ("run", (package, card, out))


def test_bench(cli, road, package):
    report = cli("bench", package, "--vs", "onnxruntime, openvino,onnxruntime", "--threads", "2", "--json").json
    assert report["latency_ms"]["median"] == 0.25
    assert road.calls[0][2]["vs"] == ("onnxruntime", "openvino")
    assert road.calls[0][2]["threads"] == 2
    text = cli("bench", package, "--vs", "onnxruntime").out
    for figure in ("0.250 ms", "0.900 ms", "3.60x", "measured", "12.5 us"):
        assert figure in text


def test_bench_reports_a_peer_that_is_not_installed(cli, road, package):
    road.answers["bench"]["peers"] = [{"runtime": "openvino", "latency_ms": None, "error": "not installed"}]
    finished = cli("bench", package, "--vs", "openvino")
    assert finished.code == 0
    assert "not installed" in finished.out


def test_inspect(cli, road, model):
    assert cli("inspect", model, "--json").json["layers"][0]["name"] == "stem"
    text = cli("inspect", model).out
    assert "stem" in text and "conv2d" in text and "100.0 %" in text


def test_targets(cli):
    names = {facts["name"] for facts in cli("targets", "--json").json["targets"]}
    assert {"x86-64-v2", "x86-64-v3", "x86-64-v4"} <= names
    assert cli("targets", "x86-64-v3", "--json").json["vector_bytes"] == 32
    assert "AVX2" in cli("targets").out
    assert "AVX2" in cli("targets", "x86-64-v3").out


def test_targets_say_what_int8_prunes_and_how_time_is_known(cli, monkeypatch):
    flags = frozenset(load_target("x86-64-v2").cpu_flags)
    monkeypatch.setattr("edgeprune.cli.targets.host_cpu_flags", lambda: flags)
    facts = {target["name"]: target for target in cli("targets", "--json").json["targets"]}
    assert facts["x86-64-v2"]["time"] == ["measured"]
    assert facts["x86-64-v4"]["time"] == ["predicted"]
    assert facts["cortex-m4"]["time"] == facts["raspberry-pi-4"]["time"] == ["emulated", "predicted"]
    lines = {line.split()[0]: line for line in cli("targets").out.splitlines() if line.strip()}
    for text in ("patterns fp32", "patterns int8", "int8 product", "time"):
        assert text in lines["target"]
    for text in ("4x1 4x2", "smlad", "emulated predicted"):
        assert text in lines["cortex-m4"]
    one = cli("targets", "cortex-m4").out
    assert "cycles 1.47, cycles_spread 1.72" in one and "emulated predicted" in one
    assert "{" not in one and "None" not in one


def test_boards(cli):
    assert "local" in [board["name"] for board in cli("boards", "--json").json["boards"]]
    local = cli("boards", "local", "--detect", "--json").json
    assert (local["transport"], local["target"], type(local["detected"])) == ("local", "host", bool)
    assert "this machine" in cli("boards", "local", "--detect").out


def test_demo(cli, monkeypatch):
    rows = [{"name": "original", "accuracy": 0.99, "weights_bytes": 4096, "latency_ms": 0.08, "speedup": 1.0}]
    fake = SimpleNamespace(run_demo=lambda progress: {"title": "Digits", "rows": rows})
    monkeypatch.setitem(__import__("sys").modules, "edgeprune.demo", fake)
    assert cli("demo", "--json").json["rows"] == rows
    text = cli("demo").out
    assert "99.0 %" in text and "0.080 ms" in text and "edgeprune compile" in text


def test_help_of_every_verb_shows_an_example(cli):
    for verb in ("compile", "prune", "eval", "run", "bench", "inspect", "targets", "boards", "demo"):
        finished = cli(verb, "--help")
        assert finished.code == 0
        assert f"  edgeprune {verb}" in finished.out
        assert "--json" in finished.out and "--quiet" in finished.out


def test_json_takes_numpy_values_and_writes_nan_as_null(capsys):
    Console(as_json=True).result({"a": np.float32(0.5), "b": np.arange(2), "c": float("nan"), "d": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": 0.5, "b": [0, 1], "c": None, "d": "x"}


def test_what_a_stage_prints_never_reaches_standard_output(cli, road, model):
    road.answers["inspect"] = lambda: print("noise") or {"layers": []}
    finished = cli("inspect", model, "--json")
    assert finished.json == {"layers": []}
    assert "noise" in finished.err


def test_names_with_brackets_are_shown_as_they_are(cli, road, model):
    road.answers["inspect"]["layers"][0]["name"] = "block[0]/conv[bold]"
    assert "block[0]/conv[bold]" in cli("inspect", model).out


def test_report_names_the_page(cli, road, package, tmp_path):
    page, bench = tmp_path / "page.html", tmp_path / "bench.json"
    bench.write_text("{}")
    assert cli("report", package, "--bench", bench, "-o", page).out == f"{page} (4.0 kB)\n"
    assert cli("report", package, "-o", page, "--json").json["runs"] == []
    assert road.calls == [
        ("report", (ModelFile(str(package)), page), {"bench": [bench]}),
        ("report", (ModelFile(str(package)), page), {"bench": ()}),
    ]


def test_report_refuses_a_page_that_cannot_be_written_and_a_run_that_is_not_there(cli, road, package, tmp_path):
    finished = cli("report", package, "-o", tmp_path / "none" / "page.html")
    assert (finished.code, road.calls) == (2, [])
    assert f"there is no folder {tmp_path / 'none'} [output-unwritable]" in finished.err
    finished = cli("report", package, "--bench", tmp_path / "bench.json", "-o", tmp_path / "page.html")
    assert (finished.code, road.calls) == (1, [])
    assert f"there is no file {tmp_path / 'bench.json'} [file-missing]" in finished.err
