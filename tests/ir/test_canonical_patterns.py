"""Forms that exporters write in several nodes, against ONNX Runtime on the untouched model."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from canonical_cases import Graph, check, operators

Build = Callable[[Graph], str]


def number(graph: Graph, value: float) -> str:
    return graph.constant(np.float32(value))


def integers(graph: Graph, *values: int) -> str:
    return graph.constant(np.array(values, np.int64))


def clipped(graph: Graph, low: float, high: float, x: str = "x", shift: float = 3.0) -> str:
    return graph.node("Clip", graph.node("Add", x, number(graph, shift)), number(graph, low), number(graph, high))


def relu6_by_parts(graph: Graph) -> str:
    return graph.node("Min", graph.node("Relu", graph.node("Add", number(graph, 3), "x")), number(graph, 6))


def times(graph: Graph, *values: str) -> str:
    result = values[0]
    for value in values[1:]:
        result = graph.node("Mul", result, value)
    return result


def one_plus(graph: Graph, inner: str) -> str:
    return graph.node("Add", inner, number(graph, 1))


def erf(graph: Graph) -> str:
    return one_plus(graph, graph.node("Erf", graph.node("Div", "x", number(graph, sqrt(2)))))


def tanh(graph: Graph, cube: str) -> str:
    inner = graph.node("Add", "x", times(graph, cube, number(graph, 0.044715)))
    return one_plus(graph, graph.node("Tanh", times(graph, inner, number(graph, sqrt(2 / pi)))))


def softplus(graph: Graph) -> str:
    return graph.node("Tanh", graph.node("Softplus", "x"))


ACTIVATIONS: dict[str, tuple[Build, list[str]]] = {
    "hard swish, divided last": (
        lambda g: g.node("Div", times(g, "x", clipped(g, 0, 6)), number(g, 6)),
        ["HardSwish"],
    ),
    "hard swish, scaled first": (
        lambda g: times(g, "x", times(g, clipped(g, 0, 6), number(g, 1 / 6))),
        ["HardSwish"],
    ),
    "hard swish, scaled between": (
        lambda g: times(g, times(g, number(g, 1 / 6), "x"), clipped(g, 0, 6)),
        ["HardSwish"],
    ),
    "hard swish of minimum and relu": (
        lambda g: g.node("Div", times(g, relu6_by_parts(g), "x"), number(g, 6)),
        ["HardSwish"],
    ),
    "hard swish of hard sigmoid": (
        lambda g: times(g, g.node("HardSigmoid", "x", alpha=1 / 6), "x"),
        ["HardSwish"],
    ),
    "hard swish of a scaled value": (
        lambda g: (lambda y: g.node("Div", times(g, y, clipped(g, 0, 6, y)), number(g, 6)))(
            times(g, "x", number(g, 2))
        ),
        ["Mul", "HardSwish"],
    ),
    "hard sigmoid": (lambda g: g.node("Div", clipped(g, 0, 6), number(g, 6)), ["HardSigmoid"]),
    "hard sigmoid of slope 0.2": (
        lambda g: clipped(g, 0, 1, times(g, "x", number(g, 0.2)), 0.5),
        ["HardSigmoid"],
    ),
    "another product": (lambda g: times(g, "x", clipped(g, 0, 6)), ["Add", "Clip", "Mul"]),
    "another divisor": (
        lambda g: g.node("Div", times(g, "x", clipped(g, 0, 6)), number(g, 5)),
        ["Add", "Clip", "Mul", "Div"],
    ),
    "another bound": (
        lambda g: g.node("Div", times(g, "x", clipped(g, 0, 5)), number(g, 6)),
        ["Add", "Clip", "Mul", "Div"],
    ),
    "gelu, halved first": (lambda g: times(g, times(g, "x", number(g, 0.5)), erf(g)), ["Gelu"]),
    "gelu, halved last": (lambda g: times(g, times(g, "x", erf(g)), number(g, 0.5)), ["Gelu"]),
    "gelu, halved between": (lambda g: times(g, "x", times(g, number(g, 0.5), erf(g))), ["Gelu"]),
    "gelu without a half": (lambda g: times(g, "x", erf(g)), ["Div", "Erf", "Add", "Mul"]),
    "gelu by tanh of a power": (
        lambda g: times(g, times(g, "x", number(g, 0.5)), tanh(g, g.node("Pow", "x", number(g, 3)))),
        ["Gelu"],
    ),
    "gelu by tanh of a whole power": (
        lambda g: times(g, times(g, "x", number(g, 0.5)), tanh(g, g.node("Pow", "x", integers(g, 3)))),
        ["Gelu"],
    ),
    "gelu by tanh of a product": (
        lambda g: times(g, number(g, 0.5), times(g, "x", tanh(g, times(g, "x", "x", "x")))),
        ["Gelu"],
    ),
    "mish": (lambda g: times(g, "x", softplus(g)), ["Mish"]),
    "swish stays": (lambda g: times(g, "x", g.node("Sigmoid", "x")), ["Sigmoid", "Mul"]),
    "relu by maximum": (lambda g: g.node("Max", "x", number(g, 0)), ["Relu"]),
    "relu with a lid": (
        lambda g: g.node("Clip", g.node("Relu", "x"), number(g, -1), number(g, 0.5)),
        ["Clip"],
    ),
    "bounds that do not meet": (
        lambda g: g.node("Clip", g.node("Clip", "x", number(g, -1), number(g, -0.5)), number(g, 0.5), number(g, 1)),
        ["Clip"],
    ),
    "one slope": (lambda g: g.node("PRelu", "x", g.constant(np.full((3, 1, 1), 0.3, np.float32))), ["LeakyRelu"]),
    "slopes": (lambda g: g.node("PRelu", "x", g.positive(3, 1, 1)), ["PRelu"]),
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activations_by_parts_become_one_node(case: str):
    graph = Graph()
    build, expected = ACTIVATIONS[case]
    assert operators(check(graph.model({"x": [1, 3, 5, 4]}, [build(graph)]))) == expected


def test_whole_exponents_become_real():
    graph = Graph()
    rounded = graph.node("Cast", graph.node("Relu", "z"), to=onnx.TensorProto.INT32)
    model = check(graph.model({"x": [1, 3], "z": [1, 3]}, [graph.node("Pow", "x", rounded)]))
    assert operators(model) == ["Relu", "Cast", "Cast", "Pow"]
    assert {value.dtype for value in model.graph.node(3).inputs if value is not None} == {ir.DataType.FLOAT}


@pytest.mark.parametrize("opset", [11, 12, 17])
def test_empty_scales_of_a_resize_are_none(opset: int):
    graph = Graph()
    nothing = graph.constant(np.zeros(0, np.float32))
    y = graph.node("Resize", "x", nothing, nothing, integers(graph, 1, 2, 7, 9), mode="linear")
    model = check(graph.model({"x": [1, 2, 3, 5]}, [y], opset))
    assert operators(model) == ["Resize"]
    assert [value is None for value in model.graph.node(0).inputs] == [False, True, True, False]


def test_a_product_with_another_shape_stays():
    graph = Graph()
    y = graph.node("Div", times(graph, "x", clipped(graph, 0, 6, "z")), number(graph, 6))
    assert "HardSwish" not in operators(check(graph.model({"x": [2, 3], "z": [1, 3]}, [y])))


def turned(graph: Graph, x: str, *order: int) -> str:
    return graph.node("Transpose", x, perm=list(order))


def last(graph: Graph, x: str) -> str:
    return turned(graph, x, 0, 2, 3, 1)


def first(graph: Graph, x: str) -> str:
    return turned(graph, x, 0, 3, 1, 2)


def dense(graph: Graph, x: str, channels: int = 3) -> str:
    return graph.node("Conv", x, graph.weight(4, channels, 1, 1))


def channels_last_block(graph: Graph) -> str:
    """tf2onnx's road: every convolution turns its images and turns them back."""
    x = last(graph, dense(graph, "x"))
    x = graph.node("Relu", graph.node("Add", x, graph.weight(4)))
    x = graph.node("Pad", x, integers(graph, 0, 1, 0, 0, 0, 0, 1, 0))
    deep = last(graph, dense(graph, first(graph, x), 4))
    x = graph.node("Concat", x, graph.node("Add", x, deep), axis=3)
    gate = graph.node("ReduceMean", x, axes=[1, 2], keepdims=1)
    gate = graph.node("Sigmoid", last(graph, graph.node("Conv", first(graph, gate), graph.weight(8, 8, 1, 1))))
    return graph.node("ReduceMean", graph.node("Mul", x, gate), axes=[1, 2], keepdims=0)


