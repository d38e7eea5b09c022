"""Weights in the [groups, taps, in, out] layout: against convolutions written out with numpy, and round trips."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edgeprune.errors import EdgepruneError
from edgeprune.ir.weights import output_positions, read_bias, read_weight, weighted_layers, write_weight


def model_of(op, x_shape, weight, *, bias=None, y_shape=None, dtype=np.float32, **attributes):
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=x_shape)
    y = ir.val("y", dtype=ir.DataType.FLOAT, shape=y_shape)
    constants = [ir.val("w", const_value=ir.tensor(weight.astype(dtype), name="w"))]
    if bias is not None:
        constants.append(ir.val("b", const_value=ir.tensor(bias.astype(dtype), name="b")))
    node = ir.node(op, [x, *constants], attributes, outputs=[y], name="layer")
    graph = ir.Graph([x], [y], nodes=[node], initializers=constants, opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=9)


def run(model, x):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def convolve(x, weight, groups, kernel, dilation):
    """A stride-1 unpadded convolution of one image [C, *spatial] with weight [groups, taps, in, out]."""
    spatial = x.shape[1:]
    size = [n - d * (k - 1) for n, k, d in zip(spatial, kernel, dilation, strict=True)]
    inputs = x.shape[0] // groups
    result = np.zeros((groups, weight.shape[3], *size))
    for g in range(groups):
        image = x[g * inputs : (g + 1) * inputs]
        for tap, position in enumerate(np.ndindex(*kernel)):
            window = tuple(slice(p * d, p * d + n) for p, d, n in zip(position, dilation, size, strict=True))
            result[g] += np.tensordot(weight[g, tap].T, image[(slice(None), *window)], axes=1)
    return result.reshape(-1, *size)


CONVOLUTIONS = [
    # outputs, inputs, groups, kernel, dilation, kind
    (5, 3, 1, (3, 2), (1, 1), "conv"),
    (6, 4, 2, (2, 3), (2, 1), "conv"),
    (6, 3, 3, (3, 3), (1, 2), "depthwise"),
    (4, 4, 4, (1, 1), (1, 1), "depthwise"),
    (7, 2, 1, (3,), (2,), "conv"),
    (4, 4, 4, (5,), (1,), "depthwise"),
    (3, 1, 1, (2, 2), (1, 1), "conv"),
]


@pytest.mark.parametrize(("outputs", "inputs", "groups", "kernel", "dilation", "kind"), CONVOLUTIONS)
def test_convolution_layout_computes_what_onnx_computes(outputs, inputs, groups, kernel, dilation, kind):
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((outputs, inputs // groups, *kernel))
    x = rng.standard_normal((1, inputs, *[9] * len(kernel))).astype(np.float32)
    model = model_of("Conv", list(x.shape), weight, group=groups, dilations=list(dilation))
    (layer,) = weighted_layers(model)
    array = read_weight(layer)
    assert layer.kind == kind
    assert array.shape == (groups, int(np.prod(kernel)), inputs // groups, outputs // groups)
    np.testing.assert_allclose(run(model, x)[0], convolve(x[0], array, groups, kernel, dilation), atol=1e-4)


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_linear_layout_computes_what_onnx_computes(op):
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((7, 5)).astype(np.float32)
    x = rng.standard_normal((3, 7)).astype(np.float32)
    model = model_of("Gemm", [3, 7], matrix.T, transB=1) if op == "Gemm" else model_of("MatMul", [3, 7], matrix)
    (layer,) = weighted_layers(model)
    assert layer.kind == "linear"
    np.testing.assert_allclose(run(model, x), x @ read_weight(layer)[0, 0], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("outputs", "inputs", "groups", "kernel", "dilation", "kind"), CONVOLUTIONS)
def test_written_weight_is_read_back_and_keeps_onnx_shape_and_dtype(
    outputs, inputs, groups, kernel, dilation, kind, dtype
):
    rng = np.random.default_rng(3)
    weight = rng.integers(-9, 9, (outputs, inputs // groups, *kernel)).astype(dtype)
    (layer,) = weighted_layers(model_of("Conv", [1, inputs, *[9] * len(kernel)], weight, group=groups, dtype=dtype))
    array = read_weight(layer)
    write_weight(layer, array)
    np.testing.assert_array_equal(layer.weight.const_value.numpy(), weight)
    write_weight(layer, 2 * array)
    assert layer.weight.const_value.numpy().dtype == dtype
    np.testing.assert_array_equal(layer.weight.const_value.numpy(), 2 * weight)
    np.testing.assert_array_equal(read_weight(layer), 2 * array)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_round_trip_in_both_orders(transposed):
    weight = np.arange(12.0).reshape(3, 4)
    (layer,) = weighted_layers(model_of("Gemm", None, weight, transB=transposed))
    write_weight(layer, read_weight(layer) + 1)
    np.testing.assert_array_equal(layer.weight.const_value.numpy(), weight + 1)


def test_array_of_another_shape_is_refused():
    (layer,) = weighted_layers(model_of("Conv", None, np.zeros((4, 3, 2, 2))))
    with pytest.raises(ValueError, match="layer"):
        write_weight(layer, np.zeros((1, 2, 3, 8)))


def test_weights_that_are_computed_or_not_matrices_are_no_layers():
    assert weighted_layers(model_of("MatMul", None, np.zeros((2, 3, 4)))) == []
    model = model_of("MatMul", None, np.zeros((3, 4)))
    model.graph.node(0).inputs[1].const_value = None
    assert weighted_layers(model) == []


def test_bias_and_output_positions():
    rng = np.random.default_rng(4)
    bias = rng.standard_normal(6)
    (layer,) = weighted_layers(model_of("Conv", None, np.zeros((6, 2, 3, 3)), bias=bias, y_shape=[1, 6, 5, 7]))
    np.testing.assert_allclose(read_bias(layer), bias, rtol=1e-6)
    assert output_positions(layer) == 35
    (layer,) = weighted_layers(model_of("MatMul", None, np.zeros((2, 3)), y_shape=[2, 4, 3]))
    np.testing.assert_array_equal(read_bias(layer), np.zeros(3))
    assert output_positions(layer) == 8


def test_zero_group_and_kernel_order_of_a_small_example():
    weight = np.arange(16).reshape(2, 2, 2, 2)
    (layer,) = weighted_layers(model_of("Conv", None, weight))
    assert read_weight(layer)[0, 1].tolist() == [[1, 9], [5, 13]]


@pytest.mark.parametrize(
    ("op", "x_shape", "weight_shape", "attributes"),
    [
        ("Conv", [1, 8, 5, 5], (4, 7, 3, 3), {}),
        ("Conv", [1, 8, 5, 5], (4, 8, 3, 3), {"group": 2}),
        ("Gemm", [2, 8], (4, 7), {"transB": 1}),
        ("MatMul", [2, 8], (7, 4), {}),
    ],
)
def test_a_weight_that_does_not_fit_its_input_is_refused(op, x_shape, weight_shape, attributes):
    with pytest.raises(EdgepruneError) as caught:
        weighted_layers(model_of(op, x_shape, np.zeros(weight_shape), **attributes))
    assert caught.value.code == "model-corrupt"
    assert "layer" in caught.value.where
