"""Weights matter by what the outputs of the network really change by without them.

Weights go by tiles: each layer is cut into at most TILES parts along input and output channels. What removing one
costs is measured on the whole network and shared out among its weights by squared weight times input power.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.weights import WeightedLayer, read_weight
from edgeprune.passes.criteria.criterion import ByScore
from edgeprune.passes.criteria.wanda import Wanda
from edgeprune.passes.loss_meter import LossMeter

TILES = 32
ROWS = 32
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Ablation(ByScore):
    """The loss of the outputs' log-likelihood with a tile of weights at zero."""

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """What each tile costs, shared out among its weights."""
        shares = Wanda().saliencies(model, samples, seed)
        meter = LossMeter(model, samples, ROWS)
        return {layer.name: self._measured(meter, layer, shares.get(layer.name)) for layer in meter.layers}

    def _measured(self, meter: LossMeter, layer: WeightedLayer, given: np.ndarray | None) -> np.ndarray:
        weight = read_weight(layer)
        shares = weight**2 if given is None else given
        found = np.zeros(weight.shape, np.float32)
        for group, row, column in self._tiles(weight.shape):
            without = weight.copy()
            without[group, :, row, column] = 0
            cost = max(meter.loss(layer, without), 0.0)
            part = shares[group, :, row, column]
            found[group, :, row, column] = cost * part / max(float(part.sum()), _SMALLEST)
        return found

    def _tiles(self, shape: tuple[int, ...]) -> list[tuple[slice, slice, slice]]:
        """Ranges of groups, inputs and outputs: groups are cut first, then outputs, then inputs."""
        groups = _ranges(shape[0], TILES)
        along = max(1, TILES // len(groups))
        outputs = _ranges(shape[3], max(1, round(along**0.5)) if shape[2] > 1 else along)
        inputs = _ranges(shape[2], max(1, along // len(outputs)))
        return [(group, row, column) for group in groups for row in inputs for column in outputs]


def _ranges(size: int, count: int) -> list[slice]:
    """At most `count` ranges of about equal length that make up `size`."""
    edges = np.linspace(0, size, min(size, count) + 1).round().astype(int)
    return [slice(int(begin), int(end)) for begin, end in pairwise(edges)]
