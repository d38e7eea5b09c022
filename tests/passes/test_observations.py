"""Drawn positions: a fit to ONNX Runtime's own outputs must give the weights back; errors behind a rectifier."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.observations import HELD_EVERY, Observations, observe
from edgeprune.passes.statistics import input_moments, target_moments


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
    fit, judge = observe(layer, inputs, outputs, None, positions=10**6, generator=rng)
    assert fit.count + judge.count == outputs.size // (layer.groups * fit.targets.shape[2])
    assert fit.count == (HELD_EVERY - 1) * judge.count
    seen = input_moments(fit, centred=bias is not None)
    given = target_moments(fit, seen)
    fitted = np.linalg.solve(seen.second, given.cross)
    np.testing.assert_allclose(fitted.reshape(read_weight(layer).shape), read_weight(layer), atol=5e-4)
    means = given.mean[:, None] - seen.mean[:, None] @ fitted
    if bias is not None:
        np.testing.assert_allclose(means.reshape(-1), bias, atol=2e-3)
    assert judge.error(fitted, means) < 1e-5
    assert judge.error(0 * fitted) == pytest.approx(np.mean(judge.targets**2), rel=1e-4)


def test_rows_to_judge_by_are_not_fitted_on():
    model = model_of("MatMul", (1, 4, 1), (1, 4, 1), np.ones((1, 1), np.float32))
    (layer,) = weighted_layers(model)
    inputs = np.repeat(np.arange(20, dtype=np.float32), 4).reshape(20, 1, 4, 1)
    generator = np.random.default_rng(0)
    fit, judge = observe(layer, inputs, inputs, None, positions=999, generator=generator)
    assert set(np.unique(judge.inputs)) == {7, 15}
    assert set(np.unique(fit.inputs)) == set(range(20)) - {7, 15}
    fit, judge = observe(layer, inputs[:3], inputs[:3], None, positions=999, generator=generator)
    assert set(np.unique(judge.inputs)) == {2}
    fit, judge = observe(layer, inputs[:1], inputs[:1], None, positions=999, generator=generator)
    assert fit.count == judge.count == 4


def test_positions_are_limited_and_the_same_for_a_seed():
    model = model_of("Conv", (1, 2, 80, 80), (1, 3, 80, 80), np.ones((3, 2, 1, 1), np.float32))
    (layer,) = weighted_layers(model)
    inputs, outputs = observed(model, (1, 2, 80, 80), 8, 5)
    first, again = (
        observe(layer, inputs, outputs, None, positions=7000, generator=np.random.default_rng(7))[0] for _ in range(2)
    )
    assert first.count == pytest.approx(7000, rel=0.05)
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert not np.array_equal(first.inputs[:, :50], first.inputs[:, 50:100])


def rectified(seed):
    rng = np.random.default_rng(seed)
    x, z, floor = (rng.standard_normal((2, 5000, size)).astype(np.float32) for size in (5, 3, 3))
    return Observations(x, z, floor), rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 1, 3))


def test_error_is_that_behind_the_rectifier():
    observed, weights, bias = rectified(0)
    other = -observed.floor
    found = np.maximum(observed.inputs @ weights + bias + other, 0)
    wanted = np.maximum(observed.targets + other, 0)
    assert observed.error(weights, bias) == pytest.approx(np.mean((found - wanted) ** 2), rel=1e-4)


def test_attainable_targets_bound_the_error_closer_than_the_targets():
    observed, weights, bias = rectified(1)
    nearer = Observations(observed.inputs, observed.attainable(weights, bias))
    unrectified = Observations(observed.inputs, observed.targets)
    assert observed.error(weights, bias) <= nearer.error(weights, bias) <= unrectified.error(weights, bias)
    for seed in range(5):
        other = weights + np.random.default_rng(seed).standard_normal(weights.shape)
        assert nearer.error(other, bias) >= observed.error(other, bias)
