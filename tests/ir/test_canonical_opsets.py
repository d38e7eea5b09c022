"""Operators whose form or meaning changed between operator sets, against ONNX Runtime on the untouched model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from canonical_cases import Graph, check, operators

from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.execute import Session

Build = Callable[[Graph], str]


def indices(graph: Graph, *values: int) -> str:
    return graph.constant(np.array(values, np.int64))


CASES: dict[str, tuple[tuple[int, ...], Build]] = {
    "softmax of several axes": ((7, 9, 11), lambda g: g.node("Softmax", "x", axis=1)),
    "log-softmax by default": ((7, 11, 13), lambda g: g.node("LogSoftmax", "x")),
    "squeeze by attribute": ((7, 11), lambda g: g.node("Relu", g.node("Squeeze", "x", axes=[0]))),
    "unsqueeze by attribute": ((7, 11), lambda g: g.node("Unsqueeze", "x", axes=[1])),
    "slice by attribute": ((7, 9), lambda g: g.node("Slice", "x", axes=[2, 3], starts=[1, 0], ends=[4, -1])),
    "slice with steps": ((10, 11), lambda g: g.node("Slice", "x", *(indices(g, n) for n in (0, 6, 2, 2)))),
    "clip by attribute": ((7, 10), lambda g: g.node("Clip", "x", min=-0.5, max=0.5)),
    "clip by input": ((11, 12), lambda g: g.node("Clip", "x", g.constant(np.float32(-0.5)))),
    "pad by attribute": ((7, 10), lambda g: g.node("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.5)),
    "pad by reflection": ((7, 10), lambda g: g.node("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 0, 1], mode="reflect")),
    "pad by input": ((11, 13), lambda g: g.node("Pad", "x", indices(g, 0, 0, 1, 2, 0, 0, 0, 1), mode="edge")),
    "split by attribute": ((7, 11), lambda g: g.node("Split", "x", outputs=2, axis=1, split=[1, 2])),
    "split evenly": ((13, 17), lambda g: g.node("Split", "x", outputs=2, axis=3)),
    "sum over axes": ((7, 11), lambda g: g.node("ReduceSum", "x", axes=[2, 3], keepdims=0)),
    "mean over axes": ((7, 11, 13, 17), lambda g: g.node("ReduceMean", "x", axes=[2, 3])),
    "largest over axes": ((11, 13, 17), lambda g: g.node("ReduceMax", "x", axes=[-1])),
    "dropout": ((7, 10), lambda g: g.node("Relu", g.node("Dropout", "x", ratio=0.3))),
    "nearest upsampling": ((9,), lambda g: upsample(g, "nearest")),
    "linear upsampling": ((9,), lambda g: upsample(g, "linear")),
    "nearest resizing of version 10": ((10,), lambda g: g.node("Resize", "x", scales(g), mode="nearest")),
    "uneven nearest resizing": ((10,), lambda g: g.node("Resize", "x", scales(g, 1.5, 2.3), mode="nearest")),
    "shrinking by nearest": ((10,), lambda g: g.node("Resize", "x", scales(g, 0.7, 0.4), mode="nearest")),
    "linear resizing of version 10": ((10,), lambda g: g.node("Resize", "x", scales(g, 1.5, 0.7), mode="linear")),
    "resizing to a size": ((11, 13), lambda g: resize(g, "half_pixel", "linear")),
    "resizing with corners": ((11, 17), lambda g: resize(g, "align_corners", "linear")),
    "cubic resizing": ((11, 17), lambda g: resize(g, "half_pixel", "cubic")),
    "average with padding": ((7, 10, 11), lambda g: average(g)),
    "largest with ceiling": (
        (10, 12),
        lambda g: g.node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    ),
    "parametric relu": ((7, 9), lambda g: g.node("PRelu", "x", g.positive(3, 1, 1))),
    "instance norm": ((7, 13), lambda g: g.node("InstanceNormalization", "x", g.weight(3), g.weight(3))),
    "matrix product": ((7, 9, 13), lambda g: g.node("MatMul", "x", g.weight(6, 4))),
    "gather": ((7, 11), lambda g: g.node("Gather", "x", indices(g, 2, 0), axis=1)),
    "channel shuffle": ((7, 13), lambda g: shuffle(g)),
    "hard swish by parts": ((11, 17), lambda g: g.node("Mul", "x", g.node("HardSigmoid", "x"))),
    "layer norm": ((17, 18), lambda g: g.node("LayerNormalization", "x", g.weight(6), g.weight(6))),
    "expand": ((8, 13), lambda g: g.node("Expand", "x", indices(g, 2, 3, 5, 6))),
    "tile": ((7, 13), lambda g: g.node("Tile", "x", indices(g, 1, 2, 1, 1))),
    "space to depth": ((10, 13), lambda g: g.node("SpaceToDepth", g.node("Slice", "x", *rows(g)), blocksize=2)),
    "power": ((7, 12, 15), lambda g: g.node("Pow", g.node("Abs", "x"), g.constant(np.float32(1.5)))),
    "choice": ((9, 16), lambda g: g.node("Where", g.constant(np.array([True, False] * 3)), "x", g.node("Neg", "x"))),
    "lower triangle": ((14, 17), lambda g: g.node("Trilu", "x", upper=0)),
    "casting": ((19, 21, 24), lambda g: g.node("Cast", g.node("Cast", "x", to=7, saturate=1), to=1)),
    "padding by edges": ((19, 23), lambda g: g.node("Pad", "x", indices(g, 0, 0, 1, 2, 0, 0, 0, 1), mode="edge")),
    "resizing of later sets": ((19, 22), lambda g: resize(g, "half_pixel", "linear")),
    "arg max": ((7, 12), lambda g: g.node("Cast", g.node("ArgMax", "x", axis=3), to=1)),
}


def rows(graph: Graph) -> list[str]:
    return [indices(graph, n) for n in (0, 4, 2)]


def scales(graph: Graph, height: float = 2, width: float = 3) -> str:
    return graph.constant(np.array([1, 1, height, width], np.float32))


def upsample(graph: Graph, mode: str) -> str:
    return graph.node("Upsample", "x", scales(graph), mode=mode)


def resize(graph: Graph, positions: str, mode: str) -> str:
    empty = graph.constant(np.zeros(0, np.float32))
    sizes = indices(graph, 1, 3, 9, 8)
    return graph.node("Resize", "x", empty, empty, sizes, mode=mode, coordinate_transformation_mode=positions)


def average(graph: Graph) -> str:
    return graph.node("AveragePool", "x", kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1)


def shuffle(graph: Graph) -> str:
    split = graph.node("Reshape", "x", indices(graph, 1, 3, 1, 5, 6))
    return graph.node("Reshape", graph.node("Transpose", split, perm=[0, 2, 1, 3, 4]), indices(graph, 1, 3, 5, 6))


@pytest.mark.parametrize(("case", "opset"), [(case, opset) for case, (opsets, _) in CASES.items() for opset in opsets])
def test_older_forms_compute_the_same(case: str, opset: int):
    graph = Graph()
    y = CASES[case][1](graph)
    check(graph.model({"x": ["n", 3, 5, 6]}, [y], opset))


LATER: dict[str, tuple[tuple[int, ...], Build]] = {
    "gelu": ((20, 21, 24), lambda g: g.node("Gelu", "x")),
    "gelu by tanh": ((20, 22), lambda g: g.node("Gelu", "x", approximate="tanh")),
    "group norm of groups": (
        (18, 20),
        lambda g: g.node("GroupNormalization", even(g), g.weight(2), g.weight(2), num_groups=2),
    ),
    "group norm of channels": (
        (21, 23),
        lambda g: g.node("GroupNormalization", even(g), g.weight(6), g.weight(6), num_groups=2),
    ),
    "root mean square norm": ((23, 24), lambda g: g.node("RMSNormalization", "x", g.weight(6), epsilon=1e-3)),
    "swish": ((24,), lambda g: g.node("Swish", "x")),
    "attention": ((23, 24), lambda g: g.node("Attention", "x", "x", g.node("Neg", "x"), is_causal=1)),
    "rotary embedding": (
        (23,),
        lambda g: g.node("RotaryEmbedding", "x", *(g.weight(1, 5, 3) for _ in range(2))),
    ),
    "sampling on a grid": (
        (16, 20, 22),
        lambda g: g.node("GridSample", "x", g.constant(g.random.uniform(-1, 1, (1, 4, 3, 2)).astype(np.float32))),
    ),
    "padding around": ((19, 21), lambda g: g.node("Pad", "x", indices(g, 0, 0, 1, 1, 0, 0, 1, 1), mode="wrap")),
    "symmetric resizing": ((19, 21), lambda g: resize(g, "half_pixel_symmetric", "linear")),
    "average with a ceiling": (
        (19, 22),
        lambda g: g.node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1] * 4),
    ),
}


def even(graph: Graph) -> str:
    return graph.node("Concat", "x", graph.node("Neg", "x"), axis=1)


@pytest.mark.parametrize(("case", "opset"), [(case, opset) for case, (opsets, _) in LATER.items() for opset in opsets])
def test_later_operators_compute_the_same(case: str, opset: int):
    graph = Graph()
    y = LATER[case][1](graph)
    check(graph.model({"x": ["n", 3, 5, 6]}, [y], opset))


def test_gelu_stays_one_node():
    graph = Graph()
    model = check(graph.model({"x": [2, 3]}, [graph.node("Gelu", "x", approximate="tanh")], 22))
    assert operators(model) == ["Gelu"]


def test_a_later_operator_without_a_definition_is_refused():
    graph = Graph()
    y = graph.node("TensorScatter", "x", "x", graph.constant(np.zeros(1, np.int64)))
    with pytest.raises(EdgepruneError) as caught:
        canonicalize(ir.from_proto(graph.model({"x": [1, 3, 5, 6]}, [y], 24)))
    assert caught.value.code == "opset-unsupported"
    assert "operator TensorScatter of node 'TensorScatter' needs opset 24" in str(caught.value)


def network(graph: Graph, opset: int) -> str:
    """One network, with every operator in the form that `opset` has for it."""
    statistics = [graph.positive(4), graph.weight(4), graph.weight(4), graph.positive(4)]
    conv = graph.node("Conv", "x", graph.weight(4, 3, 3, 3), pads=[1] * 4)
    x = graph.node("Relu", graph.node("BatchNormalization", conv, *statistics))
    amounts, bounds = [0, 0, 1, 0, 0, 0, 1, 1], [np.float32(0.1), np.float32(2)]
    x = graph.node("Pad", x, pads=amounts) if opset < 11 else graph.node("Pad", x, indices(graph, *amounts))
    x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[1, 1])
    if opset < 11:
        x = graph.node("Clip", x, min=0.1, max=2.0)
    else:
        x = graph.node("Clip", x, *(graph.constant(bound) for bound in bounds))
    x = enlarged(graph, x, opset)
    if opset < 18:
        x = graph.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    else:
        x = graph.node("ReduceMean", x, indices(graph, 2, 3), keepdims=0)
    if opset < 13:
        x = graph.node("Squeeze", graph.node("Unsqueeze", x, axes=[1]), axes=[1])
    else:
        x = graph.node("Squeeze", graph.node("Unsqueeze", x, indices(graph, 1)), indices(graph, 1))
    x = graph.node("Gemm", graph.node("Dropout", x), graph.weight(4, 5), graph.weight(5))
    return graph.node("Softmax", x, axis=1)


def enlarged(graph: Graph, x: str, opset: int) -> str:
    factors = scales(graph)
    if opset < 9:
        return graph.node("Upsample", x, scales=[1.0, 1.0, 2.0, 3.0], mode="nearest")
    if opset < 10:
        return graph.node("Upsample", x, factors, mode="nearest")
    if opset < 11:
        return graph.node("Resize", x, factors, mode="nearest")
    options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.node("Resize", x, graph.constant(np.zeros(0, np.float32)), factors, mode="nearest", **options)


def test_one_network_means_the_same_in_every_opset():
    feed = np.random.default_rng(2).standard_normal((1, 3, 6, 5)).astype(np.float32)
    results, forms = [], set()
    for opset in (7, 9, 11, 13, 15, 17, 18, 20, 21, 22):
        graph = Graph()
        y = network(graph, opset)
        model = check(graph.model({"x": [1, 3, 6, 5]}, [y], opset))
        results.append(Session(model).run({"x": feed})[y])
        forms.add(tuple(operators(model)))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-6)
    assert len(forms) == 1
