"""Zeroes the weights that a pattern and a level leave out, by their size alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.ir.copy import copy_model
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers, write_weight
from edgeprune.mask import mask_from_scores
from edgeprune.pattern import Level

PATTERN_KEY = "edgeprune.pattern"
"""The node metadata entry that holds the pattern of its zeros."""


@dataclass(frozen=True)
class Prune:
    """Keep in each layer of `levels` (by node name) the blocks that score highest; other layers stay as they are."""

    levels: Mapping[str, Level]

    def __call__(self, model: ir.Model, scores: Mapping[str, np.ndarray] | None = None) -> ir.Model:
        """A pruned copy of `model`, the pattern noted on each pruned node.

        `scores` by layer name are [groups, taps, in, out]; a layer without scores goes by squared weights. Raises
        EdgepruneError (layer-unknown) where a level names no layer with weights.
        """
        pruned = copy_model(model)
        check_levels(pruned, self.levels)
        layers = {layer.name: layer for layer in weighted_layers(pruned)}
        for name, level in self.levels.items():
            weight = read_weight(layers[name])
            given = None if scores is None else scores.get(name)
            mask = mask_from_scores(weight**2 if given is None else given, level.pattern, level.density)
            write_weight(layers[name], weight * mask)
            note_pattern(layers[name], level)
        return pruned


def check_levels(model: ir.Model, levels: Mapping[str, Level]) -> None:
    """Raise EdgepruneError (layer-unknown) where a level names no layer with weights."""
    names = {layer.name for layer in weighted_layers(model)}
    for name in levels:
        if name not in names:
            raise EdgepruneError(
                "layer-unknown", f"the model has no layer '{name}' with weights", where=name, hint=nearest(name, names)
            )


def note_pattern(layer: WeightedLayer, level: Level) -> None:
    """Write the pattern of `level` on the node."""
    layer.node.metadata_props[PATTERN_KEY] = str(level.pattern)
