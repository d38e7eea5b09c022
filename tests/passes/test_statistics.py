"""Moments of a layer: a fit to ONNX Runtime's own outputs must give the weights back."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.statistics import gather_statistics


def model_of(op, x_shape, y_shape, weight, bias=None, **attributes):
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=x_shape)
    y = ir.val("y", dtype=ir.DataType.FLOAT, shape=y_shape)
    arrays = {"w": weight} | ({} if bias is None else {"b": bias})
    constants = [ir.val(name, const_value=ir.tensor(array, name=name)) for name, array in arrays.items()]
    node = ir.node(op, [x, *constants], attributes, outputs=[y], name="layer")
    graph = ir.Graph([x], [y], nodes=[node], initializers=constants, opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=9)


def observed(model, shape, rows, seed):
    """Random inputs with a mean and what ONNX Runtime makes of them, rows first."""
    inputs = np.random.default_rng(seed).standard_normal((rows, *shape)).astype(np.float32) + 1
    session = Session(model)
    return inputs, np.stack([session.run({"x": row})["y"] for row in inputs])


CASES = [
    # op, input, output, weight, attributes
    ("Conv", (1, 3, 7, 6), (1, 5, 5, 5), (5, 3, 3, 2), {}),
    ("Conv", (1, 4, 9, 8), (1, 6, 5, 3), (6, 2, 2, 3), {"group": 2, "strides": [2, 3], "pads": [1, 0, 1, 2]}),
    ("Conv", (2, 3, 8, 8), (2, 6, 6, 10), (6, 1, 3, 2), {"group": 3, "dilations": [2, 1], "pads": [1, 2, 1, 1]}),
    ("Conv", (1, 2, 11), (1, 3, 4), (3, 2, 4), {"strides": [2], "pads": [0, 0], "dilations": [1]}),
    ("Gemm", (2, 6), (2, 3), (3, 6), {"transB": 1}),
    ("MatMul", (1, 4, 5), (1, 4, 3), (5, 3), {}),
]


@pytest.mark.parametrize(("op", "x_shape", "y_shape", "w_shape", "attributes"), CASES)
def test_fit_gives_weights_and_bias_back(op, x_shape, y_shape, w_shape, attributes):
    rng = np.random.default_rng(1)
    bias = None if op == "MatMul" else rng.standard_normal(w_shape[0]).astype(np.float32)
    model = model_of(op, x_shape, y_shape, rng.standard_normal(w_shape).astype(np.float32), bias, **attributes)
    (layer,) = weighted_layers(model)
    inputs, outputs = observed(model, x_shape, 40, 2)
    options = {"bias": bias is not None, "positions": 10**6, "generator": rng}
    found = gather_statistics(layer, inputs, outputs, **options)
    assert found.count == outputs.size // (layer.groups * found.mean_out.shape[1])
    fitted = np.linalg.solve(found.second, found.cross)
    np.testing.assert_allclose(fitted.reshape(read_weight(layer).shape), read_weight(layer), atol=2e-4)
    if bias is not None:
        means = found.mean_out - np.einsum("gf,gfo->go", found.mean_in, fitted)
        np.testing.assert_allclose(means.reshape(-1), bias, atol=1e-3)
    assert abs(found.error(fitted)) < 1e-5
    assert found.error(0 * fitted) == pytest.approx(1)


def test_error_is_that_of_the_outputs():
    rng = np.random.default_rng(3)
    model = model_of("MatMul", (1, 6), (1, 4), rng.standard_normal((6, 4)).astype(np.float32))
    (layer,) = weighted_layers(model)
    inputs, outputs = observed(model, (1, 6), 50, 4)
    found = gather_statistics(layer, inputs, outputs, bias=False, positions=99, generator=rng)
    other = rng.standard_normal((6, 4))
    expected = np.sum((inputs[:, 0] @ other - outputs[:, 0]) ** 2) / np.sum(outputs**2)
    assert found.error(other[None]) == pytest.approx(expected, rel=1e-4)


def test_no_more_positions_than_asked_and_the_same_for_a_seed():
    model = model_of("Conv", (1, 2, 80, 80), (1, 3, 80, 80), np.ones((3, 2, 1, 1), np.float32))
    (layer,) = weighted_layers(model)
    inputs, outputs = observed(model, (1, 2, 80, 80), 2, 5)
    first, again = (
        gather_statistics(layer, inputs, outputs, bias=True, positions=5000, generator=np.random.default_rng(7))
        for _ in range(2)
    )
    assert first.count == 5000
    np.testing.assert_array_equal(first.second, again.second)
    whole = gather_statistics(layer, inputs, outputs, bias=True, positions=10**6, generator=np.random.default_rng(7))
    np.testing.assert_allclose(first.second, whole.second, atol=0.1)
