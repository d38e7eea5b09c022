"""What was done is taken again; what depends on other work is done anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune.road.resuming import Resume, resume_for


def _model(value: float) -> ir.Model:
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, 2])
    y = ir.val("y", dtype=ir.DataType.FLOAT, shape=[1, 2])
    constant = ir.val("c", const_value=ir.tensor(np.full((1, 2), value, np.float32), name="c"))
    node = ir.node("Add", [x, constant], outputs=[y], name="add")
    graph = ir.Graph([x], [y], nodes=[node], initializers=[constant], opset_imports={"": 20}, name="g")
    return ir.Model(graph, ir_version=10)


def _constant(model: ir.Model) -> float:
    value = model.graph.initializers["c"].const_value
    assert value is not None
    return float(value.numpy()[0, 0])


class Work:
    """Counts how often it is done, and fails where it is told to."""

    def __init__(self) -> None:
        self.states: list[Path | None] = []

    def __call__(self, state: Path | None) -> ir.Model:
        self.states.append(state)
        return _model(10.0 + len(self.states))


def test_a_step_is_done_once(tmp_path):
    resume, work = Resume(tmp_path / "model.edge.resume"), Work()
    first = resume.step(_model(1.0), (2, "top1"), work)
    again = Resume(resume.folder).step(_model(1.0), (2, "top1"), work)
    assert len(work.states) == 1 and _constant(first) == _constant(again) == 11.0


def test_other_weights_or_choices_are_other_steps(tmp_path):
    resume, work = Resume(tmp_path / "r"), Work()
    for value, choices in ((1.0, 2), (2.0, 2), (1.0, 3)):
        resume.step(_model(value), choices, work)
    assert len(set(work.states)) == 3


def test_a_damaged_result_is_made_anew(tmp_path):
    resume, work = Resume(tmp_path / "r"), Work()
    resume.step(_model(1.0), 2, work)
    for path in (tmp_path / "r").glob("*.onnx"):
        path.write_bytes(b"no model")
    assert _constant(resume.step(_model(1.0), 2, work)) == 12.0


def test_nothing_is_left_at_the_end(tmp_path):
    resume = resume_for(tmp_path / "model.edge")
    resume.step(_model(1.0), 2, Work())
    assert (tmp_path / "model.edge.resume").is_dir()
    resume.finish()
    assert list(tmp_path.iterdir()) == []


def test_without_an_output_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work = Work()
    for _ in range(2):
        resume_for(None).step(_model(1.0), 2, work)
    assert work.states == [None, None] and list(tmp_path.iterdir()) == []
