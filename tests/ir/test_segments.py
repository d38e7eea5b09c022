"""Piecewise runs against whole runs."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.data.samples import Samples
from edgeprune.ir.execute import Session
from edgeprune.ir.segments import SegmentedRun, peak_bytes


def chain():
    """x -> Relu a -> Mul by c -> m; m + a -> s; Neg s -> y; shapes [1, 4]."""
    f, shape = ir.DataType.FLOAT, [1, 4]
    x, a, m, s, y = (ir.val(name, dtype=f, shape=shape) for name in ("x", "a", "m", "s", "y"))
    c = ir.val("c", const_value=ir.tensor(np.arange(4, dtype=np.float32), name="c"))
    nodes = [
        ir.node("Relu", [x], outputs=[a], name="relu"),
        ir.node("Mul", [a, c], outputs=[m], name="mul"),
        ir.node("Add", [m, a], outputs=[s], name="add"),
        ir.node("Neg", [s], outputs=[y], name="neg"),
    ]
    graph = ir.Graph([x], [y], nodes=nodes, initializers=[c], opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=9), {value.name: value for value in (x, a, m, s, y, c)}


def samples(count):
    return Samples({"x": np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)})


@pytest.mark.parametrize("stops", [[4], [1, 2, 3, 4], [0, 3, 3, 4], [2, 1, 4]])
def test_pieces_give_what_the_whole_gives(stops):
    model, values = chain()
    run = SegmentedRun(model, samples(5))
    for stop in stops:
        run.advance(stop)
    np.testing.assert_array_equal(run.held(values["y"])[:, 0], Session(model).run_rows(samples(5))["y"])


def test_only_what_is_read_later_is_held():
    model, values = chain()
    run = SegmentedRun(model, samples(3))
    assert run.held(values["x"]).shape == (3, 1, 4)
    run.advance(2)
    assert [name for name in "xamsy" if run.held(values[name]) is not None] == ["a", "m"]
    assert run.held(None) is None
    run.advance(3)
    assert [name for name in "xamsy" if run.held(values[name]) is not None] == ["s"]


def test_weights_count_as_they_are_when_their_node_is_reached():
    model, values = chain()
    run = SegmentedRun(model, samples(3))
    run.advance(1)
    values["c"].const_value = ir.tensor(np.zeros(4, np.float32), name="c")
    run.advance(4)
    relu = np.maximum(samples(3).inputs["x"], 0)
    np.testing.assert_array_equal(run.held(values["y"])[:, 0], -relu)


def test_peak_counts_the_tensors_held_together_at_the_stops():
    model, _ = chain()
    assert peak_bytes(model, [0, 1]) == 1 * 4 * 4
    assert peak_bytes(model, [1, 2, 3]) == 2 * 4 * 4
    assert peak_bytes(model, [4]) == 1 * 4 * 4


def batch_mixing():
    """x [1, 4] -> Softmax along the batch axis -> y: rows may not be stacked."""
    f, shape = ir.DataType.FLOAT, [1, 4]
    x, y = ir.val("x", dtype=f, shape=shape), ir.val("y", dtype=f, shape=shape)
    node = ir.node("Softmax", [x], {"axis": 0}, outputs=[y], name="softmax")
    return ir.Model(ir.Graph([x], [y], nodes=[node], opset_imports={"": 18}, name="g"), ir_version=9), y


def reshaping():
    """x [1, 4] -> Reshape to [2, 2] -> y: the batch axis is gone."""
    f = ir.DataType.FLOAT
    x, y = ir.val("x", dtype=f, shape=[1, 4]), ir.val("y", dtype=f, shape=[1, 2, 2])
    shape = ir.val("shape", const_value=ir.tensor(np.array([1, 2, 2]), name="shape"))
    node = ir.node("Reshape", [x, shape], outputs=[y], name="reshape")
    graph = ir.Graph([x], [y], nodes=[node], initializers=[shape], opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=9), y


@pytest.mark.parametrize("build", [batch_mixing, reshaping])
def test_rows_run_alone_where_stacking_them_gives_something_else(build):
    model, y = build()
    run = SegmentedRun(model, samples(5))
    run.advance(1)
    np.testing.assert_array_equal(run.held(y)[:, 0], Session(model).run_rows(samples(5))["y"])


@pytest.mark.parametrize("threads", [1, 3])
def test_stacked_runs_of_any_length(monkeypatch, threads):
    model, values = chain()
    for size in (1, 32, 64, 1 << 20):
        monkeypatch.setattr("edgeprune.ir.segments.STACKED_BYTES", size)
        run = SegmentedRun(model, samples(5), threads)
        run.advance(2)
        run.advance(4)
        np.testing.assert_array_equal(run.held(values["y"])[:, 0], Session(model).run_rows(samples(5))["y"])
