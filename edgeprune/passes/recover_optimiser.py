"""An optimiser whose steps are relative to each weight's size, so that one rate suits models of any scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

Tensor = torch.Tensor

_FIRST, _SECOND = 0.9, 0.99
_SMALLEST_SIZE = 1e-2
"""The size that a small bias is taken to have; folded networks hold biases of zero."""
_LONG_RATE, _LONG_STEPS = 0.005, 600
"""A rate that does little harm to a trained network, and the number of steps from which on it goes far enough."""
_HIGHEST_RATE = 0.008
_FAR = 0.2
"""A squared distance of outputs, relative to what they are, from which on a quantized model is trained like others."""
_GENTLEST = 0.1


class RelativeAdam:
    """Adam's direction, scaled so that a step of rate r changes each tensor by r of its root mean square.

    This is LAMB (You et al., 2020) without weight decay. `sizes` sets the root mean square that a step is relative
    to, where it is not the tensor's own.
    """

    def __init__(self, parameters: Mapping[str, Tensor], sizes: Mapping[str, float]) -> None:
        self._parameters = parameters
        self._sizes = sizes
        self._means = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
        self._squares = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], rate: float, masks: Mapping[str, Tensor]) -> None:
        """Move each parameter against its gradient; sizes are taken over what `masks` keep."""
        self._steps += 1
        for name, parameter in self._parameters.items():
            gradient = gradients.get(name)
            if gradient is None:
                continue
            mean, square = self._means[name], self._squares[name]
            mean.mul_(_FIRST).add_(gradient, alpha=1 - _FIRST)
            square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
            direction = (mean / (1 - _FIRST**self._steps)) / ((square / (1 - _SECOND**self._steps)).sqrt() + 1e-12)
            length = _root_mean_square(direction, masks.get(name))
            size = self._sizes.get(name)
            size = max(_SMALLEST_SIZE, _root_mean_square(parameter, masks.get(name))) if size is None else size
            parameter.sub_(direction, alpha=rate * size / max(length, 1e-12))

    def state(self) -> dict[str, Any]:
        """What a later step depends on, besides the parameters."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, of tensors of the same names and shapes."""
        for held, given in ((self._means, state["means"]), (self._squares, state["squares"])):
            for name, tensor in held.items():
                tensor.copy_(given[name])
        self._steps = state["steps"]


def rate_for(steps: int, gentleness: float = 1.0) -> float:
    """The highest rate for a training of `steps` steps: few steps must each go further.

    What starts near (`gentleness` below 1) takes shorter steps, the more so the more there are.
    """
    further = max(gentleness, math.sqrt(_LONG_STEPS / steps))
    return gentleness * min(_HIGHEST_RATE, _LONG_RATE * further)


def gentler(distance: float) -> float:
    """What the rate is multiplied with where a model that is quantized starts at `distance` from its teacher.

    The distance is relative and squared. To round values costs a network far less than to prune it: what little is
    to be mended would drown in steps made for more, and steps go with the root of a squared distance.
    """
    return min(1.0, max(_GENTLEST, math.sqrt(distance / _FAR)))


def learning_rate(peak: float, done: float, warm: float = 0.05) -> float:
    """`peak` after a linear rise over the share `warm` of the training, then along a cosine to zero."""
    if done < warm:
        return peak * done / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def _root_mean_square(tensor: Tensor, mask: Tensor | None) -> float:
    if mask is None:
        return float(tensor.square().mean().sqrt())
    return float(((tensor * mask).square().sum() / mask.sum()).sqrt())
