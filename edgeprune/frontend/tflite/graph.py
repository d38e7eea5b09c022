"""Builds an ONNX graph node by node; the shape and type of every value are known as soon as it exists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from edgeprune.ir.canonical_version import CANONICAL_OPSET, IR_VERSION
from edgeprune.ir.edit import constant

_FOLDED_ELEMENTS = 4096
_KEPT = ("QuantizeLinear", "DequantizeLinear")


class GraphBuilder:
    """A graph in operator set CANONICAL_OPSET that grows from its inputs to its outputs."""

    def __init__(self, name: str) -> None:
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": CANONICAL_OPSET}, name=name)
        self._taken: set[str] = set()
        self._node_names: set[str] = set()

    def model(self) -> ir.Model:
        """The model around the graph."""
        return ir.Model(self.graph, ir_version=IR_VERSION, producer_name="edgeprune")

    def input(self, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> ir.Value:
        """A new input of the graph."""
        kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
        value = ir.Value(name=self.unique(name), shape=ir.Shape(shape), type=kind)
        self.graph.inputs.append(value)
        return value

    def constant(self, array: np.ndarray, name: str = "constant") -> ir.Value:
        """A new initializer."""
        unique = self.unique(name)
        tensor = ir.tensor(np.asarray(array, order="C"), name=unique)
        kind = ir.TensorType(tensor.dtype)
        value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def add(self, name: str, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any]) -> ir.Value:
        """The result of a new node. Small results of constants alone are computed at once."""
        return self.add_all(name, op, inputs, attributes, 1)[0]

    def add_all(
        self, name: str, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], count: int
    ) -> list[ir.Value]:
        """The `count` results of a new node. Raises ValueError where the inputs do not fit the operator."""
        node = ir.node(op, inputs, attributes, num_outputs=count, name=_free(name, self._node_names))
        for index, value in enumerate(node.outputs):
            value.name = self.unique(f"{node.name}_{index}" if index else f"{node.name}_output")
        self._infer(node)
        folded = self._folded(node)
        if folded is not None:
            return [self.constant(array, str(value.name)) for array, value in zip(folded, node.outputs, strict=True)]
        self.graph.append(node)
        return list(node.outputs)

    def unique(self, name: str) -> str:
        """`name`, or with a number where it is taken; it is taken from now on."""
        return _free(name, self._taken)

    def _infer(self, node: ir.Node) -> None:
        schema = onnx.defs.get_schema(node.op_type, CANONICAL_OPSET, "")
        given = {str(value.name): value for value in node.inputs if value is not None}
        kinds = {name: _type_proto(value) for name, value in given.items()}
        arrays = {name: constant(value) for name, value in given.items()}
        small = {
            name: onnx.numpy_helper.from_array(array, name)
            for name, array in arrays.items()
            if array is not None and array.size <= _FOLDED_ELEMENTS
        }
        opsets = [onnx.helper.make_opsetid("", CANONICAL_OPSET)]
        found = onnx.shape_inference.infer_node_outputs(
            schema, ir.to_proto(node), kinds, small, opset_imports=opsets, ir_version=IR_VERSION
        )
        for value in node.outputs:
            kind = found[str(value.name)].tensor_type
            dims = kind.shape.dim
            if not kind.HasField("shape") or not all(axis.HasField("dim_value") for axis in dims):
                raise ValueError(f"the shape of tensor '{value.name}' cannot be known before the model runs")
            value.type = ir.TensorType(ir.DataType(kind.elem_type))
            value.shape = ir.Shape([axis.dim_value for axis in dims])

    def _folded(self, node: ir.Node) -> list[np.ndarray] | None:
        arrays = [constant(value) for value in node.inputs if value is not None]
        sizes = [_size(value) for value in (*node.inputs, *node.outputs) if value is not None]
        if node.op_type in _KEPT or any(array is None for array in arrays) or sum(sizes) > _FOLDED_ELEMENTS:
            return None
        names = [str(value.name) for value in node.inputs if value is not None]
        evaluator = ReferenceEvaluator(ir.to_proto(node), opsets={"": CANONICAL_OPSET})
        results = evaluator.run(None, dict(zip(names, arrays, strict=True)))
        return [np.asarray(result) for result in results]


def _free(name: str, taken: set[str]) -> str:
    chosen, count = name, 1
    while chosen in taken:
        chosen, count = f"{name}_{count}", count + 1
    taken.add(chosen)
    return chosen


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a value that the builder made."""
    assert value.shape is not None
    return tuple(int(size) for size in value.shape.numpy())


def _size(value: ir.Value) -> int:
    return math.prod(shape_of(value))


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    assert value.dtype is not None
    return onnx.helper.make_tensor_type_proto(int(value.dtype), shape_of(value))
