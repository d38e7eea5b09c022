"""The road in half precision: what it refuses, what a package says of itself, and what an emulated board computes."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import flow
from edgeprune.errors import EdgepruneError
from edgeprune.options import Options
from edgeprune.package.read import read_package
from edgeprune.road.costing import ram_bytes
from edgeprune.road.twin import open_twin, twin_target
from edgeprune.target import load_target, target_names

TARGET, BOARD = "raspberry-pi-5", "emulated-rpi5"


def network() -> onnx.ModelProto:
    """Every family of kernels and what has none, on odd sizes: two outputs, one of them an image."""
    generator = np.random.default_rng(4)
    shapes = {
        "w1": (16, 6, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "w3": (12, 16, 1, 1), "w4": (9, 16, 3, 2),
        "scale": (1, 21, 1, 1), "w5": (7, 21), "b5": (7,),
    }  # fmt: skip
    tensors = [
        numpy_helper.from_array(generator.normal(scale=0.2, size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    sizes = np.array([1, 1, 2, 2], np.float32)
    limits = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("low", 0), ("high", 6))]
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["a2"], name="relu"),
        node("Conv", ["a2", "w2"], ["b"], name="depthwise", group=16, pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Clip", ["b", "low", "high"], ["b2"], name="clip"),
        node("Conv", ["b2", "w3"], ["c"], name="pointwise"),
        node("MaxPool", ["b2"], ["d"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Conv", ["d", "w4"], ["e"], name="uneven", pads=[1, 0, 1, 1]),
        node("Concat", ["c", "e"], ["f"], name="concat", axis=1),
        node("Mul", ["f", "scale"], ["g"], name="scaled"),
        node("HardSwish", ["g"], ["h"], name="swish"),
        node("GlobalAveragePool", ["h"], ["i"], name="mean"),
        node("Flatten", ["i"], ["j"], name="flat"),
        node("Gemm", ["j", "w5", "b5"], ["k"], name="linear", transB=1),
        node("Softmax", ["k"], ["y"], name="softmax", axis=-1),
        node("Resize", ["h", "", "sizes"], ["l"], name="resize", mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("Sigmoid", ["l"], ["z"], name="sigmoid"),
    ]  # fmt: skip
    ports = [("x", [1, 6, 11, 13]), ("y", [1, 7]), ("z", [1, 21, 12, 14])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports]
    initializers = [*tensors, *limits, numpy_helper.from_array(sizes, "sizes")]
    graph = helper.make_graph(nodes, "families", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("half") / "families.onnx"
    onnx.save(network(), path)
    return path


@pytest.fixture(scope="module")
def package(model):
    path = model.with_name("half.edge")
    flow.compile(model, target=TARGET, output=path, options=Options(precision="fp16", dense=True))
    return path


def test_a_package_says_that_it_is_of_halves_and_keeps_the_ports(model, package):
    manifest = read_package(package).manifest
    assert (manifest.precision, manifest.target.real) == ("fp16", "float16")
    assert {port.dtype for port in (*manifest.inputs, *manifest.outputs)} == {"float32"}
    assert {"fphp", "asimdhp"} <= set(manifest.target.cpu_flags)
    assert manifest.ram_bytes < 0.8 * ram_bytes(flow.load_model(model), load_target(TARGET))


def test_an_emulated_board_computes_it(package):
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed")
    verified = flow.verify(package, board=BOARD, samples=3)
    assert verified["equal"] and verified["reference"] == "the package's model on ONNX Runtime, in float32"
    assert 0 < verified["max_difference"] < 0.005


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_targets_know_what_they_compute_in(precision):
    able = {name for name in target_names() if name != "host" and load_target(name).half}
    assert able == {"android-arm64", "jetson-orin-cpu", "raspberry-pi-5"}
    for name in able:
        target = load_target(name).for_precision(precision)
        assert target.real == {"fp32": "float32", "fp16": "float16"}[precision]
        assert ({"fphp", "asimdhp"} <= set(target.cpu_flags)) >= (precision == "fp16")


def test_accuracy_is_that_of_the_kernels_of_the_target(tmp_path):
    """The twin of a package rounds as the target does: it is near what ONNX Runtime computes, and off it."""
    generator = np.random.default_rng(5)
    weights = numpy_helper.from_array(generator.normal(scale=0.2, size=(8, 8, 3, 3)).astype(np.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 4, 6]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w"], ["y"], name="again", pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "small.onnx")
    x = generator.normal(size=(3, 1, 8, 4, 6)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.stack([session.run(None, {"x": row})[0] for row in x])
    result = flow.compile(tmp_path / "small.onnx", target=TARGET, options=Options(precision="fp16", dense=True))
    assert result.package is not None
    kernels = {layer["name"]: layer["kernel"] for layer in result.inspection["layers"]}
    assert "by 8 inputs" in kernels["conv"]
    with result.package as package, open_twin(package) as twin:
        assert twin_target(package.manifest.target).real == "float16"
        error = abs(np.stack([twin.run({"x": row})["y"] for row in x]) - expected).max()
    assert 1e-4 < error / abs(expected).max() < 0.01


def test_weights_that_halves_cannot_hold_are_refused(tmp_path):
    weights = numpy_helper.from_array(np.full((2, 3, 1, 1), 7e4, np.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, c, 4, 4]) for name, c in (("x", 3), ("y", 2))]
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="large")]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(EdgepruneError) as caught:
        flow.compile(tmp_path / "m.onnx", target=TARGET, options=Options(precision="fp16", dense=True))
    error = caught.value
    assert (error.code, error.where, error.hint) == ("precision-overflow", "node large", "take --precision fp32")
    assert error.what == "a weight of 70000 is beyond what half precision holds, 65504"
