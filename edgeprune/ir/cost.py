"""What a model costs: multiply-accumulates and weights, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import constant
from edgeprune.ir.ports import static_shape


@dataclass(frozen=True)
class LayerCost:
    """One weighted or matrix-shaped node.

    `dense_macs` counts every multiply-accumulate, padding included; `macs` those with a weight that is not zero.
    """

    name: str
    op: str
    macs: int
    dense_macs: int
    weights: int
    nonzero_weights: int

    @property
    def density(self) -> float:
        """The share of weights that are not zero; 1.0 where there are none."""
        return self.nonzero_weights / self.weights if self.weights else 1.0


@dataclass(frozen=True)
class ModelCost:
    """The layers of a model in order, and their sums."""

    layers: tuple[LayerCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates with a weight that is not zero."""
        return sum(layer.macs for layer in self.layers)

    @property
    def dense_macs(self) -> int:
        """All multiply-accumulates."""
        return sum(layer.dense_macs for layer in self.layers)

    @property
    def weights(self) -> int:
        """Weights of all layers; biases are not counted."""
        return sum(layer.weights for layer in self.layers)

    @property
    def nonzero_weights(self) -> int:
        """Weights that are not zero."""
        return sum(layer.nonzero_weights for layer in self.layers)


def model_cost(model: ir.Model) -> ModelCost:
    """The cost of every node of `model` that multiplies and accumulates; shapes must be fixed."""
    return ModelCost(tuple(_layer_cost(node) for node in model.graph if node.op_type in _MACS and not node.domain))


def node_macs(node: ir.Node) -> int:
    """The multiply-accumulates of one run of `node`, zeros and padding included; 0 for ops without any."""
    count = _MACS.get(node.op_type) if not node.domain else None
    return count(node) if count is not None else 0


def _layer_cost(node: ir.Node) -> LayerCost:
    arrays = [constant(node.inputs[index]) for index in _WEIGHT_INPUTS[node.op_type] if index < len(node.inputs)]
    weights = sum(array.size for array in arrays if array is not None)
    nonzero = sum(int(np.count_nonzero(array)) for array in arrays if array is not None)
    dense = node_macs(node)
    kept = dense * nonzero // weights if weights else dense
    return LayerCost(str(node.name), node.op_type, kept, dense, weights, nonzero)


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    assert value is not None
    return static_shape(value)


def _conv(node: ir.Node) -> int:
    return math.prod(_shape(node.outputs[0])) * math.prod(_shape(node.inputs[1])[1:])


def _conv_transpose(node: ir.Node) -> int:
    return math.prod(_shape(node.inputs[0])) * math.prod(_shape(node.inputs[1])[1:])


def _gemm(node: ir.Node) -> int:
    left = _shape(node.inputs[0])
    return math.prod(_shape(node.outputs[0])) * left[0 if node.attributes.get_int("transA") == 1 else 1]


def _matmul(node: ir.Node) -> int:
    return math.prod(_shape(node.outputs[0])) * _shape(node.inputs[0])[-1]


def _recurrent(node: ir.Node) -> int:
    steps, batch = _shape(node.inputs[0])[:2]
    return steps * batch * (math.prod(_shape(node.inputs[1])) + math.prod(_shape(node.inputs[2])))


def _einsum(node: ir.Node) -> int:
    """One multiply-accumulate per point of the index space of a two-operand product; ellipses count as their axes."""
    equation = node.attributes.get_string("equation", "").replace(" ", "").partition("->")[0]
    sizes: dict[str, int] = {}
    for term, value in zip(equation.split(","), node.inputs, strict=True):
        shape = _shape(value)
        head, dots, tail = term.partition("...")
        hidden = len(shape) - len(head) - len(tail)
        names = [*head, *(f"...{hidden - i}" for i in range(hidden if dots else 0)), *tail]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    return math.prod(sizes.values()) if len(node.inputs) > 1 else 0


_MACS: dict[str, Callable[[ir.Node], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
_WEIGHT_INPUTS: dict[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "MatMul": (0, 1),
    "Einsum": (0, 1),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
}
