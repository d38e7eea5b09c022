"""What can go of small graphs, and the reason where it cannot."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.dependency import find_groups


class Graph:
    """An image network of 4 channels, 6 x 6 pixels."""

    def __init__(self):
        self.random, self.nodes, self.constants = np.random.default_rng(0), [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op, *inputs, name=None, outputs=1, **attributes):
        name = name or f"{op}_{len(self.nodes)}"
        names = [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names[0]

    def conv(self, x, inputs, outputs, name, group=1):
        weight = self.random.standard_normal((outputs, inputs // group, 1, 1)).astype(np.float32)
        return self.add("Conv", x, self.constant(weight), name=name, group=group)

    def groups(self, result):
        ports = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 6, 6])]
        ends = [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "g", ports, ends, self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return find_groups(canonicalize(ir.from_proto(proto)))


def middle(step):
    """The groups of a conv of 6 channels, `step` on it, and another conv."""
    graph = Graph()
    value, channels = step(graph, graph.conv("x", 4, 6, "first"))
    return graph.groups(graph.conv(value, channels, 2, "last"))


def with_input(graph, x):
    """The sum of 6 channels with 6 channels of the model's input."""
    wide = graph.add("Concat", "x", "x", axis=1)
    narrow = graph.add("Slice", wide, *(graph.constant(np.array([n])) for n in (0, 6, 1)))
    return graph.add("Add", x, narrow, name="s"), 6


STEPS = {
    "node 's' (Softmax) works along this axis": lambda g, x: (g.add("Softmax", x, axis=1, name="s"), 6),
    "node 's' (LRN) has no rule for removing units": lambda g, x: (g.add("LRN", x, size=3, name="s"), 6),
    "node 's' (CumSum) works along this axis": lambda g, x: (
        g.add("CumSum", x, g.constant(np.array(1)), name="s"),
        6,
    ),
    "node 's' (ReduceMax) compares or multiplies them along this axis": lambda g, x: (
        g.add("ReduceMax", x, g.constant(np.array([1])), name="s"),
        1,
    ),
    "node 's' (Add) combines them with elements that cannot be removed": with_input,
}


@pytest.mark.parametrize("reason", STEPS)
def test_reasons(reason):
    groups = middle(STEPS[reason])
    assert groups.groups == ()
    assert [(each.name, each.reason) for each in groups.unresolved] == [
        ("first", reason),
        ("last", "model output 'last.0'"),
    ]


def test_a_part_of_the_channels_may_go():
    """Four of six channels are a model output too."""

    def split(graph, x):
        graph.add("Split", x, graph.constant(np.array([4, 2])), name="s", outputs=2, axis=1)
        return "s.1", 2

    graph = Graph()
    value, channels = split(graph, graph.conv("x", 4, 6, "first"))
    end = graph.add("Concat", graph.conv(value, channels, 2, "last"), "s.0", axis=1)
    groups = graph.groups(end)
    assert [(group.name, group.size) for group in groups.groups] == [("first", 2)]
    assert [each.name for each in groups.unresolved] == ["first", "last"]
    (made, read) = groups["first"].slices
    assert (made.node, made.axis, made.role, made.units.tolist()) == ("first", 0, "out", [-1] * 4 + [0, 1])
    assert (read.node, read.axis, read.role, read.units.tolist()) == ("last", 1, "in", [0, 1])


def test_channels_that_only_go_at_once():
    groups = middle(lambda graph, x: (graph.conv(graph.conv(x, 6, 1, "narrow"), 1, 6, "wide"), 6))
    assert {each.name: each.reason for each in groups.unresolved} == {
        "narrow": "its units can only be removed all at once",
        "last": "model output 'last.0'",
    }


@pytest.mark.parametrize(
    ("outputs", "group", "sizes"), [(6, 6, [6]), (12, 6, [6]), (6, 2, [3, 3]), (4, 2, [3, 2]), (3, 3, [3])]
)
def test_groups_of_channels(outputs, group, sizes):
    """Whole groups where there are many of them, one channel of every group where there are few."""
    groups = middle(lambda graph, x: (graph.conv(x, 6, outputs, "s", group), outputs))
    assert [each.size for each in groups.groups] == sizes


def test_an_unknown_name_lists_what_is_near():
    with pytest.raises(EdgepruneError) as caught:
        middle(lambda graph, x: (x, 6))["frist"]
    assert str(caught.value) == (
        "the model has no group 'frist' [group-unknown]\n  where: group 'frist'\n  hint:  did you mean first?"
    )


def test_columns_that_another_product_mixes_by_rows_are_channels():
    """A graph network: what nodes tell their neighbours goes through a product of two activations."""
    graph = Graph()
    rows = graph.add("Reshape", "x", graph.constant(np.array([1, 4, 36])))
    neighbours = graph.add("Sigmoid", graph.add("Slice", rows, *(graph.constant(np.array([n])) for n in (0, 4, 2))))
    weights = [graph.constant(graph.random.standard_normal(shape).astype(np.float32)) for shape in ((36, 8), (8, 3))]
    told = graph.add("Relu", graph.add("MatMul", neighbours, graph.add("MatMul", rows, weights[0], name="first")))
    (group,) = graph.groups(graph.add("MatMul", told, weights[1], name="last")).groups
    assert (group.name, group.kind, group.size) == ("first", "channel", 8)
