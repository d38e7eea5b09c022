"""What is left of a model's work and weights without some of its units, counted without taking them out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.cost import LayerCost, model_cost
from edgeprune.ir.dependency import Group
from edgeprune.ir.dependency.stored import stored
from edgeprune.passes.unit_scores import MULTIPLIED


@dataclass(frozen=True)
class _Owned:
    """The places along one axis of a tensor that units of a group own; -1 where none does."""

    group: str
    units: np.ndarray


@dataclass(frozen=True)
class _Layer:
    """A layer, the elements of its weights by input, and who owns the places of their axes, by input and axis."""

    cost: LayerCost
    sizes: Mapping[int, int]
    axes: Mapping[tuple[int, int], tuple[_Owned, ...]]

    def weights(self, gone: Mapping[str, np.ndarray]) -> float:
        """The weights that are left."""
        return sum(size * self._share(index, gone) for index, size in self.sizes.items())

    def macs(self, gone: Mapping[str, np.ndarray]) -> float:
        """The multiply-accumulates that are left."""
        if self.sizes:
            return self.cost.dense_macs * self.weights(gone) / max(1, sum(self.sizes.values()))
        shares = [self._share(index, gone) for index in {index for index, _ in self.axes}]
        return self.cost.dense_macs * min(shares, default=1.0)

    def _share(self, index: int, gone: Mapping[str, np.ndarray]) -> float:
        axes = [owners for (place, _), owners in self.axes.items() if place == index]
        return math.prod(_left(owners, gone) for owners in axes)


class UnitShares:
    """Counts what is left of `model` without units of `groups`, as `model_cost` counts what `SelectUnits` leaves.

    A product of two activations counts by the one that loses more. Units that are rows of what a layer multiplies with
    its weights, as channels are where weights mix tokens, are counted as if they stayed.
    """

    def __init__(self, model: ir.Model, groups: Iterable[Group]) -> None:
        found = list(groups)
        nodes = {str(node.name): node for node in model.graph}
        self._sizes = {group.name: group.size for group in found}
        self._layers = [_layer(cost, nodes[cost.name], found) for cost in model_cost(model).layers]
        self._macs = sum(layer.cost.dense_macs for layer in self._layers)
        self._weights = sum(sum(layer.sizes.values()) for layer in self._layers)

    def left(self, kept: Mapping[str, np.ndarray]) -> float:
        """The share of the work or of the weights that is left, the larger, with the units `kept` by group."""
        gone = {name: ~np.isin(np.arange(self._sizes[name]), units) for name, units in kept.items()}
        macs = sum(layer.macs(gone) for layer in self._layers)
        weights = sum(layer.weights(gone) for layer in self._layers)
        return max(macs / max(1, self._macs), weights / max(1, self._weights))


def _layer(cost: LayerCost, node: ir.Node, groups: Iterable[Group]) -> _Layer:
    axes: dict[tuple[int, int], tuple[_Owned, ...]] = {}
    counted = MULTIPLIED.get(node.op_type, (1,))
    for group in groups:
        for each in group.slices:
            if each.node == cost.name and each.index in counted:
                place = (each.index, each.axis)
                axes[place] = (*axes.get(place, ()), _Owned(group.name, each.units))
    arrays = {index: stored(node.inputs[index]) for index in counted}
    sizes = {index: int(array.size) for index, array in arrays.items() if array is not None}
    return _Layer(cost, sizes, axes)


def _left(owners: Iterable[_Owned], gone: Mapping[str, np.ndarray]) -> float:
    """The share of the places of an axis that stay."""
    lost = [(each.units >= 0) & gone[each.group][each.units] for each in owners if each.group in gone]
    return 1.0 - float(np.mean(np.any(lost, axis=0))) if lost else 1.0
