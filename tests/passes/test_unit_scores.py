"""Scores and costs of units, against sums by hand and against what a smaller model really costs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from networks import small_network
from onnx import TensorProto, helper, numpy_helper
from unit_networks import Sequence, random_network

from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.cost import model_cost
from edgeprune.ir.dependency import find_groups
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.select_units import SelectUnits
from edgeprune.passes.unit_scores import unit_scores, units_cost


def saliencies(model):
    return {layer.name: np.abs(read_weight(layer)) for layer in weighted_layers(model)}


def test_scores_by_hand():
    """Channels of conv a, two of which are one unit because conv b reads them in two groups."""
    model = small_network()
    given = saliencies(model)
    made, read = given["a"].sum(axis=(0, 1, 2)), given["b"].sum(axis=(0, 1, 3))
    wanted = (made[:6] + made[6:] + read) / (2 * 8 * 9 + 8 * 9)
    np.testing.assert_allclose(unit_scores(model, find_groups(model)["a"], given), wanted, rtol=1e-6)


def test_scores_of_a_linear_layer():
    model = small_network()
    given = saliencies(model)
    wanted = (given["hidden"][0, 0].sum(axis=0) + given["last"][0, 0].sum(axis=1)) / 25
    np.testing.assert_allclose(unit_scores(model, find_groups(model)["hidden"], given), wanted, rtol=1e-6)


def test_scores_of_depthwise_channels():
    model = small_network()
    given = {"depthwise": saliencies(model)["depthwise"]}
    wanted = given["depthwise"].sum(axis=(1, 2, 3)).reshape(2, 4).sum(axis=0) / 18
    np.testing.assert_allclose(unit_scores(model, find_groups(model)["first"], given), wanted, rtol=1e-6)


def test_units_between_recurrent_layers_go_by_size():
    generator = np.random.default_rng(0)
    shapes = {"w1": (1, 6, 3), "r1": (1, 6, 6), "w2": (1, 4, 6), "r2": (1, 4, 4)}
    arrays = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("RNN", ["x", "w1", "r1"], ["a"], "one", hidden_size=6),
        helper.make_node("Squeeze", ["a", "axes"], ["b"], "flat"),
        helper.make_node("RNN", ["b", "w2", "r2"], ["", "y"], "two", hidden_size=4),
    ]
    constants = {**arrays, "axes": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = canonicalize(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    squares = {name: array[0].astype(np.float64) ** 2 for name, array in arrays.items()}
    own = squares["w1"].sum(1) + squares["r1"].sum(1) + squares["r1"].sum(0) + squares["w2"].sum(0)
    np.testing.assert_allclose(unit_scores(model, find_groups(model)["one"], {}), own / (3 + 6 + 6 + 4), rtol=1e-6)


def test_no_saliency():
    model = small_network()
    with pytest.raises(EdgepruneError) as caught:
        unit_scores(model, find_groups(model)["a"], {"wide": saliencies(model)["wide"]})
    assert str(caught.value) == (
        "no saliency says what the units of group 'a' are worth [saliency-missing]\n  where: group 'a'\n"
        "  hint:  give saliencies for the layers that make and read them"
    )


@pytest.mark.parametrize("step", [None, "attention", "grouped_attention", "fused_attention", "perceptron", "lstm"])
def test_cost_is_what_one_unit_saves(step):
    model = small_network() if step is None else random_network(Sequence, 2, [Sequence.STEPS.index(step)])
    whole = model_cost(model)
    for group in find_groups(model).groups:
        fewer = np.arange(group.size - 1)
        less = model_cost(SelectUnits({group.name: fewer})(model))
        cost = units_cost(model, group)
        assert cost.macs == pytest.approx(whole.dense_macs - less.dense_macs), group.name
        assert cost.weights == pytest.approx(whole.weights - less.weights), group.name
