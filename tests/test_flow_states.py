"""The whole road of models that remember: the package keeps their states, on every machine and through every verb."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from remembering import INPUTS, fed_by_hand, recurrent, texts, window

from edgeprune import flow
from edgeprune.cli.main import run_command
from edgeprune.compiled import Package
from edgeprune.errors import EdgepruneError
from edgeprune.ir.states import State, states_of
from edgeprune.options import Options

LSTM, GRU, WINDOW = {"h": "hn", "c": "cn"}, {"h": "hn"}, {"past": "past_next"}
GRID = (0.05, 3)
CARD = """
metric = "fidelity"
reset_every = 6
[calibrate]
file = "rows.npz"
rows = "0:24"
[test]
file = "rows.npz"
rows = "24:"
"""


def rows_of(steps: int, count: int = 42) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 1, (count, steps, 1, INPUTS)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An LSTM, a GRU and a window of integers, a card, and its rows."""
    folder = tmp_path_factory.mktemp("states")
    onnx.save(recurrent("LSTM"), folder / "lstm.onnx")
    onnx.save(recurrent("GRU", units=24), folder / "gru.onnx")
    onnx.save(window(GRID, GRID), folder / "window.onnx")
    np.savez(folder / "rows.npz", x=rows_of(2))
    (folder / "card.toml").write_text(CARD)
    return folder


@pytest.fixture(scope="module")
def package(folder):
    options = Options(dense=True, states=texts(LSTM))
    result = flow.compile(folder / "lstm.onnx", data=folder / "card.toml", output=folder / "lstm.edge", options=options)
    assert result.package is not None
    accuracy = result.inspection["accuracy"]
    assert (accuracy["samples"], accuracy["before"], accuracy["after"]) == (18, 1.0, pytest.approx(1.0, abs=1e-6))
    result.package.close()
    return folder / "lstm.edge"


def test_the_package_tells_of_its_states(package):
    with Package.open(package) as opened:
        assert [spec.name for spec in opened.inputs] == ["x"]
        assert [port.name for port in opened.manifest.outputs] == ["y"]
    states = flow.inspect(package)["states"]
    assert [(state["name"], state["result"], state["shape"], state["dtype"]) for state in states] == [
        ("h", "hn", (1, 1, 6), "float32"),
        ("c", "cn", (1, 1, 6), "float32"),
    ]


def test_rows_of_one_call_follow_one_another(package, folder):
    rows = rows_of(2)
    wanted = fed_by_hand(recurrent("LSTM"), LSTM, {"x": rows})["y"]
    with Package.open(package) as opened:
        for threads in (1, 2):
            np.testing.assert_allclose(opened.run(rows, threads)["y"], wanted[:, 0], atol=1e-5)
        with opened.runner() as runner:
            first = runner.run({"x": rows[0]})["y"]
            assert not np.array_equal(runner.run({"x": rows[0]})["y"], first)
            runner.reset()
            np.testing.assert_array_equal(runner.run({"x": rows[0]})["y"], first)
    flow.run(package, folder / "rows.npz", folder / "out.npz")
    with np.load(folder / "out.npz") as found:
        np.testing.assert_allclose(found["y"], wanted[:, 0], atol=1e-5)


def test_eval_begins_anew_where_the_card_says(package, folder):
    asked = {"data": folder / "card.toml", "reference": folder / "lstm.onnx"}
    assert flow.evaluate(package, **asked).value == pytest.approx(1.0, abs=1e-6)
    assert flow.evaluate(folder / "lstm.onnx", **asked, states=texts(LSTM)).value == 1.0
    other = CARD.replace("reset_every = 6", "reset_every = 1")
    (folder / "each.toml").write_text(other)
    with Package.open(package) as opened, opened.runner() as runner:
        wanted = fed_by_hand(recurrent("LSTM"), LSTM, {"x": rows_of(2)[24:]}, reset_every=6)["y"]
        for index, row in enumerate(rows_of(2)[24:]):
            if index % 6 == 0:
                runner.reset()
            np.testing.assert_allclose(runner.run({"x": row})["y"], wanted[index], atol=1e-5)
    with pytest.raises(EdgepruneError) as caught:
        flow.evaluate(package, **asked, states=("h=hn",))
    assert (caught.value.code, caught.value.hint) == ("option-conflict", "leave --state out")
    assert caught.value.what == f"what a package keeps was settled when it was compiled, and {package} is one"


