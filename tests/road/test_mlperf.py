"""A package under a runner of MLPerf Tiny: counted and judged on an emulated board, measured where there is a clock."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import flow
from edgeprune.deploy.mlperf_board import Speaking
from edgeprune.deploy.mlperf_runner import Device, Inference
from edgeprune.deploy.unicorn_board import UnicornBoard
from edgeprune.errors import EdgepruneError
from edgeprune.options import Options
from edgeprune.road import mlperf

BOARD = "emulated-m4"
ROWS = 12


def network() -> onnx.ModelProto:
    """One linear layer from pixels to ten classes, in int8 as quantizers write it; pixels are stored from -128."""
    random = np.random.default_rng(5)
    constants = {
        "w": random.integers(-127, 128, (3072, 10)).astype(np.int8),
        "w_scale": np.float32(1e-4),
        "w_zero": np.int8(0),
        "x_scale": np.float32(1),
        "x_zero": np.int8(-128),
        "y_scale": np.float32(2.0),
        "y_zero": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x_dq"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_dq"]),
        helper.make_node("Flatten", ["x_dq"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w_dq"], ["sum"], name="classes"),
        helper.make_node("QuantizeLinear", ["sum", "y_scale", "y_zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["y"]),
    ]
    values = [("x", [1, 32, 32, 3]), ("y", [1, 10])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "pixels", ports[:1], ports[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """pixels.edge with card.toml, whose labels are wrong in every third row."""
    place = tmp_path_factory.mktemp("mlperf")
    onnx.save(network(), place / "pixels.onnx")
    options = Options(dense=True, random_calibration=True)
    result = flow.compile(place / "pixels.onnx", target="cortex-m4", output=place / "pixels.edge", options=options)
    assert result.package is not None
    result.package.close()
    x = np.random.default_rng(2).integers(0, 256, (ROWS, 32, 32, 3)).astype(np.uint8)
    np.savez(place / "data.npz", x=x.astype(np.float32))
    flow.run(place / "pixels.edge", place / "data.npz", place / "out.npz", board=BOARD)
    labels = np.load(place / "out.npz")["y"].argmax(axis=1)
    labels[::3] = (labels[::3] + 1) % 10
    np.savez(place / "data.npz", x=x, y=labels)
    for name in ("top1", "mse"):
        (place / f"{name}.toml").write_text(f'metric = "{name}"\n[test]\nfile = "data.npz"\n')
    return place


def refused(*arguments, **named):
    with pytest.raises(EdgepruneError) as caught:
        flow.bench(*arguments, mlperf_tiny=True, **named)
    assert caught.value.hint
    return caught.value


def test_an_emulated_board_is_counted_and_judged(folder):
    told = flow.bench(folder / "pixels.edge", board=BOARD, mlperf_tiny=True, data=folder / "top1.toml")
    assert (told["board"], told["kind"], told["precision"]) == (BOARD, "emulated", "int8")
    assert told["flash_bytes"] > 30_000 and told["ram_bytes"] > 2 * 3072
    report = told["mlperf_tiny"]
    assert (report["model"], report["name"], report["clock_mhz"]) == ("ic01", "edgeprune", None)
    wanted = flow.bench(folder / "pixels.edge", board=BOARD)["instructions"]
    assert report["performance"]["instructions"] == pytest.approx(wanted, rel=0.01)
    assert len(report["performance"]["runs"]) == 5 and "inferences_per_second" not in report["performance"]
    score = flow.evaluate(folder / "pixels.edge", data=folder / "top1.toml", board=BOARD)
    assert report["accuracy"] == {"metric": "top1", "value": score.value, "samples": ROWS, "top1": score.value}
    assert score.value == pytest.approx(8 / 12)


def test_a_board_with_a_clock_is_measured(folder, monkeypatch):
    loaded, written = [], []

    class Runner:
        def connect(self):
            return Device("edgeprune", "P", "ic01")

        def load(self, data):
            loaded.append(data)

        def performance(self):
            return Inference(100, [9, 7, 12, 11, 8][len(loaded) - 1] * 1_000_000, 10.0, (0.0,))

    @contextmanager
    def speaking(firmware, board):
        assert written == [firmware.elf] and b"ULPMark" in firmware.elf
        yield Speaking(Runner())

    def write(firmware, board, progress):
        written.append(firmware.elf)
        return {"written_bytes": firmware.flash_bytes}

    monkeypatch.setattr(mlperf, "speaking", speaking)
    monkeypatch.setattr(mlperf, "write_firmware", write)
    told = flow.bench(folder / "pixels.edge", board="nucleo-l4r5zi", mlperf_tiny=True)
    performance = told["mlperf_tiny"]["performance"]
    assert performance["inferences_per_second"] == pytest.approx(100 / 9) and told["kind"] == "measured"
    assert [run["seconds"] for run in performance["runs"]] == [9, 7, 12, 11, 8]
    assert told["mlperf_tiny"]["clock_mhz"] == 4
    assert told["mlperf_tiny"]["accuracy"] is None and told["written_bytes"] == told["flash_bytes"]
    assert len(set(loaded)) == 5 and {len(data) for data in loaded} == {3072}


def test_what_cannot_be_done_is_refused(folder):
    package = folder / "pixels.edge"
    here = refused(package)
    assert (here.code, here.exit_code) == ("option-conflict", 2)
    assert here.what == "MLPerf Tiny is for microcontrollers, and board local is none"
    judged = refused(package, board=BOARD, data=folder / "mse.toml")
    assert (judged.code, judged.exit_code) == ("mlperf-metric", 2)
    assert judged.what == "MLPerf Tiny judges by top1 or auc, and the card's metric is mse"
    model = refused(folder / "pixels.onnx", board=BOARD)
    assert model.code == "package-wanted"
    other = refused(package, board="emulated-m7")
    assert other.code == "firmware-target"


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda counts: counts[:-1], "14 inferences of 15 were counted, and those of one input took "),
        (lambda counts: [1, *counts[1:]], "15 inferences of 15 were counted, and those of one input took [1, "),
    ],
)
def test_counts_that_do_not_repeat_are_told(folder, monkeypatch, spoil, what):
    take = UnicornBoard.take_regions
    monkeypatch.setattr(UnicornBoard, "take_regions", lambda board: spoil(take(board)))
    caught = refused(folder / "pixels.edge", board=BOARD)
    assert caught.code == "emulator-failed" and caught.what.startswith(what)


def test_the_benchmark_itself(data_dir, tmp_path):
    source = data_dir / "models" / "mlperf_tiny" / "kws_dscnn_int8.tflite"
    options = Options(dense=True, random_calibration=True)
    result = flow.compile(source, target="cortex-m4", output=tmp_path / "kws.edge", options=options)
    assert result.package is not None
    result.package.close()
    file = data_dir / "sets" / "kws01_0000-0499.npz"
    card = (data_dir / "cards" / "kws.toml").read_text().replace("../sets/kws01_0000-0499.npz", str(file))
    (tmp_path / "kws.toml").write_text(card.replace('rows = "100:500"', 'rows = "100:120"'))
    told = flow.bench(tmp_path / "kws.edge", board=BOARD, mlperf_tiny=True, data=tmp_path / "kws.toml")["mlperf_tiny"]
    assert told["model"] == "kws01" and told["performance"]["instructions"] < 5.0e6
    right = flow.evaluate(source, data=tmp_path / "kws.toml")
    assert told["accuracy"]["samples"] == 20 and told["accuracy"]["value"] == right.value
