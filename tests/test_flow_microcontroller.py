"""The whole road to a microcontroller that is emulated here: compiled, linked, run, measured and verified."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import flow
from edgeprune.errors import EdgepruneError
from edgeprune.options import Options

DENSE = Options(dense=True, random_calibration=True)
BOARD = "emulated-m4"


def network(quantized: bool, real_output: bool = False) -> onnx.ModelProto:
    """Two convolutions, one of them by channel, a sum, a pool and a linear layer; int8 by QDQ where `quantized`.

    With `real_output` the last layer's results are not stored as integers.
    """
    random = np.random.default_rng(0)
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(value, name))
        return name

    def on_grid(value, scale, zero=3):
        if not quantized:
            return value
        names = [constant(f"{value}_scale", np.float32(scale)), constant(f"{value}_zero", np.int8(zero))]
        nodes.append(helper.make_node("QuantizeLinear", [value, *names], [f"{value}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{value}_q", *names], [f"{value}_dq"]))
        return f"{value}_dq"

    def weight(name, shape):
        if not quantized:
            return constant(name, random.normal(0, 0.2, shape).astype(np.float32))
        stored = constant(f"{name}_stored", random.integers(-127, 128, shape).astype(np.int8))
        scale = constant(f"{name}_scale", np.float32(0.004))
        zero = constant(f"{name}_zero", np.int8(0))
        nodes.append(helper.make_node("DequantizeLinear", [stored, scale, zero], [name]))
        return name

    def layer(op, source, name, shape, scale, **attributes):
        nodes.append(helper.make_node(op, [source, weight(f"{name}_w", shape)], [name], name, **attributes))
        return on_grid(name, scale) if scale else name

    x = on_grid("x", 0.03)
    a = layer("Conv", x, "a", (6, 3, 3, 3), 0.05, pads=[1, 1, 1, 1])
    b = layer("Conv", a, "b", (6, 1, 3, 3), 0.05, pads=[1, 1, 1, 1], group=6)
    nodes.append(helper.make_node("Add", [a, b], ["c"], "c"))
    c = on_grid("c", 0.08)
    nodes.append(helper.make_node("GlobalAveragePool", [c], ["d"], "d"))
    d = on_grid("d", 0.05)
    nodes.append(helper.make_node("Flatten", [d], ["e"], "e"))
    y = layer("Gemm", "e", "f", (6, 5), 0.0 if real_output else 0.03)
    nodes.append(helper.make_node("Identity", [y], ["y"]))
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 7, 5])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])]
    graph = helper.make_graph(nodes, "small", ports, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module", params=["fp32", "int8", "int8-real"])
def package(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    precision, _, real = request.param.partition("-")
    onnx.save(network(precision == "int8", bool(real)), folder / "small.onnx")
    result = flow.compile(folder / "small.onnx", target="cortex-m4", output=folder / "small.edge", options=DENSE)
    assert result.package is not None and result.package.manifest.precision == precision
    result.package.close()
    return folder / "small.edge"


def test_outputs_are_those_of_this_machine(package):
    told = flow.verify(package, board=BOARD, samples=8)
    assert told["equal"] and told["samples"] == 8
    assert told["exact"] or "fp32" in package.parent.name


def test_instructions_are_counted_by_layer_and_repeat(package):
    first, second = (flow.bench(package, board=BOARD) for _ in range(2))
    assert first["kind"] == "emulated" and first["latency_ms"] is None
    assert first["instructions"] == second["instructions"] > 1000
    assert first["layers"] == second["layers"]
    assert sum(layer["instructions"] for layer in first["layers"]) == pytest.approx(first["instructions"], rel=0.05)


def test_rows_run_there(package, tmp_path):
    x = np.random.default_rng(1).normal(size=(3, 3, 7, 5)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    told = flow.run(package, tmp_path / "in.npz", tmp_path / "out.npz", board=BOARD)
    assert told["rows"] == 3
    y = np.load(tmp_path / "out.npz")["y"]
    assert y.shape == (3, 5) and len(np.unique(y, axis=0)) == 3


def test_flash_says_what_it_takes(package):
    told = flow.flash(package, board=BOARD)
    assert told["verified"]["equal"]
    assert 1000 < told["flash_bytes"] < 60_000 and 1000 < told["ram_bytes"] < 20_000


def test_firmware_goes_into_the_package(tmp_path):
    onnx.save(network(quantized=True), tmp_path / "small.onnx")
    result = flow.compile(
        tmp_path / "small.onnx",
        target="cortex-m4",
        board="nucleo-l4r5zi",
        output=tmp_path / "small.edge",
        options=DENSE,
    )
    assert result.package is not None
    assert result.package.member("firmware/nucleo-l4r5zi.elf")[:4] == b"\x7fELF"


def test_wrong_boards_are_refused(package):
    def error(call):
        with pytest.raises(EdgepruneError) as caught:
            call()
        return caught.value

    here = error(lambda: flow.bench(package))
    assert (here.code, here.what) == ("board-wanted", "the package is for cortex-m4, which is no machine like this one")
    other = error(lambda: flow.bench(package, board="emulated-m7"))
    assert other.code == "firmware-target"
    assert other.what == "the package was compiled for cortex-m4, and chip emulated-m7 is a cortex-m7"
    threads = error(lambda: flow.bench(package, board=BOARD, threads=2))
    assert (threads.code, threads.exit_code) == ("threads-unsupported", 2)
    deployed = error(lambda: flow.deploy(package, board=BOARD))
    assert (deployed.code, deployed.what) == (
        "board-bare",
        "board emulated-m4 is a microcontroller, which has no files",
    )
