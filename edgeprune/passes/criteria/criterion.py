"""What every criterion offers: how much each weight matters, and which weights of a layer to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.mask import mask_from_scores
from edgeprune.pattern import Level

Saliencies = Mapping[str, np.ndarray]
"""How much every weight matters, by layer name: [groups, taps, in, out] as `edgeprune.ir.weights` reads them."""


@dataclass(frozen=True)
class Quadratic:
    """How weights W [groups, F, out] change a layer's output: tr(W' second W) - 2 tr(W' cross) and a constant.

    `second` [groups, F, F] is positive definite, `cross` [groups, F, out]. What is derived from them is computed once,
    however many masks are chosen.
    """

    second: np.ndarray
    cross: np.ndarray
    derived: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)
    """What a criterion keeps for the next mask of the same layer, by a key of its own."""

    @cached_property
    def best(self) -> np.ndarray:
        """The best weights without a mask, [groups, F, out]."""
        return np.linalg.solve(self.second, self.cross)

    @cached_property
    def inverse(self) -> np.ndarray:
        """The inverse of `second`, [groups, F, F]."""
        return np.linalg.inv(self.second)

    @cached_property
    def factor(self) -> np.ndarray:
        """The lower triangular L of L L' = `inverse`, [groups, F, F]."""
        return np.linalg.cholesky(self.inverse)

    @cached_property
    def spread(self) -> np.ndarray:
        """The standard deviation of each input, [groups, F, 1]."""
        return np.sqrt(np.diagonal(self.second, axis1=1, axis2=2))[:, :, None]

    @cached_property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues [groups, F] and vectors [groups, F, F] of `second` with every input scaled to unit variance."""
        values, vectors = np.linalg.eigh(self.second / (self.spread * self.spread.transpose(0, 2, 1)))
        return values, vectors


@dataclass(frozen=True)
class MaskProblem:
    """One layer whose mask is to be chosen; F = taps * in.

    `quadratic` says what weights do to the layer's output. `start` [groups, F, out] are the weights as they are,
    `power` [groups, F] the mean square of each input, `saliency` [groups, F, out] what a criterion said up front.
    `shape` is (groups, taps, in, out).
    """

    quadratic: Quadratic
    start: np.ndarray
    power: np.ndarray
    shape: tuple[int, int, int, int]
    level: Level
    saliency: np.ndarray | None = None

    def project(self, scores: np.ndarray) -> np.ndarray:
        """From scores [groups, F, out] to the mask of what the level keeps, of the same shape."""
        mask = mask_from_scores(scores.reshape(self.shape), self.level.pattern, self.level.density)
        return mask.reshape(scores.shape)


@dataclass(frozen=True)
class Choice:
    """The mask [groups, F, out] of what is kept, and a note where it was not chosen as the criterion would have."""

    mask: np.ndarray
    note: str = ""


class Criterion(Protocol):
    """Judges weights, up front for the whole network, or layer by layer from what the layer sees and should give."""

    @property
    def up_front(self) -> bool:
        """Whether `choose` needs the saliencies of the layer."""

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """How much every weight of every layer matters in `model` on the rows of `samples`; never negative."""

    def choose(self, problem: MaskProblem) -> Choice:
        """The mask of the problem's level."""


@dataclass(frozen=True)
class ByScore:
    """A criterion that keeps what its saliencies put highest."""

    @property
    def up_front(self) -> bool:
        """Whether `choose` needs the saliencies of the layer: always."""
        return True

    def choose(self, problem: MaskProblem) -> Choice:
        """The weights of the highest saliency."""
        assert problem.saliency is not None
        return Choice(problem.project(problem.saliency))
