"""Grids and stored integers against ONNX Runtime's own QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import warnings

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import EdgepruneError
from edgeprune.ir.execute import Session
from edgeprune.ir.quantization import (
    Grid,
    StoredTensor,
    activation_grids,
    check_quantization,
    grid_between,
    grid_of,
    is_quantized,
    read_stored,
    write_pair,
    write_stored,
)


def relu(size: int = 40) -> ir.Model:
    """y = relu(x)."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, size])
    y = ir.val("y", dtype=ir.DataType.FLOAT, shape=[1, size])
    node = ir.node("Relu", [x], outputs=[y], name="relu")
    return ir.Model(ir.Graph([x], [y], nodes=[node], opset_imports={"": 20}, name="g"), ir_version=10)


def pair(model: ir.Model, grid: Grid) -> None:
    x, node = model.graph.inputs[0], next(iter(model.graph))
    write_pair(model.graph, x, grid, [(node, 0)])


@settings(max_examples=40)
@given(
    low=st.floats(-1e4, 1e4, width=32),
    high=st.floats(-1e4, 1e4, width=32),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_grid_is_what_onnx_runtime_computes(low: float, high: float, seed: int, scale: float) -> None:
    grid = grid_between(low, high)
    model = relu()
    pair(model, grid)
    x = (np.random.default_rng(seed).standard_normal((1, 40)) * scale).astype(np.float32)
    found = Session(model).run({"x": x})["y"]
    np.testing.assert_array_equal(found, np.maximum(grid.rounded(x), 0))


@given(low=st.floats(-1e30, 1e30), high=st.floats(-1e30, 1e30))
def test_grid_holds_zero_and_its_ends(low: float, high: float) -> None:
    grid = grid_between(min(low, high), max(low, high))
    assert grid.rounded(np.zeros(1))[0] == 0
    assert 0 <= grid.zero <= 255
    assert 0 < grid.scale < np.inf
    ends = np.array([min(low, high, 0), max(low, high, 0)])
    step = max(grid.scale, 1e-6 * np.abs(ends).max())
    assert np.abs(grid.rounded(ends) - ends).max() <= 1.01 * step


def test_constant_zero_has_a_step_of_one_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grid_between(0.0, 0.0) == Grid(1.0, 0)
        assert grid_between(3.0, 3.0).rounded(np.array([3.0]))[0] == 3.0
        tiny = grid_between(0.0, 1e-45)
        assert np.isfinite(np.float32(1) / np.float32(tiny.scale))


def test_pairs_are_found_again() -> None:
    model = relu()
    assert not is_quantized(model)
    pair(model, Grid(0.5, 3, "int8"))
    assert is_quantized(model)
    assert activation_grids(model) == {"x": Grid(0.5, 3, "int8")}
    node = next(node for node in model.graph if node.op_type == "Relu")
    assert grid_of(node.inputs[0]) == Grid(0.5, 3, "int8")
    assert grid_of(node.outputs[0]) is None


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("zero", [False, True])
def test_stored_tensors_are_found_again_and_mean_what_onnx_says(axis: int, zero: bool) -> None:
    rng = np.random.default_rng(axis)
    integers = rng.integers(-127, 128, (5, 7)).astype(np.int8)
    size = integers.shape[axis]
    starts = rng.integers(-9, 9, size).astype(np.int8) if zero else np.zeros(1, np.int8)
    tensor = StoredTensor(integers, rng.uniform(0.01, 1, size).astype(np.float32), starts, axis)
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, 5])
    y = ir.val("y", dtype=ir.DataType.FLOAT, shape=[1, 7])
    held = ir.val("w", const_value=ir.tensor(np.zeros((5, 7), np.float32), name="w"))
    node = ir.node("MatMul", [x, held], outputs=[y], name="product")
    graph = ir.Graph([x], [y], nodes=[node], initializers=[held], opset_imports={"": 20}, name="g")
    node.replace_input_with(1, write_stored(graph, "w", tensor, node))
    found = read_stored(node.inputs[1])
    assert found is not None
    np.testing.assert_array_equal(found.integers, integers)
    rows = np.eye(5, dtype=np.float32)
    session = Session(ir.Model(graph, ir_version=10))
    real = np.concatenate([session.run({"x": row[None]})["y"] for row in rows])
    np.testing.assert_array_equal(real, tensor.real())
    np.testing.assert_array_equal(found.real(), tensor.real())


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_scales_that_mean_nothing_are_refused(scale: float) -> None:
    model = relu()
    pair(model, Grid(0.5))
    check_quantization(model)
    held = model.graph.initializers["x_scale"]
    held.const_value = ir.tensor(np.array(scale, np.float32), name="x_scale")
    with pytest.raises(EdgepruneError) as caught:
        check_quantization(model)
    assert caught.value.code == "quantization-invalid"
    assert f"QuantizeLinear has the scale {scale:g}" in str(caught.value)
    assert "node 'x_quantize'" in str(caught.value)
