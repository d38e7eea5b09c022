"""Fits the kept weights of one layer to second moments: exactly, or by conjugate gradients where that is too much."""

from __future__ import annotations

import numpy as np

EXACT_OPERATIONS = 2e11
"""Up to this many multiplications the normal equations of every distinct set of kept weights are solved exactly."""


def fit_kept(second: np.ndarray, cross: np.ndarray, mask: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The weights [F, out] that minimise tr(W' second W) - 2 tr(W' cross) and are zero outside `mask` [F, out].

    `second` [F, F] is positive definite. `start` is where conjugate gradients set out.
    """
    supports, owner = np.unique(mask.T, axis=0, return_inverse=True)
    operations = float(np.sum(supports.sum(axis=1, dtype=np.float64) ** 3)) / 3
    if operations > EXACT_OPERATIONS:
        return conjugate_gradients(second, cross, mask, start)
    fitted = np.zeros_like(cross)
    for index, support in enumerate(supports):
        rows, columns = np.flatnonzero(support), np.flatnonzero(owner.reshape(-1) == index)
        if len(rows):
            right = cross[np.ix_(rows, columns)]
            fitted[np.ix_(rows, columns)] = np.linalg.solve(second[np.ix_(rows, rows)], right)
    return fitted


def conjugate_gradients(
    second: np.ndarray,
    cross: np.ndarray,
    mask: np.ndarray,
    start: np.ndarray,
    steps: int = 100,
    tolerance: float = 1e-6,
) -> np.ndarray:
    """`fit_kept` by projected conjugate gradients, all columns at once, preconditioned by the diagonal.

    Ends after `steps` or when every residual has shrunk by `tolerance`. (Meng et al. 2024, ALPS, algorithm 2.)
    """
    inverse = 1 / np.diag(second)[:, None]
    weights = start * mask
    residual = (cross - second @ weights) * mask
    first = np.linalg.norm(residual, axis=0)
    preconditioned = inverse * residual
    direction = preconditioned.copy()
    product = np.sum(residual * preconditioned, axis=0)
    for _ in range(steps):
        if np.all(np.linalg.norm(residual, axis=0) <= tolerance * first):
            break
        image = (second @ direction) * mask
        length = product / _nonzero(np.sum(direction * image, axis=0))
        weights += length * direction
        residual -= length * image
        preconditioned = inverse * residual
        previous, product = product, np.sum(residual * preconditioned, axis=0)
        direction = preconditioned + product / _nonzero(previous) * direction
    return weights


def _nonzero(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, 1.0, values)
