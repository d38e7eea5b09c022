"""Gradual magnitude pruning: masks tighten along a cubic curve while the network trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Schedule


@dataclass(frozen=True)
class Gradual(Schedule):
    """Sparsity s(t) = s * (1 - (1 - p) ** power), p going from 0 to 1 between two shares of the training.

    Masks are chosen anew by magnitude `refreshes` times on the way, and held afterwards (Zhu & Gupta 2017, "To prune,
    or not to prune", equation 1, from a dense start).
    """

    name: ClassVar[str] = "gradual"

    start: float = 0.0
    until: float = 0.6
    refreshes: int = 80
    power: float = 3.0

    def remaining(self, done: int, steps: int) -> float:
        """What is left of the way to the levels after `done` of `steps` steps: 1 to 0."""
        first, last = self._span(steps)
        return max(0.0, 1 - max(0, done - first) / (last - first)) ** self.power

    def update(self, network: MaskedNetwork, done: int) -> None:
        """Tighten where it is time to."""
        first, last = self._span(network.steps)
        every = max(1, (last - first) // self.refreshes)
        if first < done <= last and ((done - first) % every == 0 or done == last):
            network.hold(network.choose(remaining=self.remaining(done, network.steps)))

    def end(self, network: MaskedNetwork, done: int) -> None:
        """Cut at once what was not cut yet."""
        if done < self._span(network.steps)[1]:
            network.hold(network.choose())

    def _span(self, steps: int) -> tuple[int, int]:
        first = min(steps - 1, math.floor(self.start * steps))
        return first, min(steps, max(first + 1, math.ceil(self.until * steps)))
