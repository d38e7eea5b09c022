"""Networks of many families, from both of torch's exporters through to compiled code, against torch itself."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from convnet_families import convnets
from lowered import run_lowered
from sequence_families import sequences

from edgeprune.frontend.load import load

NETWORKS = {name: (module, torch.rand(shape) - 0.4) for name, (module, shape) in convnets().items()} | sequences()
NEWER_EXPORTER = ("mobilenet v3", "bidirectional gru", "language model", "vgg", "transformer encoder")
"""Families that go through the newer exporter; the others go through the older one."""


def exported(module: torch.nn.Module, example: torch.Tensor, path: Path, newer: bool) -> None:
    """Write `module` as ONNX, by tracing in operator set 13 or by torch.export in operator set 20."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), str(path), dynamo=newer, opset_version=20 if newer else 13, verbose=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_network_equals_torch(name: str, tmp_path: Path) -> None:
    module, example = NETWORKS[name]
    with torch.no_grad():
        expected = module(example).numpy()
    exported(module, example, tmp_path / "model.onnx", name in NEWER_EXPORTER)
    model = load(tmp_path / "model.onnx")
    (found,) = run_lowered(model, {str(model.graph.inputs[0].name): example.numpy()}, tmp_path).values()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))
