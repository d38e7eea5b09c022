"""What every unit of a group is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.cost import node_macs
from edgeprune.ir.dependency import Group, UnitSlice
from edgeprune.ir.dependency.stored import stored
from edgeprune.ir.weights import WeightedLayer, weighted_layers

MULTIPLIED = {"MatMul": (0, 1), "Einsum": (0, 1), "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2)}
"""The inputs that are multiplied with others; 1 for operators not listed."""


@dataclass(frozen=True)
class UnitCost:
    """What one unit of a group costs on average: multiply-accumulates of one inference, and weights."""

    macs: float
    weights: float


def unit_scores(model: ir.Model, group: Group, saliencies: Mapping[str, np.ndarray]) -> np.ndarray:
    """The mean saliency of the weights that each unit of `group` owns, float64 [size].

    A unit owns the weights that make it and those that read it. `saliencies` by layer name are [groups, taps, in, out];
    layers without are left out. Between recurrent layers alone, which have none, the mean square of the weights counts.
    Raises EdgepruneError (saliency-missing) where a unit has no weight with a saliency.
    """
    layers = {layer.name: layer for layer in weighted_layers(model)}
    if not any(each.node in layers for each in group.slices):
        return _mean_squares(model, group)
    total, count = np.zeros(group.size), np.zeros(group.size)
    for each in group.slices:
        if each.index == 1 and each.node in saliencies and each.node in layers:
            array = _as_stored(layers[each.node], saliencies[each.node])
            lines = np.moveaxis(array, each.axis, 0).reshape(array.shape[each.axis], -1)
            owned = each.units >= 0
            np.add.at(total, each.units[owned], lines[owned].sum(axis=1, dtype=np.float64))
            np.add.at(count, each.units[owned], lines.shape[1])
    if np.any(count == 0):
        raise EdgepruneError(
            "saliency-missing",
            f"no saliency says what the units of group '{group.name}' are worth",
            where=f"group '{group.name}'",
            hint="give saliencies for the layers that make and read them",
        )
    return total / count


def _mean_squares(model: ir.Model, group: Group) -> np.ndarray:
    nodes = {str(node.name): node for node in model.graph}
    total, count = np.zeros(group.size), np.zeros(group.size)
    for each in group.slices:
        node = nodes[each.node]
        array = stored(node.inputs[each.index])
        if array is not None and each.index in MULTIPLIED.get(node.op_type, (1,)):
            lines = np.moveaxis(array, each.axis, 0).reshape(array.shape[each.axis], -1)
            owned = each.units >= 0
            np.add.at(total, each.units[owned], np.square(lines[owned], dtype=np.float64).sum(axis=1))
            np.add.at(count, each.units[owned], lines.shape[1])
    return np.asarray(total / np.maximum(count, 1))


def units_cost(model: ir.Model, group: Group) -> UnitCost:
    """What one unit of `group` costs now, zeros and padding included, as the mean over its units.

    Counted as `model_cost` does, biases left out; what several groups own together counts in full for each of them.
    """
    nodes = {str(node.name): node for node in model.graph}
    macs = weights = 0.0
    for name in dict.fromkeys(each.node for each in group.slices):
        node, slices = nodes[name], [each for each in group.slices if each.node == name]
        arrays = {index: stored(node.inputs[index]) for index in MULTIPLIED.get(node.op_type, (1,))}
        sizes = {index: array.size for index, array in arrays.items() if array is not None}
        left = {index: _kept_share([each for each in slices if each.index == index], group.size) for index in arrays}
        removed = sum(size * (1 - left[index]) for index, size in sizes.items())
        share = removed / sum(sizes.values()) if sizes else 1 - min(left.values())
        macs += node_macs(node) * share
        weights += removed if node_macs(node) else 0.0
    return UnitCost(macs, weights)


def _kept_share(slices: list[UnitSlice], size: int) -> float:
    """The share of a tensor that is left without one unit."""
    left = 1.0
    for each in slices:
        left *= 1 - np.count_nonzero(each.units >= 0) / size / len(each.units)
    return left


def _as_stored(layer: WeightedLayer, array: np.ndarray) -> np.ndarray:
    """`array` [groups, taps, in, out] in the order in which ONNX holds the weight, taps as one axis."""
    if layer.kind == "linear":
        transposed = layer.node.op_type == "Gemm" and layer.node.attributes.get_int("transB", 0) == 1
        return array[0, 0].T if transposed else array[0, 0]
    groups, taps, inputs, outputs = array.shape
    return array.transpose(0, 3, 2, 1).reshape(groups * outputs, inputs, taps)
