"""Every operator of the TFLite front end against LiteRT."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert.interpreter import Interpreter
from tflite_cases import CASES, Case
from tflite_writer import Writer

from edgeprune.frontend.tflite.load import load_tflite
from edgeprune.frontend.tflite.table import CONVERTERS
from edgeprune.ir.execute import Session

ELSEWHERE = {
    "ASSIGN_VARIABLE", "CALL_ONCE", "DENSIFY", "QUANTIZE", "READ_VARIABLE", "SPLIT", "SPLIT_V", "SVDF", "TOPK_V2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK", "VAR_HANDLE",
}  # fmt: skip
"""Operators with several outputs, or with a memory: other tests have them."""


def test_every_operator_has_a_case():
    assert {case.op for case in CASES} | ELSEWHERE == set(CONVERTERS)
    assert list(CONVERTERS) == sorted(CONVERTERS)


def model_of(case: Case) -> bytes:
    """The operator alone; where everything it reads is constant, the result is added to an input."""
    writer = Writer()
    inputs, reads = [], []
    for value in case.inputs:
        if isinstance(value, tuple):
            kind = value[-1] if isinstance(value[-1], str) else "float32"
            inputs.append(writer.tensor([size for size in value if not isinstance(size, str)], kind.upper()))
            reads.append(inputs[-1])
        else:
            reads.append(writer.constant(value))
    output = writer.tensor(case.output, case.kind)
    writer.node(case.op, reads, [output], case.options, case.fields)
    if inputs:
        return writer.finish(inputs, [output])
    other, total = (writer.tensor(case.output, case.kind) for _ in range(2))
    writer.node("ADD", [other, output], [total], "AddOptions")
    return writer.finish([other], [total])


def random_feed(port: dict, case: Case, generator: np.random.Generator) -> np.ndarray:
    values = generator.uniform(case.low, case.high, port["shape"])
    return (
        (values > 0)
        if port["dtype"] == np.bool_
        else np.floor(values).astype(port["dtype"])
        if (port["dtype"] != np.float32)
        else values.astype(np.float32)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_operator_agrees(tmp_path: Path, case: Case):
    content, generator = model_of(case), np.random.default_rng(0)
    (tmp_path / "model.tflite").write_bytes(content)
    session = Session(load_tflite(tmp_path / "model.tflite"))
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for _ in range(2):
        feeds = {port["name"]: random_feed(port, case, generator) for port in interpreter.get_input_details()}
        for port in interpreter.get_input_details():
            interpreter.set_tensor(port["index"], feeds[port["name"]])
        interpreter.invoke()
        (output,) = interpreter.get_output_details()
        wanted = interpreter.get_tensor(output["index"])
        found = session.run({name: feeds[name] for name in (spec.name for spec in session.specs)})[output["name"]]
        assert found.shape == wanted.shape
        assert found.size == math.prod(case.output)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
