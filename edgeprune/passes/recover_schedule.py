"""How far a training is, by its steps and by the clock."""

from __future__ import annotations

from dataclasses import dataclass

SPARE = 1.5
"""What is held back for the last judgement, as a multiple of what the first one took."""
LEAD = 0.1
"""The share of the time that preparations and slow first steps may take."""


@dataclass(frozen=True)
class Schedule:
    """A training of `steps` steps that has `seconds` at most; None has no limit."""

    steps: int
    seconds: float | None = None

    def share(self, done: int, elapsed: float) -> float:
        """The share of the training that is over after `done` steps in `elapsed` seconds, 0 to 1.

        The larger of both shares counts, so that what depends on it, the rate above all, has come to its end when
        either runs out. The clock counts after its first LEAD: where there is time enough, it decides nothing.
        """
        if self.seconds is None:
            return min(1.0, done / self.steps)
        spent = (elapsed / self.seconds - LEAD) / (1 - LEAD) if self.seconds > 0 else 1.0
        return min(1.0, max(done / self.steps, spent))

    def over(self, done: int, elapsed: float) -> bool:
        """Whether no further step is to be done."""
        return self.share(done, elapsed) >= 1.0

    def expected(self, done: int, elapsed: float) -> int:
        """About how many steps there will be, from the speed so far."""
        share = self.share(done, elapsed)
        return self.steps if done == 0 else max(1, min(self.steps, round(done / share)))


def schedule_for(steps: int, minutes: float | None, judged: float) -> Schedule:
    """The schedule of `steps` steps within `minutes` of wall clock, where to judge a model takes `judged` seconds."""
    return Schedule(steps, None if minutes is None else max(0.0, minutes * 60 - SPARE * judged))