def test_other_runtimes_are_fed_what_the_package_keeps(package):
    told = flow.bench(package, vs=("onnxruntime",), seconds=0.1)
    assert "error" not in told["peers"][0] and told["peers"][0]["latency_ms"] > 0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_states_stay_with_a_pruned_model(folder, precision):
    options = Options(sparsity=0.5, pattern="1x8", epochs=0, precision=precision, states=texts(GRU))
    pruned = flow.prune(folder / "gru.onnx", data=folder / "card.toml", output=folder / "cut.onnx", options=options)
    assert states_of(pruned.model) == (State("h", "hn"),)
    assert pruned.inspection["accuracy"]["after"] > 0.8
    result = flow.compile(folder / "cut.onnx", data=folder / "card.toml", options=Options(dense=True))
    assert result.package is not None
    with result.package as package:
        rows = rows_of(2, 8)
        found, wanted = package.run(rows)["y"], fed_by_hand(recurrent("GRU", units=24), GRU, {"x": rows})["y"][:, 0]
        assert np.corrcoef(found.reshape(-1), wanted.reshape(-1))[0, 1] > 0.8


@pytest.mark.parametrize(
    ("model", "states", "target", "board"),
    [("lstm", LSTM, "cortex-m7", "emulated-m7"), ("window", WINDOW, "cortex-m4", "emulated-m4")],
)
def test_a_microcontroller_keeps_them_too(folder, model, states, target, board):
    path, rows = folder / f"{model}-bare.edge", rows_of(2 if model == "lstm" else 1, 12)
    options = Options(dense=True, random_calibration=True, states=texts(states))
    flow.compile(folder / f"{model}.onnx", target=target, board=board, output=path, options=options)
    told = flow.verify(path, board=board, samples=12)
    assert told["equal"] and told["samples"] == 12 and (told["exact"] or model == "lstm")
    np.savez(folder / "few.npz", x=rows)
    flow.run(path, folder / "few.npz", folder / "out.npz", board=board)
    wanted = fed_by_hand(onnx.load(folder / f"{model}.onnx"), states, {"x": rows})["y"][:, 0]
    with np.load(folder / "out.npz") as found:
        np.testing.assert_allclose(found["y"], wanted, atol=1e-4 if model == "lstm" else GRID[0])
    stored = [state["stored"]["dtype"] for state in flow.inspect(path)["states"]]
    assert set(stored) == {"float32" if model == "lstm" else "int8"}
    if model == "lstm":
        asked = {"data": folder / "card.toml", "reference": folder / "lstm.onnx", "board": board}
        assert flow.evaluate(path, **asked).value == pytest.approx(1.0, abs=1e-5)


def test_a_pair_that_does_not_fit_is_wrong_usage(folder, capsys):
    command = ["compile", str(folder / "lstm.onnx"), "-o", str(folder / "no.edge"), "--dense", "--random-calibration"]
    assert run_command([*command, "--state", "h=cc", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["what"]) == ("state-invalid", "the model has no output 'cc'")
    assert not (folder / "no.edge").exists()


def test_reset_every_is_a_number_of_rows(folder):
    (folder / "wrong.toml").write_text(CARD.replace("= 6", "= -1"))
    with pytest.raises(EdgepruneError) as caught:
        flow.evaluate(folder / "lstm.onnx", data=folder / "wrong.toml")
    assert (caught.value.code, caught.value.what) == ("card-invalid", "reset_every is a number of rows")
    assert caught.value.hint == "say how many rows one recording has, or leave it out where all are one"
