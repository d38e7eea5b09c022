"""Scales channels between two layers against each other so that those of one layer have the same extent."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import only_consumer
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers, write_bias, write_weight

ROUNDS = 8
STRONGEST = 64.0
"""A channel is scaled by this at most, or its inverse."""

_HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")


@dataclass(frozen=True)
class Pair:
    """Two layers: `second` alone reads what `first` makes, behind operators that scales pass through."""

    first: WeightedLayer
    second: WeightedLayer


def equalized(model: ir.Model, keep_float: Collection[str] = ()) -> ir.Model | None:
    """A copy of `model` that computes the same, with channels equalized; None where no two layers allow it.

    Of two layers with a rectifier or nothing between, the weights that make a channel and those that read it get the
    same largest size; zeros stay. (Cross-layer equalization: Nagel et al. 2019, "Data-free quantization".)
    """
    result = copy_model(model)
    pairs = [pair for pair in find_pairs(result) if not {pair.first.name, pair.second.name} & set(keep_float)]
    if not pairs:
        return None
    for _ in range(ROUNDS):
        farthest = max(_equalize(pair) for pair in pairs)
        if farthest < 1.01:
            break
    return result


def find_pairs(model: ir.Model) -> Iterator[Pair]:
    """Every two layers whose channels can be scaled against each other, in graph order."""
    layers = weighted_layers(model)
    by_node = {id(layer.node): layer for layer in layers}
    for layer in layers:
        if layer.shared or read_bias(layer) is None:
            continue
        second = _reader(layer.node.outputs[0], by_node)
        if second is not None and not second.shared and len(_inputs(second)) == _outputs(layer):
            yield Pair(layer, second)


def _reader(value: ir.Value, layers: dict[int, WeightedLayer]) -> WeightedLayer | None:
    """The layer that alone reads `value`, behind operators that keep channels and their order."""
    while True:
        node = only_consumer(value)
        if node is None or (id(node) in layers and node.inputs[0] is not value):
            return None
        if id(node) in layers:
            return layers[id(node)]
        if node.domain or not (node.op_type in _HOMOGENEOUS or _drops_pixels(node)):
            return None
        value = node.outputs[0]


def _drops_pixels(node: ir.Node) -> bool:
    """Whether `node` makes a vector of an image of one pixel."""
    source, result = node.inputs[0], node.outputs[0]
    if node.op_type not in ("Reshape", "Flatten", "Squeeze") or source is None or None in (source.shape, result.shape):
        return False
    before, after = source.shape.numpy(), result.shape.numpy()  # type: ignore[union-attr]
    return len(before) > 2 and len(after) == 2 and before[1] == after[1] and all(size == 1 for size in before[2:])


def _equalize(pair: Pair) -> float:
    """Scale the channels between two layers; the strongest scale that was needed, or its inverse."""
    made, read = _outputs_of(pair.first), _inputs(pair.second)
    usable = (made > 0) & (read > 0)
    scale = np.where(usable, np.sqrt(np.where(usable, made, 1.0) / np.where(usable, read, 1.0)), 1.0)
    scale = np.exp2(np.rint(8 * np.log2(np.clip(scale, 1 / STRONGEST, STRONGEST))) / 8)
    _scale_outputs(pair.first, 1 / scale)
    _scale_inputs(pair.second, scale)
    return float(np.max(np.maximum(scale, 1 / scale), initial=1.0))


def _outputs_of(layer: WeightedLayer) -> np.ndarray:
    """The largest weight of each output channel."""
    return np.asarray(np.abs(read_weight(layer)).max(axis=(1, 2)).reshape(-1), np.float64)


def _inputs(layer: WeightedLayer) -> np.ndarray:
    """The largest weight of each input channel."""
    return np.asarray(np.abs(read_weight(layer)).max(axis=(1, 3)).reshape(-1), np.float64)


def _outputs(layer: WeightedLayer) -> int:
    weight = read_weight(layer)
    return int(weight.shape[0] * weight.shape[3])


def _scale_outputs(layer: WeightedLayer, scale: np.ndarray) -> None:
    weight, bias = read_weight(layer), read_bias(layer)
    shaped = scale.reshape(len(weight), 1, 1, -1)
    write_weight(layer, (weight * shaped).astype(np.float32))
    if layer.bias is not None and bias is not None:
        write_bias(layer, (bias * scale).astype(np.float32))


def _scale_inputs(layer: WeightedLayer, scale: np.ndarray) -> None:
    weight = read_weight(layer)
    write_weight(layer, (weight * scale.reshape(len(weight), 1, -1, 1)).astype(np.float32))
