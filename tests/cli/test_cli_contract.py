"""The verbs and options that scripts outside this repository rely on."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from edgeprune.cli.commands import build_app

SHARED = (
    *("--data", "--sparsity", "--pattern", "--dense", "--precision", "--max-drop", "--latency", "--size", "--ram"),
    *("--energy", "--epochs", "--backend", "--seed", "--threads", "--best-effort", "--random-calibration", "--arch"),
)
PROMISED = {
    "compile": ("MODEL", "--target", "-o", *SHARED),
    "prune": ("MODEL", "--target", "-o", *SHARED),
    "advise": ("MODEL", "--target"),
    "eval": ("MODEL_OR_PACKAGE", "--data", "--split", "--board"),
    "run": ("PACKAGE", "--input", "--output", "--board"),
    "bench": ("PACKAGE", "--board", "--vs", "--model", "--threads"),
    "flash": ("PACKAGE", "--board"),
    "inspect": ("MODEL_OR_PACKAGE",),
    "report": ("MODEL_OR_PACKAGE", "-o"),
    "targets": ("[NAME]",),
    "boards": ("[NAME]", "--detect"),
    "demo": (),
}


@pytest.fixture(scope="module")
def verbs() -> dict[str, Any]:
    return dict(typer.main.get_command(build_app()).commands)  # type: ignore[attr-defined]


def names_of(verb: Any) -> set[str]:
    """Options, and arguments as the usage line shows them."""
    return {
        name for each in verb.params for name in (each.opts if each.param_type_name == "option" else (each.metavar,))
    }


@pytest.mark.parametrize("verb", PROMISED)
def test_a_verb_takes_what_was_promised(verbs, verb):
    assert names_of(verbs[verb]) >= {*PROMISED[verb], "--json", "--quiet"}


def test_random_calibration_stands_wherever_data_does(verbs):
    with_data = {name for name, verb in verbs.items() if "--data" in names_of(verb)}
    assert with_data == {name for name, verb in verbs.items() if "--random-calibration" in names_of(verb)}
    assert with_data >= {"compile", "prune", "eval", "verify", "bench", "sweep"}


@pytest.mark.parametrize("verb", ["verify", "bench"])
def test_random_calibration_excludes_a_card(cli, road, package, card, verb):
    assert cli(verb, package, "--random-calibration").code == 0
    mlperf = ("--mlperf-tiny",) if verb == "bench" else ()
    finished = cli(verb, package, "--data", card, *mlperf, "--random-calibration", "--json")
    assert (finished.code, finished.json["error"]["code"]) == (2, "option-conflict")
    assert len(road.calls) == 1


_WITHOUT_HALF = "raspberry-pi-4 has no arithmetic of half precision"
_WITH_HALF = "take auto, fp32 or int8, or a target that has it: android-arm64, jetson-orin-cpu, raspberry-pi-5"


@pytest.mark.parametrize(
    ("asked", "code", "what", "hint"),
    [
        (("--precision", "fp16"), "precision-unsupported", _WITHOUT_HALF, _WITH_HALF),
        (
            ("--backend", "tflite"),
            "backend-unsupported",
            "--backend tflite is not supported yet",
            "take tvm, which lowers for every target",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["compile", "prune"])
def test_what_a_target_does_not_have_is_refused_before_any_work(
    cli, road, model, tmp_path, verb, asked, code, what, hint
):
    finished = cli(verb, model, "--dense", "--target", "raspberry-pi-4", *asked, "-o", tmp_path / "out", "--json")
    assert (finished.code, finished.json["error"]["code"], road.calls) == (2, code, [])
    assert finished.json["error"]["what"] == what
    assert finished.json["error"]["hint"] == hint
    text = " ".join(cli(verb, "--help").out.split())
    assert "fp16 where the target has it" in text and "tflite is refused" in text


@pytest.mark.parametrize(
    ("verb", "name", "hint"),
    [
        ("compile", "net.onnx", "name it net.edge; `prune` writes .onnx, `export` what other tools take"),
        ("compile", "net.uf2", "name it net.edge; `prune` writes .onnx, `export` what other tools take"),
        ("prune", "net.edge", "name it net.onnx; `compile` writes .edge"),
    ],
)
def test_an_output_that_is_called_as_something_else_is_refused(cli, road, model, tmp_path, verb, name, hint):
    finished = cli(verb, model, "--dense", "-o", tmp_path / name, "--json")
    error = finished.json["error"]
    assert (finished.code, error["code"], road.calls) == (2, "output-misnamed", [])
    assert (error["what"], error["hint"]) == (f"what is written is no {name[3:]} file", hint)


def test_a_suffix_that_is_misspelled_is_seen(cli, road, model, tmp_path):
    finished = cli("inspect", tmp_path / "model.onx", "--json")
    assert (finished.code, finished.json["error"]["hint"]) == (1, "did you mean model.onnx?")


def test_a_module_without_its_suffix_is_seen(cli, road, tmp_path):
    (tmp_path / "net.py").touch()
    finished = cli("inspect", f"{tmp_path / 'net'}:build", "--json")
    hint = f"write the file with its suffix: {tmp_path / 'net'}.py:build"
    assert (finished.code, finished.json["error"]["hint"]) == (1, hint)


def test_the_help_of_models_names_every_kind(cli):
    for verb in ("compile", "prune", "advise", "eval", "inspect", "report"):
        assert "(.onnx, .tflite, .pt2, module.py:callable)" in " ".join(cli(verb, "--help").out.split()), verb
