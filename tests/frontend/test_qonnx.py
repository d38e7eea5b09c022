"""QONNX quantizers against their definition in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load
from edgeprune.frontend.onnx import load_onnx
from edgeprune.ir.execute import Session

DOMAIN = "qonnx.custom_op.general"
DATA = np.array([-3.7, -2.5, -1.5, -0.5, -0.2, 0.0, 0.2, 0.5, 1.5, 2.5, 3.7, 100.0], np.float32)


def run(path: Path, op: str, inputs: list[float], domain: str = DOMAIN, **attributes) -> np.ndarray:
    names = [f"c{place}" for place in range(len(inputs))]
    node = helper.make_node(op, ["x", *names], ["y"], name="the_node", domain=domain, **attributes)
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, DATA.size]) for name in "xy"]
    constants = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in zip(names, inputs, strict=True)]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], constants)
    opsets = [helper.make_opsetid("", 13), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path / "model.onnx")
    return Session(load_onnx(path / "model.onnx")).run({"x": DATA[None]})["y"][0]


ROUNDINGS = {
    "ROUND": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "ROUND_TO_ZERO": np.trunc,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}


@pytest.mark.parametrize("mode", ROUNDINGS)
def test_rounding_modes(tmp_path: Path, mode: str):
    found = run(tmp_path, "Quant", [0.5, 1.0, 4.0], signed=1, narrow=0, rounding_mode=mode)
    wanted = (ROUNDINGS[mode](np.clip(DATA / 0.5 + 1, -8, 7)) - 1) * 0.5
    np.testing.assert_array_equal(found, wanted.astype(np.float32))


@pytest.mark.parametrize(("signed", "narrow", "lowest", "highest"), [(1, 1, -3, 3), (0, 0, 0, 7), (0, 1, 0, 6)])
def test_limits(tmp_path: Path, signed: int, narrow: int, lowest: int, highest: int):
    found = run(tmp_path, "Quant", [0.25, 0.0, 3.0], domain="", signed=signed, narrow=narrow)
    np.testing.assert_array_equal(found, np.round(np.clip(DATA / 0.25, lowest, highest)) * 0.25)


def test_bipolar(tmp_path: Path):
    np.testing.assert_array_equal(run(tmp_path, "BipolarQuant", [0.5]), np.where(DATA < 0, -0.5, 0.5))


def test_truncation(tmp_path: Path):
    found = run(tmp_path, "Trunc", [0.5, 0.0, 8.0, 6.0])
    np.testing.assert_array_equal(found, np.floor(np.round(DATA / 0.5) / 4) * 0.5)


def failure(path: Path, op: str, inputs: list[float], **attributes) -> str:
    with pytest.raises(EdgepruneError) as caught:
        run(path, op, inputs, **attributes)
    assert caught.value.code == "op-unsupported"
    return str(caught.value)


def test_errors(tmp_path: Path):
    hint = "  hint:  export the model with constant bit widths and a standard rounding mode"
    where = "  where: node 'the_node' (Quant)"
    assert failure(tmp_path, "Quant", [0.5, 0.0, 4.0], rounding_mode="SOMEHOW") == (
        "QONNX operator Quant cannot be imported: rounding mode SOMEHOW [op-unsupported]\n" + f"{where}\n{hint}"
    )
    assert "input 3 is no constant number of bits from 1 to 24" in failure(tmp_path, "Quant", [0.5, 0.0, 60.0])
    assert "it has 3 inputs in place of 4" in failure(tmp_path, "Quant", [0.5, 0.0])


def test_a_real_network_still_knows_its_words(data_dir: Path):
    model = load(data_dir / "models/import_edge/kws_w3a3_qonnx.onnx")
    assert {node.op_type for node in model.graph} == {"Flatten", "Div", "Clip", "Round", "Gemm", "Relu"}
    session, data = Session(model), np.load(data_dir / "sets/kws01_0000-0499.npz")
    rows = (data["x"].astype(np.float32) - 83) * np.float32(0.5847029)
    rows = np.ascontiguousarray(rows.reshape(-1, 1, 1, 49, 10).transpose(0, 1, 2, 4, 3))
    guesses = [int(np.argmax(session.run({"inp.1": row})[session.outputs[0]])) for row in rows]
    assert np.mean(np.array(guesses) == data["y"]) > 0.8