def test_channels_last_networks_lose_their_transposes():
    graph = Graph()
    found = operators(check(graph.model({"x": [1, 3, 5, 4]}, [channels_last_block(graph)])))
    assert "Transpose" not in found
    assert found.count("GlobalAveragePool") == 2


MOVEMENTS: dict[str, tuple[Build, list[str]]] = {
    "transposes that cancel around an activation": (
        lambda g: first(g, g.node("Clip", last(g, "x"), number(g, -1), number(g, 1))),
        ["Clip"],
    ),
    "reshapes in a row": (
        lambda g: g.node("Flatten", g.node("Unsqueeze", g.node("Reshape", "x", integers(g, 1, 15, 4)), integers(g, 0))),
        ["Reshape"],
    ),
    "reshapes that cancel around an activation": (
        lambda g: g.node("Reshape", g.node("Relu", g.node("Flatten", "x")), integers(g, 1, 3, 5, 4)),
        ["Relu"],
    ),
    "slices in a row": (
        lambda g: g.node(
            "Slice",
            g.node("Slice", "x", integers(g, 1, 1), integers(g, 99, -1), integers(g, 2, 3)),
            *(integers(g, n) for n in (0, 9, 2, 2)),
        ),
        ["Slice"],
    ),
    "a slice of everything": (lambda g: g.node("Relu", g.node("Slice", "x", integers(g, 0), integers(g, 9))), ["Relu"]),
    "a backward slice stays": (
        lambda g: g.node(
            "Slice",
            g.node("Slice", "x", integers(g, 1), integers(g, 4), integers(g, 2)),
            *(integers(g, n) for n in (-1, -99, 2, -1)),
        ),
        ["Slice", "Slice"],
    ),
    "concatenations in a row": (
        lambda g: g.node("Concat", g.node("Concat", "x", g.node("Neg", "x"), axis=1), g.node("Exp", "x"), axis=-3),
        ["Neg", "Exp", "Concat"],
    ),
    "concatenations on two axes": (
        lambda g: g.node("Concat", *[g.node("Concat", "x", g.node(op, "x"), axis=1) for op in ("Neg", "Exp")], axis=2),
        ["Neg", "Concat", "Exp", "Concat", "Concat"],
    ),
    "a concatenation of one": (lambda g: g.node("Relu", g.node("Concat", "x", axis=1)), ["Relu"]),
    "indices of rows": (
        lambda g: g.node("GatherND", "x", g.constant(np.array([[[0, 2], [0, -1]], [[-1, 1], [0, 0]]]))),
        ["Reshape", "Gather"],
    ),
    "indices of a batch stay": (
        lambda g: g.node("GatherND", "x", g.constant(np.array([[[1, 2]]])), batch_dims=1),
        ["GatherND"],
    ),
    "a pad that crops": (
        lambda g: g.node("Pad", "x", integers(g, 0, 0, -1, 2, 0, 0, 0, -1), number(g, 1)),
        ["Slice", "Pad"],
    ),
    "a pad of nothing": (lambda g: g.node("Relu", g.node("Pad", "x", integers(g, *[0] * 8))), ["Relu"]),
    "a pad with negative zeros": (
        lambda g: g.node(
            "Conv", g.node("Pad", "x", integers(g, 0, 0, 1, 1, 0, 0, 1, 1), number(g, -0.0)), g.weight(2, 3, 3, 3)
        ),
        ["Conv"],
    ),
    "a tile of one": (lambda g: g.node("Relu", g.node("Tile", "x", integers(g, 1, 1, 1, 1))), ["Relu"]),
    "a dropout with a false flag": (
        lambda g: g.node("Relu", g.node("Dropout", "x", number(g, 0.5), g.constant(np.bool_(False)))),
        ["Relu"],
    ),
}


