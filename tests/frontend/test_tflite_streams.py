"""Recurrent and streaming TFLite operators against LiteRT, over several inferences where they remember."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tflite_writer import Writer

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load
from edgeprune.frontend.tflite.load import load_tflite
from edgeprune.ir.execute import Session

RNG = np.random.default_rng(11)
STEPS, BATCH, INPUTS, UNITS = 6, 1, 5, 4
TANH = schema.ActivationFunctionType.TANH


def interpreter_of(content: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter


def lstm(*, time_major: bool = False, clip: float = 10.0, weight: str = "float32", batch: int = BATCH) -> bytes:
    writer = Writer()
    shape = (STEPS, batch, INPUTS) if time_major else (batch, STEPS, INPUTS)
    source, result = writer.tensor(shape), writer.tensor((*shape[:2], UNITS))

    def matrix(columns: int) -> int:
        array = RNG.normal(0, 0.8, (UNITS, columns))
        if weight == "float32":
            return writer.constant(array.astype(np.float32))
        return writer.constant(np.clip(np.round(array / 0.02), -127, 127).astype(np.int8), (0.02, 0))

    weights = [matrix(INPUTS) for _ in range(4)] + [matrix(UNITS) for _ in range(4)]
    biases = [writer.constant(RNG.normal(0, 0.3, UNITS).astype(np.float32)) for _ in range(4)]
    states = [writer.tensor((batch, UNITS), variable=True) for _ in range(2)]
    reads = [source, *weights, -1, -1, -1, *biases, -1, -1, *states, -1, -1, -1, -1]
    fields = {"fusedActivationFunction": TANH, "cellClip": clip, "projClip": 0.0, "timeMajor": time_major}
    writer.node("UNIDIRECTIONAL_SEQUENCE_LSTM", reads, [result], "UnidirectionalSequenceLSTMOptions", fields)
    return writer.finish([source], [result])


@pytest.mark.parametrize(
    ("form", "operator"),
    [({}, "LSTM"), ({"time_major": True, "batch": 3}, "LSTM"), ({"batch": 2}, "LSTM"), ({"clip": 0.2}, "Gemm")],
)
def test_lstm(tmp_path: Path, form: dict, operator: str):
    content = lstm(**form)
    (tmp_path / "model.tflite").write_bytes(content)
    model, interpreter = load_tflite(tmp_path / "model.tflite"), interpreter_of(content)
    assert operator in [node.op_type for node in model.graph]
    (port,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    row = RNG.normal(0, 2, port["shape"]).astype(np.float32)
    interpreter.set_tensor(port["index"], row)
    interpreter.invoke()
    found = Session(model).run({port["name"]: row})[output["name"]]
    np.testing.assert_allclose(found, interpreter.get_tensor(output["index"]), atol=1e-5)


def test_lstm_of_eight_bit_weights_keeps_them(tmp_path: Path):
    (tmp_path / "model.tflite").write_bytes(lstm(weight="int8"))
    model = load_tflite(tmp_path / "model.tflite")
    (node,) = [node for node in model.graph if node.op_type == "LSTM"]
    for weight in node.inputs[1:3]:
        stored = weight.producer().inputs[0].const_value
        assert stored.dtype.numpy() == np.int8
        assert stored.shape[1] == 4 * UNITS


@pytest.mark.parametrize("rank", [1, 2])
def test_svdf_remembers(tmp_path: Path, rank: int):
    writer, filters, length = Writer(), 6, 4
    source, result = writer.tensor((2, INPUTS), name="x"), writer.tensor((2, filters // rank), name="y")
    weights = [writer.constant(RNG.standard_normal((filters, size)).astype(np.float32)) for size in (INPUTS, length)]
    bias = writer.constant(RNG.standard_normal(filters // rank).astype(np.float32))
    memory = writer.tensor((2, filters * length), name="memory", variable=True)
    options = {"rank": rank, "fusedActivationFunction": schema.ActivationFunctionType.RELU}
    writer.node("SVDF", [source, *weights, bias, memory], [result], "SVDFOptions", options)
    content = writer.finish([source], [result])
    (tmp_path / "model.tflite").write_bytes(content)
    session, interpreter = Session(load_tflite(tmp_path / "model.tflite")), interpreter_of(content)
    assert [spec.name for spec in session.specs] == ["x", "memory"]
    assert session.outputs == ["y", "memory_next"]
    held = np.zeros((2, filters * length), np.float32)
    for _ in range(2 * length):
        row = RNG.standard_normal((2, INPUTS)).astype(np.float32)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row)
        interpreter.invoke()
        found = session.run({"x": row, "memory": held})
        held = found["memory_next"]
        wanted = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(found["y"], wanted, atol=1e-5)


def test_variables_of_a_real_stream(data_dir: Path):
    path = data_dir / "models/microwakeword/okay_nabu.tflite"
    session, interpreter = Session(load(path)), interpreter_of(path.read_bytes())
    (port,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    held = {spec.name: np.zeros(spec.shape, np.float32) for spec in session.specs if spec.name != port["name"]}
    assert set(session.outputs) == {output["name"], *(f"{name}_next" for name in held)}
    (scale, zero), wanted, found = port["quantization"], [], []
    for step in range(30):
        stored = RNG.integers(-128, 128, port["shape"]).astype(np.int8) if step % 2 else np.full(port["shape"], 127)
        interpreter.set_tensor(port["index"], stored.astype(np.int8))
        interpreter.invoke()
        wanted.append(int(interpreter.get_tensor(output["index"])[0, 0]))
        result = session.run({port["name"]: ((stored - zero) * scale).astype(np.float32), **held})
        found.append(round(float(result[output["name"]][0, 0]) * 256))
        held = {name: result[f"{name}_next"] for name in held}
    assert max(wanted) > 0
    np.testing.assert_array_equal(found, wanted)


def test_variables_that_do_not_start_at_zero(tmp_path: Path, data_dir: Path):
    content = (data_dir / "models/microwakeword/okay_nabu.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    tensor = model.subgraphs[1].tensors[model.subgraphs[1].operators[1].inputs[1]]
    model.buffers[tensor.buffer].data = np.full(len(model.buffers[tensor.buffer].data), 5, np.uint8)
    writer = Writer()
    writer.model = model
    (tmp_path / "model.tflite").write_bytes(writer.finish(model.subgraphs[0].inputs, model.subgraphs[0].outputs))
    with pytest.raises(EdgepruneError) as caught:
        load_tflite(tmp_path / "model.tflite")
    assert caught.value.code == "op-unsupported"
    assert "variables that do not start at zero" in str(caught.value)
