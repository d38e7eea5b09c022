"""From the times of a cost table to those that this machine takes now, by what was measured since."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pace:
    """Models measured since the table was made: (what the table says, what was measured), in microseconds.

    `dense` is the whole model, `near` the last pruned one. What lies between is on the line through both, what is
    faster on that to the origin.
    """

    dense: tuple[float, float] = (1.0, 1.0)
    near: tuple[float, float] | None = None

    def learnt(self, table_us: float, now_us: float) -> Pace:
        """The pace that knows of a model of `table_us` that takes `now_us`, instead of the last one."""
        seen = (table_us, now_us)
        return Pace(self.dense, seen) if table_us < self.dense[0] and now_us < self.dense[1] else Pace(seen)

    def now(self, table_us: float) -> float:
        """What is taken now, in microseconds, for `table_us` of the table."""
        return self._along(table_us, 0, 1)

    def table(self, now_us: float) -> float:
        """What the table says, in microseconds, of what takes `now_us` now."""
        return self._along(now_us, 1, 0)

    def _along(self, value: float, source: int, target: int) -> float:
        points = [(0.0, 0.0), *([self.near] if self.near else []), self.dense]
        if value >= self.dense[source]:
            return value * self.dense[target] / self.dense[source]
        return float(np.interp(value, [each[source] for each in points], [each[target] for each in points]))
