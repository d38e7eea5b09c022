"""Fits the weights that a layer keeps to what it should give, and chooses which to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeprune.passes.least_squares import fit_kept
from edgeprune.passes.observations import Observations
from edgeprune.passes.selection import choose_mask
from edgeprune.passes.statistics import InputMoments, TargetMoments, input_moments, target_moments

SELECTION_INPUTS = 1152
"""In layers with more inputs, weights are chosen by squared weight times input power instead."""

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""How far towards the fitted weights a layer may go from those that it kept."""

Keep = Callable[[np.ndarray], np.ndarray]
"""From scores [groups, F, out] to what is kept, of the same shape; scores of a fixed mask are ignored."""


@dataclass(frozen=True)
class Solution:
    """Weights [groups, F, out] and, where it was fitted, the bias [groups, 1, out]."""

    weights: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class LayerFit:
    """One layer's problem: its weights as they were, what was observed, and how strongly weights are held.

    `start` is [groups, F, out], `start_bias` [groups, 1, out] (zeros where there is none). With `centred` a bias is
    fitted.
    """

    start: np.ndarray
    start_bias: np.ndarray
    observed: Observations
    centred: bool
    damping: float
    rounds: int = 2

    def solve(self, keep: Keep, choose: bool) -> Solution:
        """The least-squares weights; with `choose` those that are kept are chosen for it too."""
        seen = input_moments(self.observed, centred=self.centred)
        ridge = self._ridge(seen)
        second = seen.second + ridge * np.eye(seen.second.shape[1])
        aim = self._aim(seen, ridge)
        if choose and second.shape[1] <= SELECTION_INPUTS:
            mask = choose_mask(second, aim.cross, keep)
        else:
            power = np.diagonal(seen.second, axis1=1, axis2=2)
            mask = keep(self.start**2 * power[:, :, None])
        return self._fitted(seen, second, aim, mask, ridge)

    def _fitted(
        self, seen: InputMoments, second: np.ndarray, aim: TargetMoments, mask: np.ndarray, ridge: float
    ) -> Solution:
        solution = self._solution(seen, second, aim, mask, self.start)
        if self.observed.floor is None:
            return solution
        for _ in range(self.rounds):
            aim = self._aim(seen, ridge, solution)
            solution = self._solution(seen, second, aim, mask, solution.weights)
        return solution

    def _solution(
        self, seen: InputMoments, second: np.ndarray, aim: TargetMoments, mask: np.ndarray, start: np.ndarray
    ) -> Solution:
        weights = np.stack([fit_kept(*parts) for parts in zip(second, aim.cross, mask, start, strict=True)])
        if not self.centred:
            return Solution(weights, self.start_bias)
        return Solution(weights, aim.mean[:, None, :] - seen.mean[:, None, :] @ weights)

    def _aim(self, seen: InputMoments, ridge: float, solution: Solution | None = None) -> TargetMoments:
        """The moments of the targets, or of those attainable from `solution`, with the pull towards `start`."""
        if solution is None:
            given = target_moments(self.observed, seen)
        else:
            given = target_moments(self.observed, seen, solution.weights, solution.bias)
        return TargetMoments(given.cross + ridge * self.start, given.mean)

    def _ridge(self, seen: InputMoments) -> float:
        power = np.diagonal(seen.second, axis1=1, axis2=2)
        return self.damping * float(power.mean()) + float(np.finfo(np.float32).tiny)


def best_on(judge: Observations, fitted: Solution, plain: Solution, start: Solution) -> tuple[Solution, bool]:
    """The solution with the smallest error on `judge`: part of the way to `fitted` or `plain`; whether not `plain`.

    The way starts at the weights of `start` where `fitted` has weights.
    """
    kept = start.weights * (fitted.weights != 0)
    found, least, changed = plain, judge.error(plain.weights, plain.bias), False
    for share in SHARES:
        weights = kept + share * (fitted.weights - kept)
        bias = start.bias + share * (fitted.bias - start.bias)
        error = judge.error(weights, bias)
        if error < least:
            found, least, changed = Solution(weights, bias), error, True
    return found, changed
