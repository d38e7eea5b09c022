"""Where pairs of Q and DQ stand in small networks."""

from __future__ import annotations

import onnx_ir as ir
from networks import Builder, small_network

from edgeprune.ir.weights import weighted_layers
from edgeprune.passes.quantize.placement import Placement, place


def readers(placement: Placement) -> dict[str, set[str]]:
    """By name of the value, the names of the nodes that read it quantized."""
    return {str(point.value.name): {str(node.name) for node, _ in point.uses} for point in placement.points}


def grids(placement: Placement) -> dict[str, int]:
    return {str(point.value.name): point.grid for point in placement.points}


def test_small_network() -> None:
    model = small_network()
    found = place(model)
    assert readers(found) == {
        "x": {"first"},
        "r0_out": {"a", "sum"},
        "r1_out": {"b"},
        "r2_out": {"depthwise"},
        "r3_out": {"wide"},
        "r4_out": {"mean"},
        "mean_out": {"flat"},
        "r5_out": {"last"},
    }
    assert set(found.layers) == {layer.name for layer in weighted_layers(model)}


def test_layers_kept_in_float_read_what_was_there() -> None:
    found = place(small_network(), ["a", "hidden"])
    assert readers(found)["r0_out"] == {"sum"}
    assert "mean_out" not in readers(found)
    assert set(found.layers) == {"first", "b", "depthwise", "wide", "last"}
    nothing = place(small_network(), [layer.name for layer in weighted_layers(small_network())])
    assert nothing.layers == {}


def test_concatenation_shares_one_grid_and_pools_keep_theirs() -> None:
    build = Builder(0, [1, 3, 8, 8])
    one = build.relu("r1", build.convolution("one", build.input, 4))
    two = build.convolution("two", build.input, 5)
    both = build.add("Concat", "both", [one, two], [1, 9, 8, 8], axis=1)
    pooled = build.add("MaxPool", "pool", [both], [1, 9, 4, 4], kernel_shape=[2, 2], strides=[2, 2])
    model = build.model(build.convolution("last", pooled, 3))
    found = grids(place(model))
    assert set(found) == {"x", "r1_out", "two_out", "both_out", "pool_out"}
    assert len({found[name] for name in ("r1_out", "two_out", "both_out", "pool_out")}) == 1
    assert found["x"] != found["r1_out"]


def test_moves_come_after_the_pair() -> None:
    build = Builder(0, [1, 3, 8, 8])
    one = build.relu("r1", build.convolution("one", build.input, 4))
    turned = build.add("Transpose", "turned", [one], [1, 8, 8, 4], perm=[0, 2, 3, 1])
    back = build.add("Transpose", "back", [turned], [1, 4, 8, 8], perm=[0, 3, 1, 2])
    model = build.model(build.convolution("last", back, 3))
    assert readers(place(model)) == {"x": {"one"}, "r1_out": {"turned"}}


def test_sum_of_two_convolutions_stores_one_of_them() -> None:
    build = Builder(0, [1, 3, 6, 6])
    left, right = build.convolution("left", build.input, 4), build.convolution("right", build.input, 4)
    total = build.relu("r", build.add("Add", "total", [left, right], [1, 4, 6, 6]))
    model = build.model(build.convolution("last", total, 3))
    assert readers(place(model)) == {"x": {"left", "right"}, "right_out": {"total"}, "r_out": {"last"}}


def test_activation_and_gate_of_a_convolution_are_computed_with_it() -> None:
    build = Builder(0, [1, 3, 6, 6])
    one = build.convolution("one", build.input, 4)
    gate = build.add("Sigmoid", "gate", [one], [1, 4, 6, 6])
    silu = build.add("Mul", "silu", [one, gate], [1, 4, 6, 6])
    total = build.add("Add", "total", [silu, build.convolution("two", silu, 4)], [1, 4, 6, 6])
    model = build.model(build.convolution("last", total, 3))
    assert readers(place(model)) == {"x": {"one"}, "silu_out": {"two", "total"}, "total_out": {"last"}}


def test_squeeze_and_excitation() -> None:
    build = Builder(0, [1, 3, 6, 6])
    one = build.relu("r1", build.convolution("one", build.input, 4))
    mean = build.add("GlobalAveragePool", "mean", [one], [1, 4, 1, 1])
    gate = build.add("Sigmoid", "gate", [build.convolution("squeeze", mean, 4, kernel=1)], [1, 4, 1, 1])
    scaled = build.add("Mul", "scaled", [one, gate], [1, 4, 6, 6])
    model = build.model(build.convolution("last", scaled, 3))
    found = readers(place(model))
    assert found == {
        "x": {"one"},
        "r1_out": {"mean", "scaled"},
        "mean_out": {"squeeze"},
        "gate_out": {"scaled"},
        "scaled_out": {"last"},
    }


def test_only_what_linear_layers_read_is_quantized_around_attention() -> None:
    build = Builder(0, [1, 7, 8])
    mean = build.add("ReduceMean", "mean", [build.input, _axis(build)], [1, 7, 1])
    norm = build.add("Sub", "norm", [build.input, mean], [1, 7, 8])
    query = build.add("MatMul", "query", [norm, build.constant("q", 8, 8)], [1, 7, 8])
    key = build.add("MatMul", "key", [norm, build.constant("k", 8, 8)], [1, 7, 8])
    turned = build.add("Transpose", "turned", [key], [1, 8, 7], perm=[0, 2, 1])
    scores = build.add("MatMul", "scores", [query, turned], [1, 7, 7])
    chances = build.add("Softmax", "chances", [scores], [1, 7, 7])
    mixed = build.add("MatMul", "mixed", [chances, key], [1, 7, 8])
    out = build.add("MatMul", "out", [mixed, build.constant("o", 8, 8)], [1, 7, 8])
    model = build.model(build.add("Add", "residual", [build.input, out], [1, 7, 8]))
    assert readers(place(model)) == {"norm_out": {"query", "key"}, "mixed_out": {"out"}}


def _axis(build: Builder) -> ir.Value:
    import numpy as np

    value = ir.val("axis", const_value=ir.tensor(np.array([-1], np.int64), name="axis"))
    build.constants.append(value)
    return value
