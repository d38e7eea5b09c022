"""Weights matter by the scale that batch norm gives their channel (network slimming).

Liu et al. 2017, "Learning efficient convolutional networks through network slimming".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical_affine import read_batch_norm_scale
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers
from edgeprune.passes.criteria.criterion import ByScore

_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class BatchNorm(ByScore):
    """The scale of a channel, shared out among its weights by their size.

    Batch norm is folded into the layer before it; the scale is what was noted then. Layers without one go by the size
    of their weights.
    """

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """|scale| |w| over the sum of |w| in the channel; the rows are not read.

        Raises EdgepruneError (batchnorm-missing) where no layer has a scale.
        """
        scales = {layer.name: read_batch_norm_scale(layer.node) for layer in weighted_layers(model)}
        if all(scale is None for scale in scales.values()):
            raise EdgepruneError(
                "batchnorm-missing",
                "no layer of this model has a batch-norm scale to judge it by",
                where="--criterion",
                hint="exporters fold batch norm away: give the checkpoint (--arch), or choose another criterion",
            )
        return {layer.name: _shared_out(layer, scales[layer.name]) for layer in weighted_layers(model)}


def _shared_out(layer: WeightedLayer, scale: np.ndarray | None) -> np.ndarray:
    weight = np.abs(read_weight(layer))
    if scale is None or scale.size != weight.shape[0] * weight.shape[3]:
        return weight
    sums = np.maximum(weight.sum(axis=(1, 2), keepdims=True), _SMALLEST)
    return np.asarray(np.abs(scale).reshape(weight.shape[0], 1, 1, -1) * weight / sums, np.float32)
