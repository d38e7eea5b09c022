"""Dynamically quantized models, as ONNX Runtime's own quantizer writes them: real numbers, weights as stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.onnx import load_onnx
from edgeprune.ir.execute import Session
from edgeprune.ir.quantization import is_quantized

RANDOM = np.random.default_rng(2)
MICROSOFT = "com.microsoft"


def reals(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) * 0.3).astype(np.float32)


def model_of(
    nodes: list[onnx.NodeProto], shape: list[int], constants: dict[str, np.ndarray], domains: tuple[str, ...] = ("",)
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    sets = [helper.make_opsetid(domain, 1 if domain else 17) for domain in domains]
    return helper.make_model(graph, opset_imports=sets, ir_version=9)


def layers() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "m"),
        helper.make_node("Relu", ["m"], ["r"], "r"),
        helper.make_node("MatMul", ["r", "v"], ["y"], "y"),
    ]
    return model_of(nodes, [1, 12], {"w": reals(12, 9), "v": reals(9, 4)})


def convolution() -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv", pads=[1, 1, 1, 1], strides=[2, 1])
    return model_of([node], [1, 3, 7, 6], {"w": reals(5, 3, 3, 3), "b": reals(5)})


def recurrent() -> onnx.ModelProto:
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], "lstm", hidden_size=6, direction="bidirectional")
    return model_of([node], [5, 1, 4], {"w": reals(2, 24, 4), "r": reals(2, 24, 6), "b": reals(2, 48)})


def run(path: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(path, options).run(None, {"x": x})[0]


@pytest.mark.parametrize("each_channel", [False, True])
@pytest.mark.parametrize(
    ("make", "ops"), [(layers, {"MatMul", "Gemm", "Relu"}), (convolution, {"Conv"}), (recurrent, {"LSTM"})]
)
def test_the_quantizers_own_models(
    make: Callable[[], onnx.ModelProto], ops: set[str], each_channel: bool, tmp_path: Path
) -> None:
    proto = make()
    onnx.save(proto, tmp_path / "real.onnx")
    quantize_dynamic(
        tmp_path / "real.onnx",
        tmp_path / "stored.onnx",
        per_channel=each_channel,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Conv", "LSTM"],
    )
    model = load_onnx(tmp_path / "stored.onnx")
    assert {node.op_type for node in model.graph} <= ops
    assert not is_quantized(model)
    shape = [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    (found,) = Session(model).run({"x": x}).values()
    real, stored = run(tmp_path / "real.onnx", x), run(tmp_path / "stored.onnx", x)
    assert np.abs(found - stored).max() < 0.03 * np.abs(real).max()
    assert np.abs(found - real).max() < 0.05 * np.abs(real).max()


def test_products_with_scales_of_their_own(tmp_path: Path) -> None:
    constants = {
        "w": RANDOM.integers(-90, 90, (8, 5)).astype(np.int8),
        "scale": np.full(5, 0.01, np.float32),
        "zero": np.zeros(5, np.int8),
        "bias": reals(5),
    }
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "scale", "zero", "bias"], ["y"], "p", domain=MICROSOFT)
    onnx.save(model_of([node], [2, 8], constants, ("", MICROSOFT)), tmp_path / "model.onnx")
    x = reals(2, 8)
    (found,) = Session(load_onnx(tmp_path / "model.onnx")).run({"x": x}).values()
    wanted = x @ (constants["w"].astype(np.float32) * np.float32(0.01)) + constants["bias"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_weights_that_are_computed_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["w"], "cast", to=TensorProto.INT8),
        helper.make_node("DynamicQuantizeMatMul", ["x", "w", "scale"], ["y"], "product", domain=MICROSOFT),
    ]
    model = model_of(nodes, [3, 3], {"scale": np.ones(1, np.float32)}, ("", MICROSOFT))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(
        EdgepruneError, match="DynamicQuantizeMatMul cannot be imported: its input 1 is computed"
    ) as caught:
        load_onnx(tmp_path / "model.onnx")
    assert (caught.value.code, caught.value.where) == ("op-unsupported", "node 'product' (DynamicQuantizeMatMul)")
