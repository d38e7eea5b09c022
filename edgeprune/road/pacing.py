"""From what a cost table says to what compiled models take, by those that were compiled since."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pace:
    """Two models by what the table says and what was measured, of one quantity: microseconds or bytes.

    `dense` is the whole model, `near` the last pruned one. What lies between is on the line through both, what is
    less on that to the origin.
    """

    dense: tuple[float, float] = (1.0, 1.0)
    near: tuple[float, float] | None = None

    def learnt(self, said: float, measured: float) -> Pace:
        """The pace that knows of a model that takes `measured` where the table `said` so, instead of the last one."""
        seen = (said, measured)
        return Pace(self.dense, seen) if said < self.dense[0] and measured < self.dense[1] else Pace(seen)

    def now(self, said: float) -> float:
        """What a model takes of which the table `said` so."""
        return self._along(said, 0, 1)

    def table(self, taken: float) -> float:
        """What the table says of a model that has `taken` so much."""
        return self._along(taken, 1, 0)

    def _along(self, value: float, source: int, target: int) -> float:
        points = [(0.0, 0.0), *([self.near] if self.near else []), self.dense]
        if value >= self.dense[source]:
            return value * self.dense[target] / self.dense[source]
        return float(np.interp(value, [each[source] for each in points], [each[target] for each in points]))
