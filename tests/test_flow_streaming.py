"""A real wake word model of TFLite, whose variables the package keeps, on an emulated microcontroller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune import flow
from edgeprune.compiled import Package
from edgeprune.options import Options

pytest.importorskip("ai_edge_litert")

from ai_edge_litert.interpreter import Interpreter, OpResolverType

BOARD, STEPS = "emulated-m4", 30


def litert(path: Path, rows: np.ndarray) -> np.ndarray:
    """Real outputs of LiteRT's reference kernels, which keep the variables themselves, for real `rows` in order."""
    resolver = OpResolverType.BUILTIN_REF
    interpreter = Interpreter(model_content=path.read_bytes(), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    (port,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    (scale, zero), (step, start), found = port["quantization"], output["quantization"], []
    for row in rows:
        stored = np.clip(np.round(row / np.float32(scale)) + zero, -128, 127)
        interpreter.set_tensor(port["index"], stored.astype(np.int8))
        interpreter.invoke()
        found.append((interpreter.get_tensor(output["index"]).astype(np.float32) - start) * np.float32(step))
    return np.stack(found)


def test_a_wake_word_is_heard_as_by_litert(data_dir: Path, tmp_path: Path):
    path = data_dir / "models/microwakeword/okay_nabu.tflite"
    options = Options(dense=True, random_calibration=True)
    flow.compile(path, target="cortex-m4", board=BOARD, output=tmp_path / "nabu.edge", options=options)
    with Package.open(tmp_path / "nabu.edge") as package:
        (port,), states, (result,) = package.inputs, package.manifest.states, package.manifest.outputs
        assert len(states) == 6 and {state.stored.dtype for state in states if state.stored} == {"int8"}
    rows = np.random.default_rng(6).uniform(0, 26, (STEPS, *port.shape)).astype(np.float32)
    rows[::2] = 26
    np.savez(tmp_path / "in.npz", **{port.name: rows})
    flow.run(tmp_path / "nabu.edge", tmp_path / "in.npz", tmp_path / "out.npz", board=BOARD)
    with np.load(tmp_path / "out.npz") as found:
        wanted = litert(path, rows)
        assert wanted.any()
        np.testing.assert_array_equal(found[result.name].reshape(-1), wanted.reshape(-1))
