"""Whatever goes wrong ends as one error with code, what, where and hint, and the right exit code."""

from __future__ import annotations

import errno
import json
import signal

import pytest

from edgeprune.cli.main import run_command
from edgeprune.errors import EdgepruneError

WRONG_USAGE = [
    (["compil"], "verb-unknown", "compile"),
    (["targets", "x86-64-v5"], "target-unknown", "x86-64-v"),
    (["boards", "lokal"], "board-unknown", "local"),
    (["compile", "{model}", "-o", "{out}", "-t", "hots"], "target-unknown", "host"),
    (["compile", "{model}", "-o", "{out}", "--sparsty", "0.5"], "usage", "--sparsity"),
    (["compile", "{model}", "-o", "{out}", "--threads", "many"], "usage", "--help"),
    (["compile", "{model}", "-o", "{out}", "--threads", "0"], "usage", "--help"),
    (["compile", "{model}"], "usage", "--help"),
    (["compile"], "usage", "--help"),
    (["compile", "{model}", "-o", "{out}", "--sparsity", "1"], "option-range", "0.75"),
    (["compile", "{model}", "-o", "{out}", "--sparsity", "-0.1"], "option-range", "0.75"),
    (["compile", "{model}", "-o", "{out}", "--sparsity", "nan"], "option-range", "0.75"),
    (["compile", "{model}", "-o", "{out}", "--epochs", "-1"], "option-range", "0"),
    (["compile", "{model}", "-o", "{out}", "--size", "64q"], "option-range", "64k"),
    (["compile", "{model}", "-o", "{out}", "--ram", "0"], "option-range", "64k"),
    (["compile", "{model}", "-o", "{out}", "--latency", "0"], "option-range", "above 0"),
    (["compile", "{model}", "-o", "{out}", "--pattern", "2x"], "pattern-unknown", "1x16"),
    (["compile", "{model}", "-o", "{out}", "--dense", "--sparsity", "0.5"], "option-conflict", "drop one"),
    (["compile", "{model}", "-o", "{out}", "--precision", "int9"], "option-unknown", "int8"),
    (["compile", "{model}", "-o", "{folder}"], "output-unwritable", "file"),
    (["compile", "{model}", "-o", "{folder}/missing/x.edge"], "output-unwritable", "create"),
    (["compile", "{model}", "-o", "{model}"], "option-conflict", "another"),
    (["compile", "{model}", "-o", "{out}", "--data", "{card}", "--random-calibration"], "option-conflict", "drop one"),
    (["compile", "{model}", "-o", "{out}", "--arch", "net.py:build"], "option-conflict", "leave"),
    (["compile", "{checkpoint}", "-o", "{out}", "--arch", "resnet20"], "arch-invalid", "CALLABLE"),
    (["compile", "{checkpoint}", "-o", "{out}", "--arch", "net.py:"], "arch-invalid", "CALLABLE"),
    (["prune", "{model}", "-o", "{folder}"], "output-unwritable", "file"),
    (["eval", "{model}"], "data-missing", "--data"),
    (["compile", "{model}", "-o", "{out}", "--dimension", "sequence"], "option-range", "sequence=512"),
    (["compile", "{model}", "-o", "{out}", "--dimension", "sequence=-1"], "option-range", "sequence=512"),
    (["prune", "{model}", "-o", "{out}", "--dimension", "a=1", "--dimension", "a=2"], "option-conflict", "keep one"),
    (["eval", "{model}", "--data", "{card}", "--arch", "net.py:build"], "option-conflict", "leave --arch out"),
    (["inspect", "{package}", "--dimension", "a=1"], "option-conflict", "leave --dimension out"),
    (["bench", "{model}"], "package-wanted", "edgeprune compile"),
    (["bench", "{checkpoint}", "--vs", "onnxruntime"], "package-wanted", "edgeprune compile"),
    (["run", "{model}", "--input", "{card}", "--output", "{out}"], "package-wanted", "edgeprune compile"),
    (["bench", "{model}", "--vs", "onxruntime"], "peer-unknown", "onnxruntime"),
    (["bench", "{model}", "--board", "loca"], "board-unknown", "local"),
]


@pytest.mark.parametrize(("arguments", "code", "hint"), WRONG_USAGE, ids=lambda value: str(value)[:60])
def test_wrong_usage_exits_2_and_starts_no_work(cli, road, model, package, card, tmp_path, arguments, code, hint):
    checkpoint = tmp_path / "net.th"
    checkpoint.write_bytes(b"not read here")
    places = {"model": model, "package": package, "card": card, "checkpoint": checkpoint}
    places |= {"folder": tmp_path, "out": tmp_path / "out.edge"}
    finished = cli(*(argument.format(**places) for argument in arguments), "--json")
    assert finished.code == 2
    assert finished.json["error"]["code"] == code
    assert hint in finished.json["error"]["hint"]
    assert finished.json["error"]["where"]
    assert road.calls == []
    assert sorted(tmp_path.iterdir()) == sorted([model, package, card, checkpoint])


def test_the_same_error_reads_well_without_json(cli):
    finished = cli("targets", "x86-64-v5")
    assert finished.out == ""
    assert finished.err == (
        "error: there is no target 'x86-64-v5' [target-unknown]\n"
        "  where: --target\n"
        "  hint:  did you mean x86-64-v4 or x86-64-v3 or x86-64-v2?\n"
    )