@pytest.mark.parametrize("case", MOVEMENTS)
def test_movements_take_their_shortest_form(case: str):
    graph = Graph()
    build, expected = MOVEMENTS[case]
    assert operators(check(graph.model({"x": [1, 3, 5, 4]}, [build(graph)]))) == expected


def test_an_even_split_is_given_its_sizes():
    graph = Graph()
    graph.node("Split", "x", outputs=2, axis=3, num_outputs=2)
    model = check(graph.model({"x": [1, 3, 5, 7]}, [graph.node("Relu", name) for name in graph.nodes[0].output], 18))
    assert model.graph[0].inputs[1].const_value.numpy().tolist() == [4, 3]
    assert not {"num_outputs"} & set(model.graph[0].attributes)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
def test_reductions_over_images_are_global_pools(op: str, keep: int):
    graph = Graph()
    y = graph.node(op, "x", axes=[-1, 2], keepdims=keep)
    pool = "GlobalAveragePool" if op == "ReduceMean" else "GlobalMaxPool"
    assert operators(check(graph.model({"x": [1, 3, 5, 4]}, [y]))) == [pool, *["Reshape"] * (1 - keep)]


def test_an_average_over_the_image_is_a_global_pool():
    graph = Graph()
    whole = graph.node("AveragePool", "x", kernel_shape=[5, 4], strides=[2, 2])
    part = graph.node("AveragePool", "x", kernel_shape=[5, 3])
    found = operators(check(graph.model({"x": [1, 3, 5, 4]}, [whole, part])))
    assert found == ["GlobalAveragePool", "AveragePool"]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "strides", "pads", "expected"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0), ["Conv", "DepthToSpace"]),
        ((3, 3), (3, 3), (0, 0, 0, 0), ["Conv", "DepthToSpace"]),
        ((1, 1), (1, 1), (0, 0, 0, 0), ["Conv"]),
        ((3, 2), (1, 1), (1, 0, 2, 1), ["Conv"]),
        ((3, 3), (1, 1), (3, 0, 0, 0), ["ConvTranspose"]),
        ((3, 3), (2, 2), (1, 1, 1, 1), ["ConvTranspose"]),
        ((2, 3), (2, 3), (0, 0, 0, 0), ["ConvTranspose"]),
    ],
)
def test_transposed_convolutions_become_plain_where_exact(kernel, strides, pads, expected: list[str], bias: bool):
    graph = Graph()
    extra = [graph.weight(5)] if bias else []
    y = graph.node("ConvTranspose", "x", graph.weight(3, 5, *kernel), *extra, strides=strides, pads=pads)
    assert operators(check(graph.model({"x": [2, 3, 5, 4]}, [y]))) == expected


