import builtins
import importlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.bench import peer_litert, peers
from edgeprune.bench.peers import check_peers, start_peer
from edgeprune.cli.bench import PEERS
from edgeprune.errors import EdgepruneError

WEIGHT = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def linear(batch):
    """y = relu(x @ WEIGHT) + z, with a batch axis of the given size or name."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Add", ["r", "z"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, size]) for name, size in (("x", 6), ("z", 4))
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])
    graph = helper.make_graph(nodes, "linear", inputs, [output], [numpy_helper.from_array(WEIGHT, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


FEEDS = {
    "x": np.random.default_rng(1).normal(size=(1, 6)).astype(np.float32),
    "z": np.random.default_rng(2).normal(size=(1, 4)).astype(np.float32),
}
WANTED = np.maximum(FEEDS["x"] @ WEIGHT, 0) + FEEDS["z"]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [1, "n"])
def test_a_peer_computes_what_the_model_says(runtime, batch, tmp_path):
    pytest.importorskip(runtime)
    model = linear(batch)
    onnx.save(model, tmp_path / "linear.onnx")
    for source in (model.SerializeToString(), tmp_path / "linear.onnx"):
        for threads in (1, 2):
            peer = start_peer(runtime, source, FEEDS, threads)
            assert (peer.runtime, peer.precision) == (runtime, "fp32")
            assert peer.version
            peer.run()
            np.testing.assert_allclose(peer.outputs()[0], WANTED, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("external", [False, True])
def test_weights_declared_as_inputs_become_constants(external, tmp_path):
    model = linear(1)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 4]))
    onnx.save(model, tmp_path / "linear.onnx", save_as_external_data=external, size_threshold=0)
    for source in (tmp_path / "linear.onnx", *([] if external else [model.SerializeToString()])):
        content = peers.with_constant_weights(source)
        assert [port.name for port in onnx.load_from_string(content).graph.input] == ["x", "z"]
        peer = start_peer("onnxruntime", source, FEEDS, 1)
        peer.run()
        np.testing.assert_allclose(peer.outputs()[0], WANTED, rtol=1e-5, atol=1e-6)
    plain = linear(1).SerializeToString()
    assert peers.with_constant_weights(plain) is plain


def test_inputs_go_by_order_where_names_differ():
    other = {f"input_{index}": array for index, array in enumerate(FEEDS.values())}
    peer = start_peer("onnxruntime", linear(1).SerializeToString(), other, 1)
    peer.run()
    np.testing.assert_allclose(peer.outputs()[0], WANTED, rtol=1e-5, atol=1e-6)


def refused(*arguments):
    with pytest.raises(EdgepruneError) as caught:
        start_peer(*arguments)
    assert caught.value.hint
    return caught.value


def test_unknown_peers_are_wrong_usage():
    caught = refused("onxruntime", b"", {}, 1)
    assert (caught.code, caught.exit_code) == ("peer-unknown", 2)
    assert "onnxruntime" in caught.hint
    with pytest.raises(EdgepruneError):
        check_peers(["onnxruntime", "tensorrt"])
    check_peers(PEERS)
    assert all(name in refused("nothing-like-it", b"", {}, 1).hint for name in PEERS)


@pytest.mark.parametrize("runtime", PEERS)
def test_a_peer_that_is_not_installed(runtime, monkeypatch):
    def nothing(name, *_, **__):
        raise ImportError(f"No module named '{name}'")

    original = builtins.__import__
    roots = ("onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime")
    monkeypatch.setattr(
        builtins,
        "__import__",
        lambda name, *rest: nothing(name) if name.split(".")[0] in roots else original(name, *rest),
    )
    monkeypatch.setattr(peer_litert, "import_module", nothing)
    caught = refused(runtime, b"", FEEDS, 1)
    assert caught.code == "peer-missing"
    assert "pip install" in caught.hint


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_model_that_a_peer_cannot_run(runtime):
    pytest.importorskip(runtime)
    assert refused(runtime, b"no model", FEEDS, 1).code == "peer-failed"
    assert refused(runtime, linear(1).SerializeToString(), {"x": FEEDS["x"]}, 1).code == "peer-failed"


def test_litert_takes_its_own_format(monkeypatch):
    monkeypatch.setattr(peer_litert, "import_module", lambda _: importlib)
    assert "tflite" in refused("litert", b"onnx", FEEDS, 1).what


@pytest.mark.parametrize(("name", "precision"), [("float", "fp32"), ("int8", "int8")])
def test_litert_takes_and_gives_real_numbers(data_dir, name, precision):
    pytest.importorskip("ai_edge_litert")
    path = data_dir / f"models/mlperf_tiny/ic_resnet8_{name}.tflite"
    image = np.load(data_dir / "sets/cifar10_test_0000-0499.npz")["x"][:1].astype(np.float32)
    peer = start_peer("litert", path, {"anything": image}, 1)
    peer.run()
    assert (peer.runtime, peer.precision) == ("litert", precision)
    (scores,) = peer.outputs()
    assert scores.dtype == np.float32
    assert abs(scores.sum() - 1) < 0.02


def test_quantized_models_are_called_int8():
    model = linear(1)
    model.graph.node.append(helper.make_node("QuantizeLinear", ["m", "s"], ["q"]))
    assert peers._onnx_precision(model.SerializeToString()) == "int8"
    assert peers._onnx_precision(linear(1).SerializeToString()) == "fp32"
