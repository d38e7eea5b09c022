"""The layout of every image, chosen or given by name: results are those of ONNX Runtime whatever it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lowered import canonical, graph_model, run_lowered
from onnx import helper

from edgeprune.ir.execute import Session
from edgeprune.lowering.layout import Mode
from edgeprune.lowering.lower import lower
from edgeprune.lowering.modes import image_changes
from edgeprune.lowering.plan import Call
from edgeprune.target import load_target


def chain():
    generator = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second", pads=[1] * 4),
        helper.make_node("MaxPool", ["c"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w3"], ["y"], name="third"),
    ]
    shapes = {"w1": (11, 3, 3, 3), "w2": (7, 11, 3, 3), "w3": (9, 7, 1, 1)}
    constants = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return canonical(graph_model(nodes, {"x": [1, 3, 10, 14]}, ["y"], constants))


def kernels(plan) -> dict[str, str]:
    return {step.layer.name: step.layer.kernel for step in plan.steps if isinstance(step, Call)}


@pytest.mark.parametrize(
    "modes", [{"first": "pixels"}, {"second": "pixels", "pool": "pixels"}, {"third": "pixels"}, {}], ids=str
)
def test_layouts_given_by_name_are_used_and_give_the_same(modes: dict[str, Mode], tmp_path: Path) -> None:
    model = chain()
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 10, 14)).astype(np.float32)}
    found = kernels(lower(model, load_target("host"), modes))
    for name in ("first", "second", "third"):
        assert ("pixels" in found[name]) == (modes.get(name) == "pixels")
    expected = Session(model).run(feeds)["y"]
    actual = run_lowered(model, feeds, tmp_path, modes)["y"]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_changes_name_who_reads_which_image_and_its_elements() -> None:
    names, changes = image_changes(chain())
    assert names == ["first", "second", "pool", "third"]
    assert changes == [("first", "second", 11 * 140), ("second", "pool", 7 * 140), ("pool", "third", 7 * 35)]


def test_what_scattered_weights_read_in_strides_is_copied_into_whole_vectors(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    weights = generator.standard_normal((40, 16, 3, 3)).astype(np.float32)
    weights[generator.random(weights.shape) > 0.2] = 0
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"),
        helper.make_node("Conv", ["a", "w"], ["y"], name="conv", pads=[1] * 4, strides=[2, 2]),
    ]
    model = canonical(graph_model(nodes, {"x": [1, 16, 33, 47]}, ["y"], {"w": weights}))
    plan = lower(model, load_target("x86-64-v3"), {"relu": "pixels", "conv": "pixels"})
    assert [step.layer.kernel for step in plan.steps if isinstance(step, Call) and step.layer.op == "Move"] == [
        "move shifted"
    ]
    feeds = {"x": generator.standard_normal((1, 16, 33, 47)).astype(np.float32)}
    actual = run_lowered(model, feeds, tmp_path, {"relu": "pixels", "conv": "pixels"})["y"]
    np.testing.assert_allclose(actual, Session(model).run(feeds)["y"], rtol=1e-4, atol=1e-4)
