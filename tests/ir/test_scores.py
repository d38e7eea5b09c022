"""Models that end in whole numbers, with the scores these were made from."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from canonical_cases import Graph

from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.execute import Session
from edgeprune.ir.scores import with_scores, without_scores


def best(graph: Graph) -> list[str]:
    return [graph.node("ArgMax", graph.node("Sigmoid", "x"), axis=1)]


def first_few(graph: Graph) -> list[str]:
    count = graph.constant(np.array([2], np.int64))
    values = graph.node("Sigmoid", "x")
    graph.nodes.append(onnx.helper.make_node("TopK", [values, count], ["v", "i"]))
    return ["i"]


def above(graph: Graph) -> list[str]:
    over = graph.node("Greater", graph.node("Sigmoid", "x"), graph.constant(np.float32(0.5)))
    return [graph.node("Cast", over, to=6)]


def names(model: ir.Model) -> list[str]:
    return [str(value.name) for value in model.graph.outputs]


@pytest.mark.parametrize("ending", [best, first_few, above])
def test_scores_come_first_and_go_again(ending):
    graph = Graph()
    model = canonicalize(ir.from_proto(graph.model({"x": [1, 5]}, ending(graph))))
    scored = with_scores(model)
    assert len(names(model)) == 1 and names(scored)[1:] == names(model)
    x = np.random.default_rng(0).standard_normal((1, 5)).astype(np.float32)
    found = Session(scored).run({"x": x})
    np.testing.assert_allclose(found[names(scored)[0]], 1 / (1 + np.exp(-x)), rtol=1e-5)
    assert names(without_scores(scored)) == names(model)
    assert with_scores(without_scores(scored)) is not model


def test_real_outputs_are_enough():
    graph = Graph()
    model = canonicalize(ir.from_proto(graph.model({"x": [1, 5]}, [*best(graph), graph.node("Tanh", "x")])))
    assert with_scores(model) is model and without_scores(model) is model
