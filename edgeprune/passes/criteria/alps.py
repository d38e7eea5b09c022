"""Weights are chosen together, by an optimisation over all masks of the level (ALPS)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.passes.criteria.criterion import Choice, MaskProblem, Quadratic
from edgeprune.passes.criteria.curvature import single_saliencies

LARGEST = 1152
"""In layers with more inputs to one output, weights are chosen by squared weight times input power instead."""

Projection = Callable[[np.ndarray], np.ndarray]
"""From scores [groups, F, out] to the mask of what a pattern keeps, of the same shape."""


@dataclass(frozen=True)
class Alps:
    """The alternating direction method of multipliers on the layer's squared error; strong where most goes.

    The paper then solves for the kept weights by conjugate gradients; here the refit does, exactly where it can.
    """

    steps: int = 150
    up_front: bool = False

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """What the layer's output changes by when one weight goes and the others make up for it."""
        return single_saliencies(model, samples, seed)

    def choose(self, problem: MaskProblem) -> Choice:
        """The mask that the steps end with."""
        if problem.start.shape[1] > LARGEST:
            note = f"more than {LARGEST} inputs to one output: weights chosen by size times input power"
            return Choice(problem.project(problem.start**2 * problem.power[:, :, None]), note)
        return Choice(choose_mask(problem.quadratic, problem.project, steps=self.steps))


def choose_mask(quadratic: Quadratic, project: Projection, *, steps: int = 150, penalty: float = 0.1) -> np.ndarray:
    """The mask [groups, F, out] of a small error, by the alternating direction method of multipliers.

    Inputs are scaled to unit variance. The penalty grows while the mask still changes, fast at first (Meng et al.
    2024, "ALPS: Improved optimization for highly sparse one-shot pruning", algorithm 1). The steps are in float32.
    """
    exact, basis = quadratic.axes
    single = np.finfo(np.float32).eps
    values = np.maximum(exact, single).astype(np.float32)[:, :, None]
    vectors = basis.astype(np.float32)
    back = np.ascontiguousarray(vectors.transpose(0, 2, 1))
    moments = (quadratic.cross / quadratic.spread).astype(np.float32)
    best = vectors @ ((back @ moments) / values)
    mask = project(best**2)
    sparse, dual, last = best * mask, np.zeros_like(best), mask
    for step in range(1, steps + 1):
        dense = vectors @ ((back @ (moments + penalty * sparse - dual)) / (values + penalty))
        lifted = dense + dual / penalty
        mask = project(lifted**2)
        sparse = lifted * mask
        dual += penalty * (dense - sparse)
        if step % 3 == 0:
            changed, last = float(np.mean(mask != last) / max(mask.mean(), 1e-9)), mask
            if not changed and step > 30:
                break
            penalty = penalty * (1.3 if changed >= 0.1 else 1.2 if changed >= 0.005 else 1.1)
    return mask
