"""Weights matter by the information about the labels that they hold: the diagonal of the empirical Fisher.

Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning", equation 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.criteria.criterion import ByScore


@dataclass(frozen=True)
class Fisher(ByScore):
    """Half the squared weight times the mean squared gradient of single rows."""

    rows: int = 128

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """w^2 E[g^2] / 2 under the labels, or labels drawn from the model. Raises EdgepruneError (op-untrainable)."""
        from edgeprune.passes.gradients import LossGradients

        gradients = LossGradients(model, samples, rows=self.rows, drawn=False, seed=seed)
        squares: dict[str, np.ndarray] = {}
        for single in gradients.by_weight(size=1):
            for name, gradient in single.items():
                squares[name] = squares.get(name, 0.0) + gradient**2
        weights = {layer.name: read_weight(layer) for layer in weighted_layers(model)}
        return {name: weights[name] ** 2 * total / (2 * gradients.count) for name, total in squares.items()}
