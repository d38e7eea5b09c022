"""Fits the weights that a layer keeps to what it should give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.passes.least_squares import fit_kept
from edgeprune.passes.observations import Observations
from edgeprune.passes.statistics import InputMoments, TargetMoments, input_moments, target_moments

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""How far towards the fitted weights a layer may go from those that it kept."""


@dataclass(frozen=True)
class Solution:
    """Weights [groups, F, out] and, where it was fitted, the bias [groups, 1, out]."""

    weights: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class LayerMoments:
    """What a layer's inputs, and its inputs and targets together, have in common.

    `second` [groups, F, F] are the moments `seen` of the inputs with `ridge` added, `aim` those of the targets with
    the pull towards the weights as they were.
    """

    seen: InputMoments
    second: np.ndarray
    aim: TargetMoments
    ridge: float


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

    def moments(self) -> LayerMoments:
        """The moments that a mask is chosen and weights are fitted by."""
        seen = input_moments(self.observed, centred=self.centred)
        ridge = self.damping * float(np.diagonal(seen.second, axis1=1, axis2=2).mean())
        ridge += float(np.finfo(np.float32).tiny)
        second = seen.second + ridge * np.eye(seen.second.shape[1])
        return LayerMoments(seen, second, self._aim(seen, ridge), ridge)

    def solve(self, moments: LayerMoments, mask: np.ndarray) -> Solution:
        """The least-squares weights that are zero outside `mask` [groups, F, out]."""
        aim = moments.aim
        solution = self._solution(moments, aim, mask, self.start)
        if self.observed.floor is None:
            return solution
        for _ in range(self.rounds):
            aim = self._aim(moments.seen, moments.ridge, solution)
            solution = self._solution(moments, aim, mask, solution.weights)
        return solution

    def _solution(self, moments: LayerMoments, aim: TargetMoments, mask: np.ndarray, start: np.ndarray) -> Solution:
        parts = zip(moments.second, aim.cross, mask, start, strict=True)
        weights = np.stack([fit_kept(*part) for part in parts])
        if not self.centred:
            return Solution(weights, self.start_bias)
        return Solution(weights, aim.mean[:, None, :] - moments.seen.mean[:, None, :] @ weights)

    def _aim(self, seen: InputMoments, ridge: float, solution: Solution | None = None) -> TargetMoments:
        """The moments of the targets, or of those attainable from `solution`, with the pull towards `start`."""
        if solution is None:
            given = target_moments(self.observed, seen)
        else:
            given = target_moments(self.observed, seen, solution.weights, solution.bias)
        return TargetMoments(given.cross + ridge * self.start, given.mean)


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
