"""Weights go input by input, and the inputs that are still to come make up for each (SparseGPT)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.passes.criteria.criterion import Choice, MaskProblem
from edgeprune.passes.criteria.curvature import single_saliencies

SEGMENTS = 64
"""The mask is chosen in at most about so many steps along the inputs."""

LARGEST = 4608
"""Layers with more inputs to one output go by squared weights times input power: the inverse grows cubed."""


@dataclass(frozen=True)
class SparseGpt:
    """One sweep of optimal brain surgery over the inputs, in blocks (Frantar and Alistarh 2023, "SparseGPT")."""

    up_front: bool = False

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """What the layer's output changes by when one weight goes and the others make up for it."""
        return single_saliencies(model, samples, seed)

    def choose(self, problem: MaskProblem) -> Choice:
        """The mask that one sweep leaves."""
        if problem.start.shape[1] > LARGEST:
            note = f"more than {LARGEST} inputs to one output: weights chosen by size times input power"
            return Choice(problem.project(problem.start**2 * problem.power[:, :, None]), note)
        return Choice(sweep(problem)[0])


def sweep(problem: MaskProblem) -> tuple[np.ndarray, np.ndarray]:
    """The mask and the weights, both [groups, F, out], after one sweep along the inputs.

    It begins at the best dense weights. A segment of inputs, never less than what a pattern removes together or
    balances, gets its mask by the exact loss of each of its blocks given that only later inputs make up for it; the
    level counts over the whole layer, so segments may keep more or less than their share.
    """
    lower = problem.quadratic.factor
    bands = _block_bands(lower, problem)
    weights = problem.quadratic.best.copy()
    mask = np.ones(weights.shape, bool)
    decided = np.zeros(weights.shape)
    for begin, end in segments(problem):
        scores = np.where(decided == 0, _block_losses(bands, weights), decided)
        mask[:, begin:end] = problem.project(scores)[:, begin:end]
        decided[:, begin:end] = np.where(mask[:, begin:end], np.inf, -1.0)
        _remove(weights, lower, mask, begin, end)
    return mask, weights * mask


def segments(problem: MaskProblem) -> Iterator[tuple[int, int]]:
    """Ranges of inputs that get their mask together: whole blocks, whole balanced groups, within one tap."""
    _, taps, inputs, _ = problem.shape
    pattern = problem.level.pattern
    unit = min(inputs, pattern.block_k * min(pattern.group or 1, -(-inputs // pattern.block_k)))
    length = unit * max(1, -(-taps * inputs // (SEGMENTS * unit)))
    for tap in range(taps):
        for begin in range(0, inputs, length):
            yield tap * inputs + begin, tap * inputs + min(begin + length, inputs)


def _remove(weights: np.ndarray, lower: np.ndarray, mask: np.ndarray, begin: int, end: int) -> None:
    """Take out what `mask` leaves of the inputs from `begin` to `end`; later inputs make up for it, in place."""
    errors = np.empty((len(weights), end - begin, weights.shape[2]))
    for row in range(begin, end):
        error = np.where(mask[:, row], 0.0, weights[:, row]) / lower[:, row, row, None]
        weights[:, row:end] -= lower[:, row:end, row, None] * error[:, None]
        errors[:, row - begin] = error
    weights[:, end:] -= lower[:, end:, begin:end] @ errors


def _block_losses(bands: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scores [groups, F, out] whose sum over a block is the loss of removing it, if only later inputs make up for it.

    That loss is |L^-1 w|^2, L the block on the diagonal of the factor of the inverse moments.
    """
    solved = bands[0][:, :, None] * weights
    for shift in range(1, len(bands)):
        solved[:, shift:] += bands[shift][:, shift:, None] * weights[:, :-shift]
    return np.square(solved)


def _block_bands(lower: np.ndarray, problem: MaskProblem) -> np.ndarray:
    """The inverses of the pattern's blocks along the diagonal, by distance from it: [block_k, groups, F]."""
    groups, taps, inputs, _ = problem.shape
    size = min(problem.level.pattern.block_k, inputs)
    bands = np.zeros((size, groups, taps * inputs))
    for tap in range(taps):
        for offset in range(0, inputs, size):
            begin, end = tap * inputs + offset, tap * inputs + min(offset + size, inputs)
            inverse = np.linalg.inv(lower[:, begin:end, begin:end])
            for shift in range(end - begin):
                bands[shift, :, begin + shift : end] = np.diagonal(inverse, -shift, axis1=1, axis2=2)
    return bands
