"""Recognises a model that arrives sparse: the pattern that the zeros of each layer fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.mask import coarsest_fit
from edgeprune.passes.prune import note_pattern
from edgeprune.pattern import Level, Pattern

SPARSE = 0.1
"""From this share of zeros on, a model or a layer counts as sparse."""


def sparsity(model: ir.Model) -> float:
    """The share of zeros among the weights of all convolutions and linear layers; 0 where there are none."""
    weights = [read_weight(layer) for layer in weighted_layers(model)]
    total = sum(weight.size for weight in weights)
    return 1 - sum(int(np.count_nonzero(weight)) for weight in weights) / total if total else 0.0


def is_sparse(model: ir.Model) -> bool:
    """Whether the model arrives sparse: at least a tenth of its weights are zero."""
    return sparsity(model) >= SPARSE


def fitted_levels(model: ir.Model, patterns: Sequence[Pattern]) -> dict[str, Level]:
    """By layer name, the coarsest of `patterns` (finest first) that its zeros fit, and its share of nonzeros.

    Layers that are less than a tenth zero, or that fit none of them, are not named.
    """
    found = {}
    for layer in weighted_layers(model):
        weight = read_weight(layer)
        density = float(np.count_nonzero(weight)) / weight.size
        pattern = coarsest_fit(weight, patterns) if density <= 1 - SPARSE else None
        if pattern is not None:
            found[layer.name] = Level(pattern, density)
    return found


@dataclass(frozen=True)
class Recognise:
    """Note on every sparse node which of `patterns` (finest first) its zeros fit."""

    patterns: tuple[Pattern, ...]

    def __call__(self, model: ir.Model) -> ir.Model:
        """A copy of `model` with the patterns noted, the weights unchanged."""
        noted = copy_model(model)
        levels = fitted_levels(noted, self.patterns)
        for layer in weighted_layers(noted):
            if layer.name in levels:
                note_pattern(layer, levels[layer.name])
        return noted
