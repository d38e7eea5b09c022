"""Weights matter by their size times what they are multiplied with.

Sun et al. 2024, "A simple and effective pruning approach for large language models" (Wanda); compared within a
layer as a whole, as the paper does for image classifiers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.weights import read_weight
from edgeprune.passes.criteria.criterion import Choice, MaskProblem
from edgeprune.passes.layer_inputs import layer_inputs


@dataclass(frozen=True)
class Wanda:
    """Squared weights times the mean square of their inputs; a block by their mean."""

    up_front: bool = False

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """Squared weights times the mean square of their inputs on the rows of `samples`."""
        found = {}
        for layer, moments in layer_inputs(model, samples, seed=seed):
            weight = read_weight(layer)
            power = moments.power.reshape(*weight.shape[:3], 1)
            found[layer.name] = weight**2 * power.astype(np.float32)
        return found

    def choose(self, problem: MaskProblem) -> Choice:
        """The largest products, with the inputs that the layer gets by now."""
        return Choice(problem.project(problem.start**2 * problem.power[:, :, None]))