PRECEDING: dict[str, tuple[Build, list[str]]] = {
    "scale and shift": (lambda g: g.node("Conv", normalised(g, "x"), g.weight(4, 3, 3, 3), g.weight(4)), ["Conv"]),
    "a shift into a padded convolution": (
        lambda g: g.node("Conv", normalised(g, "x"), g.weight(4, 3, 3, 3), pads=[1] * 4),
        ["Sub", "Conv"],
    ),
    "a scale into a padded convolution": (
        lambda g: g.node("Conv", times(g, "x", g.weight(3, 1, 1)), g.weight(4, 3, 3, 3), pads=[1] * 4),
        ["Conv"],
    ),
    "a scale into a grouped convolution": (
        lambda g: g.node("Conv", normalised(g, "x"), g.weight(6, 1, 3, 3), group=3),
        ["Conv"],
    ),
    "through a transpose": (
        lambda g: g.node("Conv", first(g, normalised(g, last(g, "x"), 3)), g.weight(4, 3, 3, 3)),
        ["Conv"],
    ),
    "through a flattening": (
        lambda g: g.node("Gemm", g.node("Flatten", normalised(g, "x")), g.weight(60, 5), g.weight(5)),
        ["Flatten", "Gemm"],
    ),
    "into a batched product": (
        lambda g: g.node("MatMul", times(g, "x", g.weight(4)), g.weight(4, 5)),
        ["MatMul"],
    ),
    "a shift of a batched product stays": (
        lambda g: g.node("MatMul", g.node("Add", "x", g.weight(4)), g.weight(4, 5)),
        ["Add", "MatMul"],
    ),
    "a scale along another axis stays": (
        lambda g: g.node("Conv", times(g, "x", g.weight(4)), g.weight(4, 3, 3, 3)),
        ["Mul", "Conv"],
    ),
    "a scale and shift after a batched product": (
        lambda g: times(g, g.node("Add", g.node("MatMul", "x", g.weight(4, 5)), g.weight(5)), g.weight(5)),
        ["MatMul", "Add"],
    ),
}


