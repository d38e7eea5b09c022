"""Quantized networks compiled to integers, against ONNX Runtime in plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir
import pytest
from library_runner import Context, build, load
from lowered import canonical
from qdq_networks import NETWORKS

from edgeprune import flow
from edgeprune.data import random_samples
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.states import with_states
from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import Call
from edgeprune.target import load_target

MODELS = (
    "mlperf_tiny/ic_resnet8_int8.tflite",
    "mlperf_tiny/kws_dscnn_int8.tflite",
    "mlperf_tiny/vww_mbv1_025_int8.tflite",
    "mlperf_tiny/sww_int8.tflite",
    "microwakeword/okay_nabu.tflite",
    "import_edge/person_detect.tflite",
)


def differences(model: ir.Model, dot: str, rows: int, scale: float = 1.0) -> np.ndarray:
    """By how much the compiled outputs are off, in all elements of all outputs, relative to the largest of each."""
    target = msgspec.structs.replace(load_target("host"), dot=dot)
    plan = lower(model, target)
    context = Context(load(build(plan, target).so), plan.inputs, plan.outputs)
    samples, session, found = random_samples(input_specs(model), rows, seed=3), Session(model, 1), []
    for index in range(rows):
        feeds = {name: scale * array for name, array in samples.row(index).items()}
        wanted = session.run(feeds)
        for name, got in context.run(feeds).items():
            largest = float(np.abs(wanted[name]).max()) or 1.0
            found.append((np.abs(got.astype(float) - wanted[name]) / largest).ravel())
    return np.concatenate(found)


@pytest.mark.parametrize("dot", ["pairs", "bytes"])
@pytest.mark.parametrize("name", NETWORKS)
def test_integer_network_equals_onnx_runtime(name: str, dot: str) -> None:
    off = differences(canonical(NETWORKS[name](seed=1)), dot, rows=2)
    assert off.max() <= (2**-7 if name == "dense" else 1e-6)


@pytest.mark.parametrize("name", ["residual", "windows"])
def test_layers_multiply_integers(name: str) -> None:
    plan = lower(canonical(NETWORKS[name](seed=1)), load_target("x86-64-v3"))
    kernels = [step.layer.kernel for step in plan.steps if isinstance(step, Call) and "Conv" in step.layer.op]
    assert kernels
    assert all(kernel.startswith(("integer", "depthwise")) for kernel in kernels)
    assert not any(constant.value.dtype == np.float32 and constant.value.size > 64 for constant in plan.constants)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_the_field_equal_onnx_runtime(name: str, data_dir: Path) -> None:
    model = with_states(flow.load_model(data_dir / "models" / name), ["none"])
    off = differences(model, "pairs", rows=3, scale=40.0)
    assert np.mean(off > 1e-5) <= 1e-3
