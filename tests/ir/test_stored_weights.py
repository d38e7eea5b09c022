"""Integer weights as real numbers; what canonical form keeps of QDQ."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.execute import Session
from edgeprune.ir.stored_weights import with_real_weights

GENERATOR = np.random.default_rng(0)


def dense(scale: np.ndarray, zero: np.ndarray | None, axis: int) -> ir.Model:
    """x, rounded to 8 bits, times a stored matrix plus a stored bias."""
    constants = {
        "step": np.array(0.05, np.float32),
        "start": np.array(4, np.int8),
        "stored": GENERATOR.integers(-127, 128, (5, 7)).astype(np.int8),
        "scale": scale.astype(np.float32),
        "bias": GENERATOR.integers(-900, 900, 5).astype(np.int32),
        "bias_scale": np.full(5, 0.002, np.float32),
    }
    if zero is not None:
        constants["zero"] = zero.astype(np.int8)
    weight = ["stored", "scale", *(["zero"] if zero is not None else [])]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "start"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "start"], ["r"]),
        helper.make_node("DequantizeLinear", weight, ["w"], axis=axis),
        helper.make_node("DequantizeLinear", ["bias", "bias_scale"], ["b"], axis=0),
        helper.make_node("Gemm", ["r", "w", "b"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 5])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(proto)
    return canonicalize(ir.from_proto(proto))


FORMS = {
    "one scale": (np.array(0.01), None, 0),
    "one scale and zero point": (np.array(0.01), np.array(9), 0),
    "a scale a row": (GENERATOR.uniform(0.001, 0.1, 5), np.zeros(5), 0),
    "a scale and a zero point a column": (GENERATOR.uniform(0.001, 0.1, 7), GENERATOR.integers(-9, 9, 7), -1),
}


@pytest.mark.parametrize("form", FORMS)
def test_real_weights_compute_the_same(form: str):
    model = dense(*FORMS[form])
    real = with_real_weights(model)
    assert [node.op_type for node in real.graph] == ["QuantizeLinear", "DequantizeLinear", "Gemm"]
    row = {"x": GENERATOR.standard_normal((3, 7)).astype(np.float32)}
    np.testing.assert_allclose(Session(real).run(row)["y"], Session(model).run(row)["y"], rtol=1e-5, atol=1e-5)


def test_the_model_itself_keeps_its_integers_and_its_bias():
    model = dense(*FORMS["a scale a row"])
    before = [node.op_type for node in model.graph]
    assert before.count("DequantizeLinear") == 3
    assert "Add" not in before
    with_real_weights(model)
    assert [node.op_type for node in model.graph] == before
    assert with_real_weights(with_real_weights(model)) is not model


def test_an_output_that_is_a_stored_constant_stays():
    node = helper.make_node("DequantizeLinear", ["stored", "scale"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    constants = [
        numpy_helper.from_array(np.array([1, -3], np.int8), "stored"),
        numpy_helper.from_array(np.array(0.5, np.float32), "scale"),
    ]
    graph = helper.make_graph([node], "g", inputs, outputs, constants)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    assert with_real_weights(model) is model
