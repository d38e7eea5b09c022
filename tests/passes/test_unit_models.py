"""Every real model: its groups, and that cutting and reordering them is exact."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from unit_checks import check_model

from edgeprune.frontend.load import load
from edgeprune.frontend.onnx import load_onnx

NETWORKS = Path(__file__).parents[1] / "frontend" / "cifar_networks.py"

FOUND = {
    "cifar_resnet/resnet20.onnx": ({"channel": 12, "layer": 9}, 1),
    "squeezenet_dc/squeezenet1.0_deepcompressed.onnx": ({"channel": 25}, 1),
    "ultraface/version-RFB-320.onnx": ({"channel": 25}, 8),
    "fastestdet/FastestDet.onnx": ({"channel": 38, "layer": 1}, 3),
    "stories260K/stories260K_t64.onnx": ({"channel": 6, "head": 5, "layer": 10}, 1),
    "mlperf_tiny/ic_resnet8_float.tflite": ({"channel": 6, "layer": 1}, 1),
    "mlperf_tiny/ic_resnet8_int8.tflite": ({"channel": 6, "layer": 1}, 1),
    "mlperf_tiny/kws_dscnn_float.tflite": ({"channel": 5}, 1),
    "mlperf_tiny/kws_dscnn_int8.tflite": ({"channel": 5}, 1),
    "mlperf_tiny/vww_mbv1_025_float.tflite": ({"channel": 14}, 1),
    "tflm/mnist_lstm_float.tflite": ({"channel": 1}, 1),
    "gesture/keypoint_classifier.tflite": ({"channel": 2}, 1),
    "ultraface/version-RFB-320_without_postprocessing.tflite": ({"channel": 25}, 8),
}
"""How many groups of each kind, and how many nodes make units that cannot go: those of the model's outputs."""


def counts(groups):
    return dict(Counter(group.kind for group in groups.groups)), len(groups.unresolved)


@pytest.mark.parametrize("name", FOUND)
def test_groups(data_dir, name):
    assert counts(check_model(load(data_dir / "models" / name), seed=3)) == FOUND[name]


def test_resnet32(data_dir):
    """Channels inside blocks, and of the stream: those that zeros are padded with at each stage come on top."""
    model = load(data_dir / "models/cifar_resnet/resnet32-d509ac18.th", f"{NETWORKS}:resnet32")
    groups = check_model(model, seed=0)
    assert counts(groups) == ({"channel": 18, "layer": 15}, 1)
    sizes = Counter(group.size for group in groups.groups if group.kind == "channel")
    assert sizes == {16: 5 + 1 + 1, 32: 5 + 1, 64: 5}


def test_silero(data_dir):
    """The state of the LSTM is an input of the model."""
    path = data_dir / "models/silero/silero_vad_16k_op15.onnx"
    groups = check_model(load_onnx(path, {"sequence": 576}), seed=0)
    assert [group.size for group in groups.groups] == [129, 128, 64, 64, 128]
    reasons = {each.name: each.reason for each in groups.unresolved}
    lstm, last = "/model/decoder/If_1_/model/decoder/rnn/LSTM", "/model/decoder/decoder/2/Conv"
    assert reasons == {
        lstm: f"node '{lstm}' (LSTM) gets its state from elements that cannot be removed",
        last: "its units can only be removed all at once",
    }
