"""Weights are chosen together, by an optimisation over all masks of the level (ALPS)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.passes.criteria.criterion import Choice, MaskProblem
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
        if problem.second.shape[1] > LARGEST:
            note = f"more than {LARGEST} inputs to one output: weights chosen by size times input power"
            return Choice(problem.project(problem.start**2 * problem.power[:, :, None]), note)
        return Choice(choose_mask(problem.second, problem.cross, problem.project, steps=self.steps))


def choose_mask(
    second: np.ndarray, cross: np.ndarray, project: Projection, *, steps: int = 150, penalty: float = 0.1
) -> np.ndarray:
    """The mask of a small error tr(W' second W) - 2 tr(W' cross), by the alternating direction method of multipliers.

    `second` [groups, F, F] is positive definite, `cross` [groups, F, out]. Inputs are scaled to unit variance. The
    penalty grows while the mask still changes, fast at first (Meng et al. 2024, "ALPS: Improved optimization for
    highly sparse one-shot pruning", algorithm 1). The steps are in float32.
    """
    scale = np.sqrt(np.diagonal(second, axis1=1, axis2=2))[:, :, None]
    exact, basis = np.linalg.eigh(second / (scale * scale.transpose(0, 2, 1)))
    single = np.finfo(np.float32).eps
    values = np.maximum(exact, single).astype(np.float32)[:, :, None]
    vectors = basis.astype(np.float32)
    back = np.ascontiguousarray(vectors.transpose(0, 2, 1))
    moments = (cross / scale).astype(np.float32)
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