@pytest.mark.parametrize("verb", ["compile", "prune", "eval", "inspect", "bench", "run"])
def test_a_file_that_is_not_there(cli, road, card, tmp_path, verb):
    rest = {
        "compile": ["-o", tmp_path / "x.edge"],
        "prune": ["-o", tmp_path / "x.onnx"],
        "eval": ["--data", card],
        "run": ["--input", card, "--output", tmp_path / "o.npz"],
    }
    finished = cli(verb, tmp_path / "nothing.onnx", *rest.get(verb, []), "--json")
    assert finished.code == 1
    assert finished.json["error"]["code"] == "file-missing"
    assert "nothing.onnx" in finished.json["error"]["what"]
    assert road.calls == []


def test_a_folder_in_place_of_a_model(cli, road, tmp_path):
    finished = cli("inspect", tmp_path, "--json")
    assert (finished.code, finished.json["error"]["code"]) == (1, "file-missing")
    assert finished.json["error"]["hint"] == "name a file in it"


def test_a_model_in_place_of_a_package(cli, road, model):
    assert cli("bench", model).err == (
        f"error: {model} is a model, and this verb takes a package (.edge) [package-wanted]\n"
        "  where: PACKAGE\n"
        f"  hint:  compile it first: edgeprune compile {model} -o model.edge\n"
    )


def test_a_folder_that_is_called_like_a_callable(cli, road, tmp_path):
    folder = tmp_path / "net.py:old"
    folder.mkdir()
    (folder / "model.onnx").touch()
    assert cli("inspect", folder / "model.onnx").code == 0


def test_an_architecture_file_that_is_not_there(cli, road, tmp_path):
    checkpoint = tmp_path / "net.th"
    checkpoint.write_bytes(b"not read here")
    finished = cli("compile", checkpoint, "-o", tmp_path / "x.edge", "--arch", f"{tmp_path}/net.py:build", "--json")
    assert (finished.code, finished.json["error"]["code"]) == (1, "file-missing")
    assert finished.json["error"]["where"] == "--arch"


def test_a_card_that_is_not_there_suggests_its_neighbours(cli, road, model, card, tmp_path):
    finished = cli("compile", model, "--data", tmp_path / "cards.toml", "-o", tmp_path / "x.edge", "--json")
    assert (finished.code, finished.json["error"]["code"]) == (1, "card-missing")
    assert finished.json["error"]["hint"] == "did you mean card.toml?"


RAISED = [
    (EdgepruneError("model-corrupt", "cut short", where="a.onnx", hint="get it again"), 1, "model-corrupt"),
    (OSError(errno.ENOSPC, "No space left on device", "out.edge"), 1, "disk-full"),
    (PermissionError(errno.EACCES, "Permission denied", "out.edge"), 1, "path-denied"),
    (FileNotFoundError(errno.ENOENT, "No such file", "card.toml"), 1, "file-missing"),
    (OSError(errno.EIO, "Input/output error", "out.edge"), 1, "io-failed"),
    (MemoryError(), 1, "memory-exhausted"),
    (KeyError("x"), 1, "internal"),
    (OSError("could not get source code"), 1, "internal"),
    (KeyboardInterrupt(), 130, "interrupted"),
]


@pytest.mark.parametrize(("raised", "code", "name"), RAISED, ids=lambda value: repr(value)[:40])
def test_what_a_stage_raises(cli, road, model, monkeypatch, raised, code, name):
    monkeypatch.delenv("EDGEPRUNE_DEBUG", raising=False)
    road.answers["inspect"] = raised
    as_json = cli("inspect", model, "--json")
    assert (as_json.code, as_json.json["error"]["code"]) == (code, name)
    assert set(as_json.json["error"]) == {"code", "what", "where", "hint"}
    shown = cli("inspect", model)
    assert shown.code == code
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert f"[{name}]" in shown.err.splitlines()[0]
    assert "Traceback" not in shown.err


def test_an_internal_error_shows_its_traceback_when_asked(cli, road, model, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_DEBUG", "1")
    road.answers["inspect"] = KeyError("x")
    finished = cli("inspect", model)
    assert "Traceback" in finished.err
    assert finished.err.splitlines()[-2].startswith("error: internal error: KeyError")


def test_no_verb_shows_the_help_and_is_wrong_usage(cli):
    finished = cli()
    assert finished.code == 2
    assert "Commands:" in finished.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("raised", [KeyboardInterrupt(), RuntimeError("what a library made of it")])
def test_a_signal_is_an_interruption_whatever_became_of_it(road, package, capsys, raised, number, code):
    road.answers["bench"] = raised
    assert run_command(["bench", str(package), "--json"], [number]) == code
    assert json.loads(capsys.readouterr().out)["error"] == {
        "code": "interrupted",
        "what": "interrupted",
        "where": "",
        "hint": "",
    }


def test_an_interruption_that_says_more_is_kept(road, package, capsys):
    road.answers["bench"] = EdgepruneError("interrupted", "interrupted; what is finished is kept", where="out")
    assert run_command(["bench", str(package)], [signal.SIGTERM]) == 143
    assert "what is finished is kept [interrupted]" in capsys.readouterr().err
