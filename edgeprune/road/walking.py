"""The way from the dense model to the furthest cut within the accuracy limit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.pattern import Level
from edgeprune.road.cutting import cut, recovered
from edgeprune.road.losing import Losses
from edgeprune.search.knapsack import Assignment

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.road.choosing import Chooser

SEARCH_MINUTES = 10.0
"""How long recovery training may go on for while edgeprune looks for the furthest cut, unless the user says."""

BISECTIONS = 6
"""How often the range of one-shot cuts is halved."""

EFFORTS = ((1.0, 1), (0.5, 1), (0.5, 3), (0.25, 3), (0.25, 6))
"""How much of the stride each trained cut goes beyond the last, and how many times the usual epochs it is trained for.

After a failure the next one counts: first shorter steps, then longer training.
"""

PROMISING = 2.0
"""How many times the limit a cut may lose before training that is likely to bring it back."""

_STRIDES = 0.7, 0.95
"""The share of the objective that one full stride leaves: bounds."""

CAUTION = 0.5
"""How many standard errors of what is seen to be lost on the validate rows are held back from the limit."""


@dataclass(frozen=True)
class Plan:
    """What every layer is to keep, in which layout, of the model of which start."""

    assignment: Assignment
    layout: str
    start: int
    table: Mapping[str, float]
    """The totals by the cost table alone."""

    @property
    def levels(self) -> Mapping[str, Level]:
        """What every layer keeps; those that are not named keep everything."""
        return self.assignment.levels

    def same_as(self, other: Plan) -> bool:
        """Whether both keep the same."""
        return (self.levels, self.layout, self.start) == (other.levels, other.layout, other.start)


class Walk:
    """The way from the dense model to the furthest cut within the accuracy limit."""

    def __init__(self, chooser: Chooser, objective: str) -> None:
        self._chooser, self._objective = chooser, objective
        judge = chooser.judge
        self._losses = Losses(judge)
        self._rate = judge.metric in ("top1", "top5", "auc", "fidelity")
        self._caution = 0.0
        self._deadline = time.monotonic() + 60.0 * (chooser.options.minutes or SEARCH_MINUTES)
        self._untrained: list[tuple[float, float]] = []
        self._failed: list[tuple[Plan, int]] = []
        self.model: ir.Model = judge.original
        self.share = 1.0
        self.plan = self._planned(1.0)
        self.measured: Mapping[str, float] = {}
        """What was measured of the model that is kept."""

    def _limit(self) -> float:
        """Points that a cut may lose on rows like the validate rows."""
        judge, limit = self._chooser.judge, self._chooser.options.max_drop
        if judge.metric in ("top1", "top5") and judge.card is not None and "validate" not in judge.card.sections:
            # By the rule of succession: what a handful of rows held back cannot tell from no loss at all.
            limit -= 100.0 / (self._losses.rows.count + 2)
        return limit

    def one_shot(self) -> None:
        """Bisect, in ratios, for the least share of the objective that needs no training."""
        low = self._chooser.floor(self._objective) / self._dense
        for step in range(BISECTIONS):
            self._chooser.progress("choosing", step, BISECTIONS, f"{1 / self.share:.2f}x")
            middle = (low * self.share) ** 0.5
            if not self._try(middle):
                low = middle
        self._chooser.progress("choosing", BISECTIONS, BISECTIONS, f"{1 / self.share:.2f}x")
        self._learn()

    def trained(self) -> None:
        """Go further step by step, each cut from the last that was trained, while the limit is kept."""
        failures, stride = 0, self._stride()
        fixed = self._chooser.options.epochs is not None
        while failures < len(EFFORTS) and time.monotonic() < self._deadline:
            part, times = EFFORTS[failures]
            if self._try(self.share * stride**part, 1 if fixed else times):
                self._learn()
            else:
                failures += 1

    def _stride(self) -> float:
        """From the share that is kept to the one at which untrained cuts lose what training may well bring back."""
        shares, points = np.array(sorted(self._untrained, reverse=True)).T
        promising = np.interp(PROMISING * self._limit(), np.maximum.accumulate(points), shares)
        return min(max(float(promising) / self.share, _STRIDES[0]), _STRIDES[1])

    def _learn(self) -> None:
        """Measure what was kept: what the tables say of the next cut is set right by it."""
        self.measured = self._chooser.measured(self.plan, {self._objective: 0.0})
        self.share = self._chooser.now(self._objective, self.plan.table[self._objective]) / self._dense

    @property
    def _dense(self) -> float:
        whole = [table.dense[self._objective] for table in self._chooser.tables if table.start == 0]
        return self._chooser.now(self._objective, min(whole))

    def _planned(self, share: float) -> Plan:
        return self._chooser.least_error({self._objective: share * self._dense})

    def _try(self, share: float, times: int = 0) -> bool:
        """Cut to `share` of the dense objective and train `times` as long as usual; keep what keeps the limit.

        Training goes on from the last model that was kept, where that has the same channels. What that model is
        already, and what training as long from it did not bring back, are not tried again.
        """
        chooser, limit, plan = self._chooser, self._limit(), self._planned(share)
        if times and (plan.same_as(self.plan) or any(plan.same_as(p) and times <= t for p, t in self._failed)):
            return False
        judge = chooser.thinner.judge_of(plan.start)
        start = self.model if times and plan.start == self.plan.start else judge.original
        model = cut(judge, plan.levels, chooser.options, chooser.progress, start)
        if times:
            minutes = max(0.1, (self._deadline - time.monotonic()) / 60.0)
            enough = self._losses.before - max(0.0, limit - self._caution) / 100.0 if self._rate else None
            model = recovered(
                judge,
                model,
                chooser.options,
                chooser.progress,
                minutes=minutes,
                good_enough=enough,
                value=self._losses.value if self._losses.expects else None,
                times=times,
            )
        chooser.tried += 1
        loss = self._losses.of(judge.write(model), trained=times > 0)
        self._caution = CAUTION * loss.error
        if not times:
            self._untrained.append((share, loss.points))
        if loss.points + self._caution > limit:
            self._failed.append((plan, times))
            return False
        self.model, self.share, self.plan, self._failed = model, share, plan, []
        return True
