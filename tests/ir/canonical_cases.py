"""Random ONNX models, ONNX Runtime on the untouched model, and what the canonical form promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import helper, numpy_helper

from edgeprune.ir.canonical import CANONICAL_OPSET, canonicalize
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import static_shape

GONE = {"Identity", "Dropout", "Constant", "BatchNormalization", "If", "Shape", "Size", "ConstantOfShape"}
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 13: 7, 17: 8, 18: 8, 21: 10}


class Graph:
    """Collects nodes and initializers of one test model."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.count = 0

    def name(self, prefix: str = "t") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def constant(self, array: Any) -> str:
        tensor = numpy_helper.from_array(np.asarray(array), self.name("c"))
        self.initializers.append(tensor)
        return tensor.name

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.standard_normal(shape).astype(np.float32))

    def positive(self, *shape: int) -> str:
        return self.constant(self.random.uniform(0.5, 2.0, shape).astype(np.float32))

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0]

    def model(
        self, inputs: dict[str, list], outputs: list[str], opset: int = 17, listed: bool = False
    ) -> onnx.ModelProto:
        """The model; with `listed`, initializers are graph inputs too, as before IR version 4."""
        ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()]
        if listed or opset < 9:
            ports += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in self.initializers]
        ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", ports, ends, self.initializers)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=IR_VERSIONS.get(opset, 8 if opset < 19 else 10),
        )


def runtime(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of the untouched model on ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def random_feed(model: ir.Model, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    feed = {}
    for spec in Session(model).specs:
        if spec.dtype.startswith("float"):
            feed[spec.name] = random.standard_normal(spec.shape).astype(spec.dtype)
        else:
            feed[spec.name] = random.integers(0, 2, spec.shape).astype(spec.dtype)
    return feed


def check(proto: onnx.ModelProto, tolerance: float = 1e-4) -> ir.Model:
    """Canonicalize `proto`; assert the canonical form and that both compute the same. Gives the canonical model."""
    model = canonicalize(ir.from_proto(proto), verify=True)
    assert_canonical(model)
    feed = random_feed(model)
    expected, found = runtime(proto, feed), Session(model).run(feed)
    assert list(expected) == list(found)
    for name, array in expected.items():
        scale = max(1.0, float(np.abs(array).max())) if array.size else 1.0
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance * scale, err_msg=name)
    return model


def assert_canonical(model: ir.Model) -> None:
    graph = model.graph
    assert dict(graph.opset_imports) == {"": CANONICAL_OPSET}
    assert not model.functions
    names = [node.name for node in graph]
    assert all(names) and len(set(names)) == len(names)
    assert not {value.name for value in graph.inputs} & set(graph.initializers)
    outputs = set(graph.outputs)
    for node in graph:
        kept_identity = node.op_type == "Identity" and node.outputs[0] in outputs
        assert node.op_type not in GONE or kept_identity, node.op_type
        for value in node.outputs:
            if value.name:
                static_shape(value)
                assert value.dtype is not None
                assert value.uses() or value in outputs or node.outputs[0].uses() or node.outputs[0] in outputs
        if node.op_type == "Gemm":
            assert {name: attribute.value for name, attribute in node.attributes.items()} == {"transB": 1}
        if node.op_type in ("Conv", "ConvTranspose", "MaxPool", "AveragePool"):
            assert "auto_pad" not in node.attributes
            assert {"kernel_shape", "strides", "pads"} <= set(node.attributes)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]
