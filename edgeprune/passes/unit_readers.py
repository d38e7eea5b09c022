"""The layers that read the units of a group, and what their outputs lose when units go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeprune.ir.dependency import Group, UnitSlice
from edgeprune.ir.weights import WeightedLayer, read_weight
from edgeprune.passes.criteria.curvature import damped
from edgeprune.passes.output_costs import output_costs
from edgeprune.passes.statistics import InputMoments

LARGEST = 1152
"""Layers with more inputs to one output are not fitted here: to invert their moments would take too long."""


class Reader:
    """A layer of one group that reads the units; `rows` [units, n] are the inputs of each, `costs` those of outputs.

    `weights` [F, out] are the best that there are without the units that are gone.
    """

    def __init__(self, layer: WeightedLayer, moments: InputMoments, rows: np.ndarray, costs: np.ndarray) -> None:
        start = read_weight(layer).astype(np.float64)
        self.layer, self.mean = layer, moments.mean[0]
        self.weights = start.reshape(-1, start.shape[3])
        self._moments, self._rows, self._costs = moments, rows, costs
        self._inverse = np.linalg.inv(damped(moments.second, moments.power)[0])

    def anew(self) -> Reader:
        """The same reader with every unit there."""
        return Reader(self.layer, self._moments, self._rows, self._costs)

    def costs(self, units: np.ndarray) -> np.ndarray:
        """What the loss of each of `units`, alone, costs the outputs after the others were fitted again, [units]."""
        rows = self._rows[units]
        weights = self.weights[rows]
        solved = np.linalg.solve(self._inverse[rows[:, :, None], rows[:, None, :]], weights)
        return np.asarray(np.einsum("uro,uro,o->u", weights, solved, self._costs))

    def remove(self, units: np.ndarray) -> float:
        """Take out `units` together and fit the other weights again; what that costs."""
        rows = self._rows[units].reshape(-1)
        weights = self.weights[rows]
        across = self._inverse[:, rows]
        inner = np.linalg.inv(across[rows])
        solved = inner @ weights
        self.weights -= across @ solved
        self.weights[rows] = 0.0
        self._inverse -= across @ inner @ across.T
        self._inverse[rows], self._inverse[:, rows] = 0.0, 0.0
        self._inverse[rows, rows] = 1.0
        return float(np.sum(weights * solved * self._costs))


def readers_of(
    group: Group,
    layers: Mapping[str, WeightedLayer],
    moments: Mapping[str, InputMoments],
    fisher: Mapping[str, np.ndarray] | None,
) -> list[Reader]:
    """The readers of all units of `group`; none where some cannot be fitted."""
    slices = [each for each in group.slices if each.role == "in"]
    found = []
    for each in slices:
        rows = _rows(each, group, layers, moments)
        if rows is None:
            return []
        layer = layers[each.node]
        start = read_weight(layer)
        flat = start.reshape(1, -1, start.shape[3]).astype(np.float64)
        costs = output_costs(layer, flat, moments[each.node].second, fisher)[0]
        found.append(Reader(layer, moments[each.node], rows, costs))
    return found


def _rows(
    each: UnitSlice,
    group: Group,
    layers: Mapping[str, WeightedLayer],
    moments: Mapping[str, InputMoments],
) -> np.ndarray | None:
    """The inputs [units, n] that hold each unit; None where the layer is no plain one, or units differ in number."""
    layer = layers.get(each.node)
    if layer is None or layer.shared or layer.groups != 1 or each.index != 1 or each.node not in moments:
        return None
    _, taps, inputs, _ = read_weight(layer).shape
    if taps * inputs > LARGEST or len(each.units) != inputs:
        return None
    places = [np.flatnonzero(each.units == unit) for unit in range(group.size)]
    if len({len(place) for place in places}) != 1 or not len(places[0]):
        return None
    spread = np.arange(taps)[:, None] * inputs
    return np.stack([(spread + place).reshape(-1) for place in places])
