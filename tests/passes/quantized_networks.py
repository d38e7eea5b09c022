"""Small quantized networks, made node by node, for the tests of what never varies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper


class Quantized:
    """A graph under construction; values are names, activations int8 on grids of one scale each."""

    def __init__(self, shape: Sequence[int], scale: float = 0.5, zero: int = 0) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._scales: dict[str, float] = {}
        self.shape = list(shape)
        self.input_grid = scale, zero
        self.data = self.stored("x", scale, zero)

    def stored(self, value: str, scale: float, zero: int) -> str:
        """`value` through Q and DQ."""
        pair = [self._constant(np.float32(scale)), self._constant(np.int8(zero))]
        quantized = self._add("QuantizeLinear", [value, *pair], {})
        found = self._add("DequantizeLinear", [quantized, *pair], {})
        self._scales[found] = scale
        return found

    def conv(
        self, data: str, weight: np.ndarray, bias: np.ndarray | None, scale: float, zero: int, **attributes: Any
    ) -> str:
        """A Conv with int8 weights [O, I / group, ...] of scale 0.25 and an int32 bias, its result stored."""
        inputs = [data, self._weight(weight)]
        if bias is not None:
            step = self._constant(np.full(len(bias), np.float32(0.25) * np.float32(self._scales[data]), np.float32))
            inputs.append(self._add("DequantizeLinear", [self._constant(bias.astype(np.int32)), step], {"axis": 0}))
        return self.stored(self._add("Conv", inputs, attributes), scale, zero)

    def gemm(self, data: str, weight: np.ndarray, scale: float, zero: int) -> str:
        """A Gemm with int8 weights [outputs, inputs] and no bias, its result stored."""
        return self.stored(self._add("Gemm", [data, self._weight(weight)], {"transB": 1}), scale, zero)

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Any node."""
        return self._add(op, inputs, attributes)

    def array(self, array: np.ndarray) -> str:
        """A constant."""
        return self._constant(array)

    def sizes(self, value: str) -> tuple[int, ...]:
        """The shape of `value`."""
        found = next(each for node in self.model(value).graph for each in node.outputs if each.name == value)
        assert found.shape is not None
        return tuple(int(size) for size in found.shape.numpy())

    def model(self, *outputs: str) -> ir.Model:
        """The model with these outputs, every shape known."""
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, "small", [given], results, self._constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))

    def _weight(self, weight: np.ndarray) -> str:
        step = self._constant(np.full(len(weight), 0.25, np.float32))
        return self._add("DequantizeLinear", [self._constant(weight.astype(np.int8)), step], {"axis": 0})

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _add(self, op: str, inputs: Sequence[str], attributes: dict[str, Any]) -> str:
        name = f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [f"{name}_output"], name, **attributes))
        return f"{name}_output"
