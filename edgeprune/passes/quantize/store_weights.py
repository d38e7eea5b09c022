"""Puts the weights of a model that arrived quantized back into integers after they were pruned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import constant
from edgeprune.ir.quantization import StoredTensor, check_quantization, grid_of, read_stored, write_stored
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers
from edgeprune.passes.quantize.weights import (
    drop,
    least_squares_scale,
    nearest,
    store_bias,
    store_weight,
    widened,
)

_TRIED = 32
"""So many weights of a channel are tried on every grid first."""


@dataclass(frozen=True)
class StoreWeights:
    """Give the constants of a model with real weights the integers that they had in `arrived`, the model it came from.

    A weight whose output channels all lie on grids that its channels had in `arrived`, unchanged, zeroed, reordered or
    fewer, keeps integers, scales and zero point. A weight that was changed otherwise becomes int8, symmetric, with a
    scale for each output channel. Biases are int32 at the scale of the products. What is computed keeps its pairs of
    QuantizeLinear and DequantizeLinear.
    """

    arrived: ir.Model

    def __call__(self, model: ir.Model) -> ir.Model:
        """A copy of `model` in integers; nodes are told by their names.

        Raises EdgepruneError (quantization-invalid) where a scale of `arrived` is not positive and finite.
        """
        check_quantization(self.arrived)
        result = copy_model(model)
        for value in list(result.graph.initializers.values()):
            drop(result.graph, value)
        before = {str(node.name): node for node in self.arrived.graph}
        layers = {id(layer.node): layer for layer in weighted_layers(result)}
        for node in list(result.graph):
            origin = before.get(str(node.name))
            if origin is None or origin.op_type != node.op_type or node.op_type.endswith("quantizeLinear"):
                continue
            if id(node) in layers:
                _store_layer(layers[id(node)], origin)
            for index, source in enumerate(origin.inputs[: len(node.inputs)]):
                tensor = read_stored(source)
                if tensor is not None:
                    _store_unchanged(node, index, tensor)
        return result


def holds_integers(model: ir.Model, arrived: ir.Model) -> bool:
    """Whether all that has integers for constants in `arrived` has some in `model` too; nodes are told by names."""
    before = {str(node.name): node for node in arrived.graph}
    pairs = (
        (value, origin)
        for node in model.graph
        if str(node.name) in before and not node.op_type.endswith("quantizeLinear")
        for value, origin in zip(node.inputs, before[str(node.name)].inputs, strict=False)
    )
    return all(read_stored(value) is not None for value, origin in pairs if read_stored(origin) is not None)


def _store_layer(layer: WeightedLayer, origin: ir.Node) -> None:
    """The weight and the bias of `layer`, which came from `origin`, in integers; float where they were float."""
    stored = read_stored(origin.inputs[1])
    array = constant(layer.node.inputs[1])
    if stored is None or array is None:
        return
    found = on_grids(array, stored)
    if found is not None:
        tensor, channels = found
        _replace(layer.node, 1, tensor)
        _store_bias(layer, origin, channels)
        return
    weight, bias, grid = read_weight(layer), read_bias(layer), grid_of(layer.node.inputs[0])
    scale = least_squares_scale(weight)
    if bias is not None and grid is not None:
        scale = widened(scale, bias, grid.scale)
        store_bias(layer, scale, grid.scale)
    store_weight(layer, nearest(weight, scale))


def _store_bias(layer: WeightedLayer, origin: ir.Node, channels: np.ndarray) -> None:
    """The bias of a layer whose output channels have the grids of the old `channels`, at the scales it had."""
    bias = None if layer.bias is None else constant(layer.bias)
    stored = read_stored(origin.inputs[2]) if len(origin.inputs) > 2 else None
    if bias is None or stored is None:
        return
    scale = stored.scale if stored.scale.size == 1 else stored.scale[channels]
    extent = np.iinfo(stored.integers.dtype)
    whole = np.clip(np.rint(bias.astype(np.float64) / scale), extent.min, extent.max).astype(stored.integers.dtype)
    _replace(layer.node, 2, StoredTensor(whole, scale, np.zeros(1, whole.dtype), 0))


def _store_unchanged(node: ir.Node, index: int, stored: StoredTensor) -> None:
    """A constant that no layer holds, in integers where it lies on the grid that it had."""
    value = node.inputs[index]
    array = constant(value)
    found = None if array is None or array.dtype.kind != "f" else on_grids(array, stored)
    if found is not None:
        _replace(node, index, found[0])


def on_grids(array: np.ndarray, stored: StoredTensor) -> tuple[StoredTensor, np.ndarray] | None:
    """`array` in integers if every place along the axis of `stored` lies on one of its grids; None if one does not.

    With the numbers of the places of `stored` whose grids they are. With one grid for all, the places are those along
    the first axis, or the axis of `stored`, in order.
    """
    if stored.scale.size == 1:
        whole = _on_grid(array, stored.scale.reshape(()), stored.zero.reshape(-1)[0], stored.integers.dtype)
        return (
            None if whole is None else (StoredTensor(whole, stored.scale, stored.zero, stored.axis), np.zeros(1, int))
        )
    if array.ndim != stored.integers.ndim:
        return None
    axis = stored.axis % array.ndim
    lines = np.moveaxis(array, axis, 0)
    zero = np.broadcast_to(stored.zero, stored.scale.shape)
    channels = np.zeros(len(lines), int)
    integers = np.empty(lines.shape, stored.integers.dtype)
    for place, line in enumerate(lines):
        for channel in _likely(line, place, stored.scale):
            whole = _on_grid(line, stored.scale[channel], zero[channel], stored.integers.dtype)
            if whole is not None:
                channels[place], integers[place] = channel, whole
                break
        else:
            return None
    moved = np.ascontiguousarray(np.moveaxis(integers, 0, axis))
    return StoredTensor(moved, stored.scale[channels], zero[channels], axis), channels


def _likely(line: np.ndarray, place: int, scale: np.ndarray) -> list[int]:
    """The grids to try on a channel: its own, and those that its first weights lie on."""
    first = line[line != 0].reshape(-1)[:_TRIED].astype(np.float64)
    steps = first[None, :] / scale[:, None].astype(np.float64)
    apart = np.abs(steps - np.rint(steps)).max(axis=1, initial=0.0)
    others = np.flatnonzero(apart < 1e-3)
    own = [place] if place < len(scale) else []
    return [*own, *(int(each) for each in others if each != place)]


def _on_grid(array: np.ndarray, scale: np.ndarray, zero: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """The integers that stand for exactly `array`; None where there are none."""
    extent = np.iinfo(dtype)
    start = float(zero)
    whole = np.clip(np.rint(array.astype(np.float64) / float(scale) + start), extent.min, extent.max)
    real = (whole - start).astype(np.float32) * np.float32(scale)
    return whole.astype(dtype) if np.array_equal(real, array) else None


def _replace(node: ir.Node, index: int, tensor: StoredTensor) -> None:
    """Give `tensor` to all that read input `index` of `node`, which is the first of them."""
    value, graph = node.inputs[index], node.graph
    assert value is not None
    assert isinstance(graph, ir.Graph)
    name = str(value.name).removesuffix("_real").removesuffix("_stored")
    real = write_stored(graph, name, tensor, node)
    for use in list(value.uses()):
        use.node.replace_input_with(use.idx, real)
    drop(graph, value)
