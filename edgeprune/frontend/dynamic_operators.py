"""Operators that round their input anew in every inference, as ONNX Runtime's dynamic quantizer writes them.

They become products of real numbers with the weights that are stored: only the rounding of the input is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.rewriting import constants_of, replace_nodes

_MICROSOFT = "com.microsoft"
_ROUNDING = "DynamicQuantizeLinear"
_PRODUCTS = {("", "MatMulInteger"): 2, ("", "ConvInteger"): 2, (_MICROSOFT, "MatMulIntegerToFloat"): 4}
"""Where products read the zero point of their input."""


def write_out_dynamic_operators(graphs: Iterable[onnx.GraphProto]) -> None:
    """Replace every product in `graphs` whose input is rounded dynamically, in place.

    Definitions: the ONNX standard; ONNX Runtime, ContribOperators.md. Raises EdgepruneError (op-unsupported) where
    weights are not constant.
    """
    for graph in graphs:
        replace_nodes(graph, _Writer(graph))


class _Writer:
    """Adds to `graph` the nodes that stand for others; `rounded` stay as they were, `real` are no integers now."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = constants_of(graph)
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in graph.node:
            for index, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, index))
        self.outputs = {value.name for value in graph.output}
        self.rounded = {node.output[0] for node in graph.node if self._only_multiplied(node)}
        self.real: set[str] = set()

    def convert(self, node: onnx.NodeProto) -> Callable[[onnx.NodeProto], None] | None:
        """How `node` is written out; None where it stays."""
        if node.op_type == _ROUNDING and node.output[0] in self.rounded:
            return self._unrounded
        if (node.domain, node.op_type) in _PRODUCTS and node.input[0] in self.rounded:
            return self._scaled_product if node.domain else self._product
        if node.domain != _MICROSOFT:
            return None
        return {"DynamicQuantizeMatMul": self._own_product, "DynamicQuantizeLSTM": self._lstm}.get(node.op_type)

    def write(self, node: onnx.NodeProto, convert: Callable[[onnx.NodeProto], None]) -> None:
        """Add what stands for `node`."""
        convert(node)

    def _only_multiplied(self, node: onnx.NodeProto) -> bool:
        """Whether `node` rounds what is read by products alone, whose sums become real numbers at once."""
        if node.op_type != _ROUNDING or node.domain or self.outputs & set(node.output):
            return False
        read = self.readers.get(node.output[0], [])
        zeros = self.readers.get(node.output[2], []) if len(node.output) > 2 else []
        return (
            all(index == 0 and self._is_product(reader) for reader, index in read)
            and all(self._is_product(reader) and index == _PRODUCTS[_kind(reader)] for reader, index in zeros)
            and {id(reader) for reader, _ in zeros} <= {id(reader) for reader, _ in read}
        )

    def _is_product(self, node: onnx.NodeProto) -> bool:
        if _kind(node) not in _PRODUCTS or node.input[1] not in self.constants:
            return False
        sums = node.output[0]
        return bool(node.domain) or (
            sums not in self.outputs and all(reader.op_type == "Cast" for reader, _ in self.readers.get(sums, []))
        )

    def _add(self, op: str, *inputs: str, result: str, like: onnx.NodeProto | None = None) -> None:
        made = helper.make_node(op, inputs, [result], name=(like.name if like is not None else "") or f"{result}_{op}")
        made.attribute.extend(like.attribute if like is not None else [])
        self.graph.node.append(made)

    def _constant(self, name: str, array: np.ndarray) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def _given(self, node: onnx.NodeProto, index: int, default: Any = 0) -> np.ndarray:
        name = node.input[index] if index < len(node.input) else ""
        if name and name not in self.constants:
            raise _refusal(node, f"its input {index} is computed")
        return self.constants[name] if name else np.asarray(default)

    def _unrounded(self, node: onnx.NodeProto) -> None:
        """The values themselves, with a scale of one."""
        self._add("Identity", node.input[0], result=node.output[0])
        self._constant(node.output[1], np.ones((), np.float32))
        self.real.update(node.output)

    def _product(self, node: onnx.NodeProto) -> None:
        weight, zero = self._given(node, 1).astype(np.float32), self._given(node, 3).astype(np.float32)
        convolves = node.op_type == "ConvInteger"
        if convolves and zero.size > 1:
            zero = zero.reshape(-1, *[1] * (weight.ndim - 1))
        name = self._constant(f"{node.output[0]}_weight", weight - zero)
        op = "Conv" if convolves else "MatMul"
        self._add(op, node.input[0], name, result=node.output[0], like=node)
        self.real.add(node.output[0])

    def _scaled_product(self, node: onnx.NodeProto) -> None:
        self._times(node, self._given(node, 3, 1), self._given(node, 5), 6)

    def _own_product(self, node: onnx.NodeProto) -> None:
        self._times(node, self._given(node, 2, 1), self._given(node, 3), 4)

    def _times(self, node: onnx.NodeProto, scale: np.ndarray, zero: np.ndarray, bias: int) -> None:
        weight = (self._given(node, 1).astype(np.float32) - zero.astype(np.float32)) * scale
        name, added = self._constant(f"{node.output[0]}_weight", weight), len(node.input) > bias and node.input[bias]
        product = f"{node.output[0]}_product" if added else node.output[0]
        self._add("MatMul", node.input[0], name, result=product)
        if added:
            self._add("Add", product, node.input[bias], result=node.output[0])

    def _lstm(self, node: onnx.NodeProto) -> None:
        """An LSTM; its weights come transposed, with a scale for each direction or each row of a direction."""
        inputs = [*node.input, *[""] * 12][:12]
        for index, scale, zero in ((1, 8, 9), (2, 10, 11)):
            stored = self._given(node, index).astype(np.float32)
            around = [
                array.reshape(_beside(array, stored))
                for array in (self._given(node, zero), self._given(node, scale, 1))
            ]
            real = ((stored - around[0].astype(np.float32)) * around[1]).transpose(0, 2, 1)
            inputs[index] = self._constant(f"{node.output[0] or node.name}_weight_{index}", real)
        while inputs[8:] or not inputs[-1]:
            inputs.pop()
        made = helper.make_node("LSTM", inputs, list(node.output), name=node.name)
        made.attribute.extend(node.attribute)
        self.graph.node.append(made)


def _beside(array: np.ndarray, weight: np.ndarray) -> tuple[int, ...]:
    """The shape in which scales broadcast with weights [directions, inputs, rows]."""
    if array.size == 1:
        return (1, 1, 1)
    return (weight.shape[0], 1, array.size // weight.shape[0])


def _kind(node: onnx.NodeProto) -> tuple[str, str]:
    return node.domain, node.op_type


def _refusal(node: onnx.NodeProto, why: str) -> EdgepruneError:
    return EdgepruneError(
        "op-unsupported",
        f"operator {node.op_type} cannot be imported: {why}",
        where=f"node '{node.name or node.output[0]}' ({node.op_type})",
        hint="export the model with constant weights, or before it is quantized",
    )
