"""Chooses which weights to keep so that the layer's output changes least."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Projection = Callable[[np.ndarray], np.ndarray]
"""From scores [groups, F, out] to the mask of what a pattern keeps, of the same shape."""


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
