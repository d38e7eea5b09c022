from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from edgeprune.errors import EdgepruneError
from edgeprune.options import Options
from edgeprune.sweep.grid import Job, ModelEntry, Sweep, expand, read_sweep

FOLDER = Path("/somewhere")

FILE = """
models = ["a.onnx", { path = "nets/b.py:build", data = "b.toml", dimensions = { sequence = 8 } }]
targets = ["host", "x86-64-v3"]
data = "card.toml"
budgets = [{ latency = 0.5 }, { size = "64k", max_drop = 2 }]
[vary]
pattern = ["1x1", "2:4"]
seed = [0, 1, 2]
[options]
epochs = 4
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_sweep_is_every_combination_once(tmp_path):
    jobs = expand(read_sweep(write(tmp_path / "s.toml", FILE)), FOLDER)
    budgets = ({"latency": 0.5}, {"size": 65536, "max_drop": 2.0})
    wanted = [
        (model, target, {"epochs": 4, **budget, "pattern": pattern, "seed": seed})
        for model, target, budget, pattern, seed in itertools.product(
            ("/somewhere/a.onnx", "/somewhere/nets/b.py:build"),
            ("host", "x86-64-v3"),
            budgets,
            ("1x1", "2:4"),
            (0, 1, 2),
        )
    ]
    assert [(job.model, job.target, job.options) for job in jobs] == wanted
    assert {(job.model, job.data) for job in jobs} == {
        ("/somewhere/a.onnx", "/somewhere/card.toml"),
        ("/somewhere/nets/b.py:build", "/somewhere/b.toml"),
    }
    assert {tuple(job.dimensions.items()) for job in jobs} == {(), (("sequence", 8),)}


def test_the_smallest_sweep_is_one_job():
    assert expand(Sweep(models=("a.onnx",)), FOLDER) == (Job("/somewhere/a.onnx", "host"),)


def test_equal_jobs_are_one():
    sweep = Sweep(models=("a.onnx", "./a.onnx"), targets=("host", "host"), vary={"size": ["1k", 1024]})
    assert len(expand(sweep, FOLDER)) == 1


def test_an_absolute_path_stays():
    [job] = expand(Sweep(models=(ModelEntry("/x/a.pth", arch="net.py:build"),)), FOLDER)
    assert (job.model, job.arch) == ("/x/a.pth", "/somewhere/net.py:build")


def test_states_are_those_of_a_model_else_of_all():
    entries = ("a.onnx", ModelEntry("b.onnx", states=("h=hn", "c=cn")))
    first, second = expand(Sweep(models=entries, options={"states": ["s=t"]}), FOLDER)
    assert (first.choices().states, second.choices().states) == (("s=t",), ("h=hn", "c=cn"))
    [job] = expand(Sweep(models=("a.onnx",)), FOLDER)
    assert job.choices().states == ()


def test_the_options_of_a_job():
    fields = {"max_drop": 2.0, "epochs": 1}
    assert Job("a", "host", options=fields).choices() == Options(max_drop=2.0, max_drop_given=True, epochs=1)
    medical = Job("a", "host", data="d", options={"profile": "medical", "epochs": 0}).choices()
    assert (medical.max_drop, medical.epochs, medical.objective) == (0.1, 0, "drop")
    with pytest.raises(EdgepruneError, match=r"pattern 2:4 removes 0\.5"):
        Job("a", "host", options={"pattern": "2:4", "sparsity": 0.75}).choices()


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"models": ()}, "sweep-invalid", "the sweep has no job"),
        ({"budgets": ()}, "sweep-invalid", "the sweep has no job"),
        ({"vary": {"sparsity": []}}, "sweep-invalid", "'sparsity' has no value"),
        ({"vary": {"seed": [1]}, "options": {"seed": 2}}, "sweep-invalid", "'seed' is given twice"),
        ({"vary": {"size": ["1k"]}, "budgets": ({"size": "2k"},)}, "sweep-invalid", "'size' is given twice"),
        ({"options": {"sparsty": 0.5}}, "option-unknown", "there is no option 'sparsty'"),
        ({"options": {"max_drop_given": True}}, "option-unknown", "there is no option 'max_drop_given'"),
        ({"options": {"sparsity": "much"}}, "sweep-invalid", "Expected `float | null`, got `str`"),
        ({"options": {"size": "much"}}, "option-range", "'much' is out of range"),
        ({"seconds": 0.0}, "sweep-invalid", "0 is out of range"),
        ({"vary": {"seed": list(range(400)), "epochs": list(range(400))}}, "sweep-invalid", "160,000 jobs are more"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused(changes, code, text):
    with pytest.raises(EdgepruneError) as caught:
        expand(Sweep(**{"models": ("a.onnx",), **changes}), FOLDER)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models = [", "Invalid value"),
        ("targets = ['host']", "missing required field `models`"),
        ("models = ['a.onnx']\nbudget = []", "unknown field `budget`"),
        ("models = [{ data = 'a' }]", "missing required field `path`"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(tmp_path, text, told):
    with pytest.raises(EdgepruneError) as caught:
        read_sweep(write(tmp_path / "s.toml", text))
    assert caught.value.code == "sweep-invalid"
    assert told in caught.value.what
    assert caught.value.where == str(tmp_path / "s.toml")


def test_a_sweep_that_is_not_there(tmp_path):
    with pytest.raises(EdgepruneError) as caught:
        read_sweep(tmp_path / "s.toml")
    assert caught.value.code == "file-missing"
