"""Weights matter by what the loss is expected to change by when they go, to the first order.

Molchanov et al. 2017, "Pruning convolutional neural networks for resource efficient inference", equation 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.criteria.criterion import ByScore


@dataclass(frozen=True)
class Taylor(ByScore):
    """The size of weight times gradient, its mean over batches of rows."""

    rows: int = 256

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """|w g|, g the gradient of the loss under the labels, or under labels drawn from the model.

        Raises EdgepruneError (op-untrainable).
        """
        from edgeprune.passes.gradients import LossGradients

        weights = {layer.name: read_weight(layer) for layer in weighted_layers(model)}
        batches = LossGradients(model, samples, rows=self.rows, drawn=False, seed=seed).by_weight()
        changes = [{name: np.abs(weights[name] * gradient) for name, gradient in batch.items()} for batch in batches]
        return {name: np.mean([change[name] for change in changes], axis=0) for name in changes[0]}
