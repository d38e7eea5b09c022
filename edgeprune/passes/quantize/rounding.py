"""Rounds the weights of one layer so that its outputs change least: each error is made up for by other weights."""

from __future__ import annotations

import numpy as np

from edgeprune.passes.quantize.weights import LARGEST

OPERATIONS = 2e11
"""Layers whose inverses would take more multiplications than this are rounded to the nearest."""

BAND = 128
"""Inputs that are rounded before the others after them are told."""

RIDGES = (1e-6, 1e-4, 1e-2, 1.0)

STEPS = 256
"""At most so many weights of a column are moved by one step afterwards."""


def operations(mask: np.ndarray) -> float:
    """About how many multiplications `round_together` takes for weights that are held by `mask` [F, out]."""
    supports = np.unique(mask.T, axis=0)
    return float(np.sum(supports.sum(axis=1, dtype=np.float64) ** 3)) + float(mask.shape[0] ** 2 * mask.shape[1])


def round_together(weights: np.ndarray, second: np.ndarray, scale: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Whole numbers Q [F, out], zero outside `mask`, with a small tr((Q s - W)' H (Q s - W)).

    `weights` W [F, out], `second` H [F, F] positive definite, `scale` s [out]. Inputs go one by one, those of most
    power first; what one loses by rounding, the others of its column make up for (optimal brain quantization in a
    fixed order: Frantar et al. 2022, "GPTQ"). Then single weights move by one step for as long as that helps, and so
    they do from the nearest numbers; each column takes what costs less. Columns that keep the same inputs are one
    problem over these inputs alone.
    """
    whole = np.zeros(weights.shape)
    supports, owner = np.unique(mask.T, axis=0, return_inverse=True)
    for index, support in enumerate(supports):
        rows, columns = np.flatnonzero(support), np.flatnonzero(owner.reshape(-1) == index)
        if len(rows) == 0:
            continue
        rows = rows[np.argsort(-np.diagonal(second)[rows], kind="stable")]
        curvature = _scaled(second[np.ix_(rows, rows)])
        wanted, steps = weights[np.ix_(rows, columns)], scale[columns]
        plain = np.clip(np.rint(wanted / steps), -LARGEST, LARGEST)
        starts = (_sweep(wanted, curvature, steps), plain)
        swept, settled = (settle(start, wanted, curvature, steps) for start in starts)
        better = _costs(swept, wanted, curvature, steps) < _costs(settled, wanted, curvature, steps)
        whole[np.ix_(rows, columns)] = np.where(better, swept, settled)
    return whole


def _costs(whole: np.ndarray, wanted: np.ndarray, curvature: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """What each column costs."""
    apart = whole * scale - wanted
    return np.asarray(np.sum(apart * (curvature @ apart), axis=0))


def _scaled(curvature: np.ndarray) -> np.ndarray:
    """`curvature` at a mean power of 1; the identity where there is no power."""
    power = float(np.diagonal(curvature).mean())
    return np.eye(len(curvature)) if power <= np.finfo(np.float32).tiny else np.asarray(curvature / power)


def _inverse_factor(curvature: np.ndarray) -> np.ndarray:
    """L, lower triangular, with L L' the inverse of `curvature`, to which as little as it needs for that is added."""
    for ridge in RIDGES:
        try:
            return np.linalg.cholesky(np.linalg.inv(curvature + ridge * np.eye(len(curvature))))
        except np.linalg.LinAlgError:
            continue
    return np.eye(len(curvature))


def _sweep(wanted: np.ndarray, curvature: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """One pass over the inputs in order."""
    lower = _inverse_factor(curvature)
    weights, whole = wanted.astype(np.float64).copy(), np.empty(wanted.shape)
    for begin in range(0, len(weights), BAND):
        end = min(begin + BAND, len(weights))
        errors = np.empty((end - begin, weights.shape[1]))
        for row in range(begin, end):
            whole[row] = np.clip(np.rint(weights[row] / scale), -LARGEST, LARGEST)
            errors[row - begin] = (weights[row] - whole[row] * scale) / lower[row, row]
            weights[row:end] -= lower[row:end, row, None] * errors[row - begin]
        weights[end:] -= lower[end:, begin:end] @ errors
    return whole


def settle(
    whole: np.ndarray, wanted: np.ndarray, curvature: np.ndarray, scale: np.ndarray, steps: int = STEPS
) -> np.ndarray:
    """`whole` after moves of single weights by one step, in every column the best one first, until none helps."""
    whole, power = whole.copy(), np.diagonal(curvature)[:, None] * scale**2
    slope = curvature @ (whole * scale - wanted)
    columns = np.arange(whole.shape[1])
    for _ in range(steps):
        direction = -np.sign(slope)
        change = power - 2 * np.abs(slope) * scale
        change[np.abs(whole + direction) > LARGEST] = 0.0
        rows = np.argmin(change, axis=0)
        helped = change[rows, columns] < -1e-12 * power[rows, columns]
        if not helped.any():
            break
        chosen, moved = columns[helped], rows[helped]
        step = direction[moved, chosen]
        whole[moved, chosen] += step
        slope[:, chosen] += curvature[:, moved] * (step * scale[chosen])
    return whole
