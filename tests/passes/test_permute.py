"""Channels in another order compute the same and lose less."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers, write_weight
from edgeprune.mask import mask_from_scores
from edgeprune.passes.permute import Permute, cluster
from edgeprune.pattern import parse_pattern


def _network(seed: int, channels: int) -> ir.Model:
    """Two convolutions, the first of which has two kinds of channels that alternate, then a linear layer."""
    generator = np.random.default_rng(seed)
    first = generator.standard_normal((channels, 12, 3, 3)) * 0.01
    first[::2, :6] *= 100
    first[1::2, 6:] *= 100
    arrays = {
        "w1": first,
        "b1": generator.standard_normal(channels),
        "w2": generator.standard_normal((7, channels, 3, 3)),
        "w3": generator.standard_normal((7 * 16, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["c"], ["d"], "flat"),
        helper.make_node("MatMul", ["d", "w3"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 12, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return canonicalize(ir.from_proto(proto))


def _kept(model: ir.Model, pattern: str) -> float:
    layer = next(layer for layer in weighted_layers(model) if layer.name == "first")
    squares = read_weight(layer) ** 2
    return float(squares[mask_from_scores(squares, parse_pattern(pattern), 0.5)].sum() / squares.sum())


@pytest.mark.parametrize("channels", [16, 24, 20])
def test_channels_that_read_the_same_come_together(channels):
    model = _network(0, channels)
    permuted = Permute(parse_pattern("1x4"))(model)
    row = {"x": np.random.default_rng(1).standard_normal((1, 12, 4, 4)).astype(np.float32)}
    assert np.allclose(Session(model).run(row)["y"], Session(permuted).run(row)["y"], rtol=1e-4, atol=1e-3)
    assert _kept(model, "1x4") < 0.9
    assert _kept(permuted, "1x4") > 0.98


def test_the_model_itself_comes_back_where_no_order_is_better():
    model = _network(0, 16)
    assert Permute(parse_pattern("1x1"))(model) is model
    assert Permute(parse_pattern("channel"))(model) is model
    once = Permute(parse_pattern("1x4"))(model)
    assert _kept(Permute(parse_pattern("1x4"))(once), "1x4") == pytest.approx(_kept(once, "1x4"), rel=1e-6)


def test_balanced_groups_get_weights_of_every_size():
    """All heavy inputs of `second` lie in the same groups of four: 2:4 has to give half of them up."""
    model = _network(3, 16)
    layer = next(layer for layer in weighted_layers(model) if layer.name == "second")
    weight = read_weight(layer)
    weight[:, :, :8] *= 50
    write_weight(layer, weight)
    permuted = Permute(parse_pattern("2:4"))(model)

    def kept(found: ir.Model) -> float:
        second = next(layer for layer in weighted_layers(found) if layer.name == "second")
        squares = read_weight(second) ** 2
        return float(squares[mask_from_scores(squares, parse_pattern("2:4"))].sum() / squares.sum())

    assert kept(model) < 0.9 < 0.99 < kept(permuted)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_no_swap_is_left_that_gains(seed):
    generator = np.random.default_rng(seed)
    vectors = generator.random((5, 8))
    affinity = vectors.T @ vectors

    def inside(order: np.ndarray) -> float:
        return sum(affinity[np.ix_(part, part)].sum() for part in (order[:4], order[4:]))

    order = cluster(affinity, 4)
    assert sorted(order) == list(range(8))
    for first, second in itertools.product(range(4), range(4, 8)):
        swapped = order.copy()
        swapped[[first, second]] = swapped[[second, first]]
        assert inside(swapped) <= inside(order) + 1e-6
    best = max(
        inside(np.array([*part, *[unit for unit in range(8) if unit not in part]]))
        for part in itertools.combinations(range(8), 4)
    )
    assert inside(order) >= 0.9 * best
