"""Real TFLite models against LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session

litert = pytest.importorskip("ai_edge_litert.interpreter")

FLOAT = {
    "mlperf_tiny/ic_resnet8_float.tflite": 1e-4,
    "mlperf_tiny/vww_mbv1_025_float.tflite": 1e-4,
    "gesture/keypoint_classifier.tflite": 1e-4,
    "ultraface/version-RFB-320_without_postprocessing.tflite": 1e-4,
    "mlperf_tiny/kws_dscnn_float.tflite": 0.02,  # weights of 8 bits: LiteRT rounds activations to 8 bits as well
}


def interpreter_of(path: Path):
    interpreter = litert.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize("name", FLOAT)
def test_float_models_agree(data_dir: Path, name: str):
    path, generator = data_dir / "models" / name, np.random.default_rng(0)
    session, interpreter = Session(load(path)), interpreter_of(path)
    (port,) = interpreter.get_input_details()
    assert [(spec.name, spec.shape) for spec in session.specs] == [(port["name"], tuple(port["shape"]))]
    for _ in range(3):
        row = generator.uniform(0, 255 if "resnet8" in name else 1, port["shape"]).astype(np.float32)
        interpreter.set_tensor(port["index"], row)
        interpreter.invoke()
        found = session.run({port["name"]: row})
        for output in interpreter.get_output_details():
            wanted = interpreter.get_tensor(output["index"])
            np.testing.assert_allclose(found[output["name"]], wanted, atol=FLOAT[name], rtol=1e-4)
