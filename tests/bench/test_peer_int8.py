"""Peers in int8: what the quantizer makes of a float model, and that a quantized one is left alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.bench.peer_int8 import is_quantized, quantized, shuffled_rows
from edgeprune.bench.peers import start_peer
from edgeprune.errors import EdgepruneError

pytest.importorskip("onnxruntime")

SHAPE = (1, 3, 9, 8)


def network(opset=17, weights_as_inputs=False):
    """Two convolutions with a batch axis of any size; every layer has many output channels of different size."""
    generator = np.random.default_rng(0)
    scale = np.geomspace(0.01, 3, 20)[:, None, None, None]
    weights = {
        "w": (generator.standard_normal((20, 3, 3, 3)) * scale).astype(np.float32),
        "v": generator.standard_normal((7, 20, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 9, 8])]
    if weights_as_inputs:
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, w.shape) for name, w in weights.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 7, 9, 8])
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "network", inputs, [output], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def feeds(name="x"):
    return {name: np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("opset", "as_inputs"), [(17, False), (11, True)])
def test_a_float_model_runs_in_int8(runtime, opset, as_inputs):
    pytest.importorskip(runtime)
    model = network(opset, as_inputs).SerializeToString()
    plain = start_peer("onnxruntime", network().SerializeToString(), feeds(), 1)
    peer = start_peer(f"{runtime}-int8", model, feeds("image"), 1)
    assert (peer.runtime, peer.precision) == (f"{runtime}-int8", "int8")
    peer.run()
    plain.run()
    wanted, found = plain.outputs()[0], peer.outputs()[0]
    # Only that it is the same network: fused integer products are not exact on every processor.
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95


def test_weights_are_int8_a_channel_and_activations_uint8():
    proto = onnx.load_from_string(quantized(network().SerializeToString(), shuffled_rows(feeds())))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    weights = [value for value in stored.values() if value.dtype == np.int8 and value.ndim == 4]
    assert {value.shape for value in weights} == {(20, 3, 3, 3), (7, 20, 1, 1)}
    assert all(np.abs(value.astype(int)).reshape(len(value), -1).max(1).min() >= 126 for value in weights)
    zeros = [value for name, value in stored.items() if "zero_point" in name and value.dtype == np.uint8]
    assert len(zeros) >= 3
    assert [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == list(SHAPE)


def test_a_quantized_model_is_left_as_it_is(tmp_path):
    once = quantized(network().SerializeToString(), [feeds()])
    assert is_quantized(once)
    assert not is_quantized(network().SerializeToString())
    (tmp_path / "model.onnx").write_bytes(once)
    assert quantized(once, []) == quantized(tmp_path / "model.onnx", []) == once


def test_same_rows_same_model():
    model = network().SerializeToString()
    first, second = (quantized(model, shuffled_rows(feeds())) for _ in range(2))
    assert first == second


def test_shuffled_rows_hold_the_same_numbers():
    rows = shuffled_rows(feeds(), 3)
    assert len(rows) == 3
    for row in rows:
        assert row["x"].shape == SHAPE
        np.testing.assert_array_equal(np.sort(row["x"].ravel()), np.sort(feeds()["x"].ravel()))
    assert not np.array_equal(rows[1]["x"], rows[2]["x"])


def test_what_no_quantizer_can_read():
    for runtime in ("onnxruntime-int8", "openvino-int8"):
        with pytest.raises(EdgepruneError) as caught:
            start_peer(runtime, b"no model", feeds(), 1)
        assert caught.value.code == "peer-failed"
        assert caught.value.where == runtime
