"""LSTMs of integers that are written out step by step become one kernel, which computes what LiteRT does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from library_runner import Context, build, load

pytest.importorskip("ai_edge_litert")
sys.path.insert(0, str(Path(__file__).parents[1] / "frontend"))

from ai_edge_litert.interpreter import Interpreter, OpResolverType
from integer_lstm import integer_lstm

from edgeprune import flow
from edgeprune.ir.written_lstm import LSTM_KEY, written_lstms
from edgeprune.lowering.lower import lower
from edgeprune.road.twin import twin_target
from edgeprune.target import Target, load_target

FORMS = {
    "one": {"batch": 1},
    "batch": {"batch": 3},
    "time first": {"batch": 2, "time_major": True},
    "last step": {"batch": 1, "last": True},
    "clipped and coarse": {"batch": 1, "clip": 0.5, "cell": -11},
}


def loaded(folder: Path, content: bytes) -> ir.Model:
    (folder / "model.tflite").write_bytes(content)
    return flow.load_model(folder / "model.tflite")


def reference(content: bytes, rows: np.ndarray) -> np.ndarray:
    """Real outputs of LiteRT's reference kernels, each row from a state of zero."""
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    (port,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = port["quantization"]
    found = []
    for row in rows:
        interpreter.reset_all_variables()
        stored = np.clip(np.round(row / np.float32(scale)) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(port["index"], stored)
        interpreter.invoke()
        step, start = output["quantization"]
        found.append((interpreter.get_tensor(output["index"]).astype(np.int32) - start) * np.float32(step))
    return np.stack(found).astype(np.float32)


def lowered(model: ir.Model, target: Target) -> tuple[list[str], Context]:
    plan = lower(model, target)
    kernels = [step.layer.kernel for step in plan.steps if hasattr(step, "layer")]
    return kernels, Context(load(build(plan, target).so), plan.inputs, plan.outputs)


@pytest.mark.parametrize("form", FORMS)
def test_as_litert(tmp_path: Path, form: str) -> None:
    content = integer_lstm(3, inputs=6, units=7, **FORMS[form]).content
    model = loaded(tmp_path, content)
    fixed = lowered(model, twin_target(load_target("cortex-m4")))
    for kernels, context in (fixed, lowered(model, load_target("host"))):
        compare(kernels, context, content)


def compare(kernels: list[str], context: Context, content: bytes) -> None:
    assert "fixed lstm" in kernels and set(kernels) <= {"fixed lstm", "elementwise", "move", "copy"}, kernels
    (port,) = context.inputs
    rows = np.random.default_rng(3).normal(0, 1, (20, *port.shape)).astype(np.float32)
    found = np.stack([context.run({port.name: row})[context.outputs[0].name] for row in rows])
    np.testing.assert_array_equal(found, reference(content, rows))


def test_what_was_changed_stays_written_out(tmp_path: Path) -> None:
    model = loaded(tmp_path, integer_lstm(3, 1, 4, 4).content)
    assert len(written_lstms(model)) == 1
    noted = [node for node in model.graph if LSTM_KEY in node.metadata_props]
    loads = [node for node in noted if node.op_type == "DequantizeLinear"]
    scale = next(node.inputs[1] for node in loads if node.inputs[0].const_value is not None)
    rows = np.arange(1, scale.const_value.size + 1, dtype=np.float32)
    scale.const_value = ir.tensor(scale.const_value.numpy() * rows)
    assert written_lstms(model) == []
