from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.data import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.execute import Session

TEXT = """<ir_version: 8, opset_import: ["": 18]>
g (float[1, 3] x, float[2, 1, 4] state) => (float[1, 3] y, float[2, 1, 4] next) { y = Relu(x)  next = Neg(state) }"""


@pytest.fixture
def session() -> Session:
    return Session(ir.from_proto(onnx.parser.parse_model(TEXT)))


def test_one_inference_by_name(session: Session):
    x = np.array([[-1, 0, 2]], np.float32)
    outputs = session.run({"state": np.ones((2, 1, 4), np.float32), "x": x})
    assert list(outputs) == ["y", "next"]
    np.testing.assert_array_equal(outputs["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(outputs["next"], -np.ones((2, 1, 4)))


def test_rows_are_stacked(session: Session):
    random = np.random.default_rng(0)
    x, state = (
        random.standard_normal((5, 3)).astype(np.float32),
        random.standard_normal((5, 2, 1, 4)).astype(np.float32),
    )
    outputs = session.run_rows(Samples({"x": x, "state": state}))
    np.testing.assert_array_equal(outputs["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(outputs["next"], -state)
    assert session.run_rows(Samples({"x": x[:0], "state": state[:0]})) == {}


@pytest.mark.parametrize(
    ("feed", "what"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.zeros((2, 3), np.float32)}, "input 'x' has shape (2, 3), the model takes (1, 3)"),
        ({"x": np.zeros((1, 3))}, "input 'x' is float64, the model takes float32"),
    ],
)
def test_inputs_that_do_not_fit(session: Session, feed: dict, what: str):
    with pytest.raises(EdgepruneError) as caught:
        session.run({"state": np.zeros((2, 1, 4), np.float32), **feed})
    assert str(caught.value) == f"{what} [input-mismatch]\n  where: input 'x'"


def test_a_model_that_cannot_run():
    model = ir.from_proto(onnx.parser.parse_model(TEXT.replace("Relu", "Nothing")))
    with pytest.raises(EdgepruneError) as caught:
        Session(model)
    assert caught.value.code == "model-not-runnable"
    assert "Nothing" in caught.value.hint
