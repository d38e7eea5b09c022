"""Weights matter by their size (Han et al. 2015, "Learning both weights and connections")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.criteria.criterion import Choice, MaskProblem


@dataclass(frozen=True)
class Magnitude:
    """Squared weights; a block by their mean."""

    up_front: bool = False

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """Squared weights; the rows are not read."""
        return {layer.name: read_weight(layer) ** 2 for layer in weighted_layers(model)}

    def choose(self, problem: MaskProblem) -> Choice:
        """The largest weights."""
        return Choice(problem.project(problem.start**2))