def normalised(graph: Graph, x: str, *shape: int) -> str:
    shape = shape or (3, 1, 1)
    return graph.node("Div", graph.node("Sub", x, graph.weight(*shape)), graph.positive(*shape))


@pytest.mark.parametrize("case", PRECEDING)
def test_arithmetic_around_layers_folds_where_it_is_exact(case: str):
    graph = Graph()
    build, expected = PRECEDING[case]
    assert operators(check(graph.model({"x": [1, 3, 5, 4]}, [build(graph)]))) == expected


def test_arithmetic_that_others_read_stays():
    graph = Graph()
    x = normalised(graph, "x")
    ends = [graph.node("Conv", x, graph.weight(4, 3, 3, 3)), graph.node("Relu", x)]
    assert operators(check(graph.model({"x": [1, 3, 5, 4]}, ends))) == ["Sub", "Div", "Conv", "Relu"]


def test_a_norm_folds_into_the_convolution_after_it():
    graph = Graph()
    statistics = [graph.positive(3), graph.weight(3), graph.weight(3), graph.positive(3)]
    y = graph.node("Conv", graph.node("BatchNormalization", "x", *statistics), graph.weight(4, 3, 2, 2))
    assert operators(check(graph.model({"x": [1, 3, 5, 4]}, [y]))) == ["Conv"]


@pytest.mark.parametrize(("axis", "p"), [(-1, 2), (1, 1), (0, 2)])
def test_lp_normalization_is_a_quotient(axis: int, p: int) -> None:
    graph = Graph()
    y = graph.node("LpNormalization", graph.node("Relu", "x"), axis=axis, p=p)
    model = check(graph.model({"x": [2, 3, 5]}, [y], opset=13))
    assert operators(model) == ["Relu", "ReduceL1" if p == 1 else "ReduceL2", "Clip", "Div"]


@pytest.mark.parametrize(("length", "kept"), [(4, False), (3, True)])
def test_lengths_of_all_steps_are_left_out(length: int, kept: bool) -> None:
    graph = Graph()
    weights = [graph.weight(1, 12, 5), graph.weight(1, 12, 3), graph.weight(1, 24)]
    y = graph.node("LSTM", "x", *weights, graph.constant(np.full(2, length, np.int32)), hidden_size=3)
    model = check(graph.model({"x": [4, 2, 5]}, [y], opset=14))
    (node,) = (node for node in model.graph if node.op_type == "LSTM")
    assert (len(node.inputs) > 4 and node.inputs[4] is not None) == kept
