"""Weights matter by what the loss is expected to change by when they go, to the second order.

Molchanov et al. 2019, "Importance estimation for neural network pruning", equation 7: the Hessian's row of a weight
times all weights, which a Hessian-vector product gives for every weight at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.criteria.criterion import ByScore


@dataclass(frozen=True)
class Taylor2(ByScore):
    """The size of w g - w (H w) / 2, its mean over batches of rows."""

    rows: int = 256

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """|w g - w (H w) / 2| of the loss under the labels, or labels drawn from the model.

        Raises EdgepruneError (op-untrainable).
        """
        from edgeprune.passes.gradients import LossGradients

        weights = {layer.name: read_weight(layer) for layer in weighted_layers(model)}
        gradients = LossGradients(model, samples, rows=self.rows, drawn=False, seed=seed)
        changes = [
            {name: np.abs(weights[name] * (first[name] - 0.5 * second[name])) for name in first}
            for first, second in gradients.with_curvature()
        ]
        return {name: np.mean([change[name] for change in changes], axis=0) for name in changes[0]}
