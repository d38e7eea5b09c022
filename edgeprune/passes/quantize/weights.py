"""Weights in eight bits: symmetric, one scale for each output channel, zeros stay zeros."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.quantization import SMALLEST_SCALE, StoredTensor, write_stored
from edgeprune.ir.weights import WeightedLayer, read_bias, write_weight

LARGEST = 127
"""Weights are stored as -LARGEST to LARGEST."""

LARGEST_BIAS = 1 << 30
STEPS = 40
SHORTEST = 0.6


@dataclass(frozen=True)
class IntegerWeight:
    """Whole numbers [groups, taps, in, out] and a scale for each output channel, [groups, 1, 1, out], float32."""

    integers: np.ndarray
    scale: np.ndarray

    def real(self) -> np.ndarray:
        """The float32 weights that they stand for."""
        return np.asarray(self.integers * self.scale, np.float32)


def largest_scale(weight: np.ndarray) -> np.ndarray:
    """The scale [groups, 1, 1, out] at which the largest weight of a channel is LARGEST; 1 for channels of zeros."""
    most = np.abs(weight).max(axis=(1, 2), keepdims=True)
    return np.where(most > 0, np.maximum(most / LARGEST, SMALLEST_SCALE), 1.0).astype(np.float32)


def least_squares_scale(weight: np.ndarray, power: np.ndarray | float = 1.0) -> np.ndarray:
    """The scale [groups, 1, 1, out] with the least squared error of the rounded weights, each times its `power`.

    `power` goes with `weight`: the mean square of the inputs. Channels go from their largest weight down to SHORTEST
    of it.
    """
    full = largest_scale(weight)
    best, least = full, _squares(weight, full, power)
    for share in np.linspace(1.0, SHORTEST, STEPS)[1:]:
        scale = (full * np.float32(share)).astype(np.float32)
        error = _squares(weight, scale, power)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def nearest(weight: np.ndarray, scale: np.ndarray) -> IntegerWeight:
    """Every weight as the nearest whole multiple of its scale."""
    whole = np.clip(np.rint(weight / scale), -LARGEST, LARGEST)
    return IntegerWeight(whole.astype(np.float32), scale.astype(np.float32))


def widened(scale: np.ndarray, bias: np.ndarray, input_scale: float) -> np.ndarray:
    """The scale, larger where the bias [groups * out] would not fit into 32 bits at input scale times scale."""
    needed = np.abs(bias.astype(np.float64)).reshape(len(scale), 1, 1, -1) / (LARGEST_BIAS * input_scale)
    return np.maximum(scale, needed).astype(np.float32)


def store_weight(layer: WeightedLayer, weight: IntegerWeight) -> None:
    """Make `layer` read int8 weights with one scale for each output channel."""
    graph = layer.node.graph
    assert isinstance(graph, ir.Graph)
    name = str(layer.weight.name)
    integers = stored_order(layer, weight.integers)
    stored = StoredTensor(integers, weight.scale.reshape(-1), np.zeros(1, np.int8), _axis(layer))
    layer.node.replace_input_with(1, write_stored(graph, name, stored, layer.node))
    drop(graph, layer.weight)


def store_bias(layer: WeightedLayer, scale: np.ndarray, input_scale: float) -> None:
    """Make `layer` read its constant bias in int32, at input scale times `scale` of the weights, where it has one."""
    bias, values = layer.bias, read_bias(layer)
    graph = layer.node.graph
    if bias is None or values is None:
        return
    assert isinstance(graph, ir.Graph)
    steps = np.float32(input_scale) * scale.reshape(-1).astype(np.float32)
    whole = np.clip(np.rint(values.astype(np.float64) / steps), -(2.0**31), 2.0**31 - 1).astype(np.int32)
    stored = StoredTensor(whole, steps, np.zeros(1, np.int32), 0)
    layer.node.replace_input_with(2, write_stored(graph, str(bias.name), stored, layer.node))
    drop(graph, bias)


def stored_order(layer: WeightedLayer, integers: np.ndarray) -> np.ndarray:
    """Whole numbers [groups, taps, in, out] as int8 in the order that ONNX holds the weight of `layer`."""
    before = layer.weight.const_value
    write_weight(layer, integers)
    held = layer.weight.const_value
    assert held is not None
    array = np.asarray(held.numpy().astype(np.int8))
    layer.weight.const_value = before
    return array


def drop(graph: ir.Graph, value: ir.Value) -> None:
    """Forget a constant that nothing reads any more."""
    if not value.uses() and not value.is_graph_output() and value.name in graph.initializers:
        graph.initializers.pop(str(value.name))


def _axis(layer: WeightedLayer) -> int:
    transposed = layer.node.op_type == "Conv" or layer.node.attributes.get_int("transB", 0) == 1
    return 0 if transposed else 1


def _squares(weight: np.ndarray, scale: np.ndarray, power: np.ndarray | float) -> np.ndarray:
    errors = nearest(weight, scale).real() - weight
    return np.sum(np.square(errors, dtype=np.float64) * power, axis=(1, 2), keepdims=True)
