"""Second moments of what a layer sees and should give: all that a least-squares fit of its weights needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.passes.observations import CHUNK, Observations


@dataclass(frozen=True)
class InputMoments:
    """Moments of inputs [groups, positions, F], in float64.

    `second` [groups, F, F] is their covariance and `mean` [groups, F] their mean; without `centred` the moments are
    about zero and the mean is zero. `power` [groups, F] is their mean square, about zero either way.
    """

    second: np.ndarray
    mean: np.ndarray
    centred: bool
    power: np.ndarray


@dataclass(frozen=True)
class TargetMoments:
    """`cross` [groups, F, out], the covariance of inputs and targets, and `mean` [groups, out] of the targets."""

    cross: np.ndarray
    mean: np.ndarray


def input_moments(observed: Observations, *, centred: bool) -> InputMoments:
    """The moments of the observed inputs. Products are in float32 within a chunk, sums of chunks in float64."""
    return moments_of(observed.inputs, centred=centred)


def moments_of(inputs: np.ndarray, *, centred: bool) -> InputMoments:
    """The moments of inputs [groups, positions, F]."""
    groups, count, size = inputs.shape
    second, mean = np.zeros((groups, size, size)), np.zeros((groups, size))
    for begin in range(0, count, CHUNK):
        part = inputs[:, begin : begin + CHUNK]
        second += part.transpose(0, 2, 1) @ part
        mean += part.sum(axis=1)
    second /= count
    power = np.diagonal(second, axis1=1, axis2=2).copy()
    mean *= 1 / count if centred else 0.0
    if centred:
        second -= mean[:, :, None] * mean[:, None, :]
    return InputMoments(second, mean, centred, power)


def target_moments(
    observed: Observations,
    seen: InputMoments,
    weights: np.ndarray | None = None,
    bias: np.ndarray | float = 0.0,
) -> TargetMoments:
    """The moments of the observed targets with the inputs, whose own moments are `seen`.

    With `weights` and `bias` the targets are those attainable from there.
    """
    groups, count, outputs = observed.targets.shape
    cross, mean = np.zeros((groups, observed.inputs.shape[2], outputs)), np.zeros((groups, outputs))
    for part in observed.chunks():
        targets = part.targets if weights is None else part.attainable(weights, bias)
        cross += part.inputs.transpose(0, 2, 1) @ targets
        mean += targets.sum(axis=1)
    mean *= 1 / count if seen.centred else 0.0
    return TargetMoments(cross / count - seen.mean[:, :, None] * mean[:, None, :], mean)
