"""Chooses what every layer keeps: the least loss within the budgets, or as far as the accuracy limit allows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeprune.metric import drop_points
from edgeprune.options import Options
from edgeprune.passes.prune import Prune
from edgeprune.pattern import Level, Pattern
from edgeprune.progress import Progress
from edgeprune.road.assembly import Draft
from edgeprune.road.costing import with_layouts
from edgeprune.road.cutting import cut, epochs_of, familiarity, recovered, validated
from edgeprune.road.drafting import Drafter
from edgeprune.road.judging import Judge
from edgeprune.road.tabulating import energy_of, tables_for
from edgeprune.search.candidates import LayoutTable, best_over_layouts
from edgeprune.search.costs import CostTable
from edgeprune.search.knapsack import Assignment, least

if TYPE_CHECKING:
    import onnx_ir as ir

SEARCH_MINUTES = 10.0
"""How long recovery training may go on for while edgeprune looks for the furthest cut, unless the user says."""

MARGIN = 0.98
"""A budget is aimed at a little below it, for measurements differ from one another."""

TIGHTENINGS = 4
"""How often a budget is aimed at again, lower, where the compiled model misses it."""

BISECTIONS = 6
"""How often the range of one-shot cuts is halved."""

STRIDES = (0.7, 0.84, 0.92)
"""How far each trained cut goes beyond the last: shorter after a failure."""


@dataclass(frozen=True)
class Search:
    """What a search found out: predicted and measured figures of the model it chose, and how many it tried."""

    objective: str
    layout: str
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    kind: str
    tried: int
    assumptions: tuple[str, ...] = ()
    basis: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The `search` field of the inspection: microseconds, bytes and millijoules; the error of the prediction."""
        found: dict[str, Any] = {
            "objective": self.objective,
            "layout": self.layout,
            "kind": self.kind,
            "tried": self.tried,
            "predicted": dict(self.predicted),
            "measured": dict(self.measured),
        }
        if "latency" in self.measured:
            found["prediction_error"] = self.predicted["latency"] / self.measured["latency"] - 1
        if self.basis:
            found["basis"] = self.basis
        if self.assumptions:
            found["assumptions"] = list(self.assumptions)
        return found


@dataclass(frozen=True)
class Chosen:
    """The model that a search chose."""

    model: ir.Model
    search: Search


@dataclass
class Chooser:
    """One search for one model, target and set of wishes."""

    judge: Judge
    drafter: Drafter
    options: Options
    patterns: Sequence[Pattern]
    progress: Progress
    tables: list[LayoutTable] = field(init=False)
    costs: CostTable = field(init=False)
    tried: int = field(init=False, default=0)
    pace: float = field(init=False, default=1.0)
    """How long this machine takes now for what took 1 when the costs were measured."""

    def __post_init__(self) -> None:
        target = self.drafter.target
        self.tables, self.costs = tables_for(self.judge, target, self.patterns, self.options, self.progress)

    def choose(self) -> Chosen:
        """The model; where a budget cannot be met, the nearest that there is."""
        limits = _limits(self.options)
        if self.drafter.measures and self.costs.kind == "measured":
            self.pace = self._measured({}, {"latency": 0.0})["latency"] / self.costs.dense_us
            self.tried = 0
        found, levels = self._within(limits) if limits else self._furthest()
        return replace(found, model=with_layouts(found.model, self.costs, levels))

    def _within(self, limits: Mapping[str, float]) -> tuple[Chosen, Mapping[str, Level]]:
        """The least error within `limits`, which the compiled model keeps too."""
        aims = {name: MARGIN * limit for name, limit in limits.items()}
        for _ in range(TIGHTENINGS):
            assignment, layout = self._least_error(aims)
            measured = self._measured(assignment.levels, limits)
            took = {name.removeprefix("predicted_"): value for name, value in measured.items()}
            missed = [name for name in limits if name in took and took[name] > limits[name]]
            if not missed or self._at_floor(assignment, missed):
                break
            for name in missed:
                aims[name] *= MARGIN * limits[name] / took[name]
        model = self._trained(cut(self.judge, assignment.levels, self.options, self.progress))
        return Chosen(model, self._search("error", layout, assignment, measured)), assignment.levels

    def _least_error(self, aims: Mapping[str, float]) -> tuple[Assignment, str]:
        """The least error within `aims`; where they cannot be kept, the least of what is missed by most."""
        paced = {name: aim / self._factor(name) for name, aim in aims.items()}
        found = best_over_layouts(self.tables, "error", paced)
        if found is None:
            worst = max(aims, key=lambda name: self._floor(name) / aims[name])
            found = best_over_layouts(self.tables, worst, {})
        assert found is not None
        assignment, layout = found
        time_us = self.pace * self.costs.total(assignment.levels)
        exact = {"latency": time_us, "size": float(self.costs.size(assignment.levels))}
        return Assignment(assignment.levels, {**assignment.totals, **exact}), layout

    def _floor(self, quantity: str) -> float:
        """The least of `quantity` that any assignment has."""
        sums = (least(table.choices, quantity) + table.fixed[quantity] for table in self.tables)
        return self._factor(quantity) * min(sums)

    def _factor(self, quantity: str) -> float:
        """From the table's unit of `quantity` to what is measured now."""
        return self.pace if quantity == "latency" else 1.0

    def _at_floor(self, assignment: Assignment, missed: Sequence[str]) -> bool:
        return all(assignment.totals[name] <= self._floor(name) * (1 + 1e-6) for name in missed)

    def _measured(self, levels: Mapping[str, Level], wanted: Mapping[str, float]) -> dict[str, float]:
        """What the model at `levels` takes once it is compiled; its weights are cut by size, which costs the same."""
        self.tried += 1
        self.progress("measuring candidates", self.tried - 1, self.tried, "")
        pruned = with_layouts(Prune(levels)(self.judge.original), self.costs, levels)
        draft = self.drafter.draft(pruned, self.progress)
        return self._figures(draft, wanted)

    def _figures(self, draft: Draft, wanted: Mapping[str, float]) -> dict[str, float]:
        found = {"size": float(draft.manifest.total_bytes)}
        if "latency" in wanted and self.drafter.measures:
            found["latency"] = self.drafter.latency_us(draft, self.progress)
        elif "latency" in wanted and (predicted := self.drafter.compiled_us(draft)) is not None:
            found["predicted_latency"] = predicted
        return found

    def _furthest(self) -> tuple[Chosen, Mapping[str, Level]]:
        """The least of the objective that keeps the accuracy limit on the validate rows."""
        objective = _quantity(self.options.objective)
        walk = _Walk(self, objective)
        walk.one_shot()
        if epochs_of(self.judge, self.options):
            walk.trained()
        measured = self._measured(walk.assignment.levels, {objective: 0.0})
        search = self._search(objective, walk.layout, walk.assignment, measured)
        return Chosen(walk.model, search), walk.assignment.levels

    def _search(self, objective: str, layout: str, assignment: Assignment, measured: Mapping[str, float]) -> Search:
        """What is told of the search that ends here."""
        kind, basis = self.costs.kind, self.costs.basis
        return Search(objective, layout, assignment.totals, measured, kind, self.tried, self._assumptions(), basis)

    def _assumptions(self) -> tuple[str, ...]:
        """What the energy figures rest on, where energy was asked for."""
        energy = energy_of(self.costs, self.drafter.target, self.options, self.judge.write.precision)
        asked = self.options.energy is not None or self.options.objective == "energy"
        return energy.assumptions() if energy is not None and asked else ()

    def _trained(self, model: ir.Model) -> ir.Model:
        return recovered(self.judge, model, self.options, self.progress, minutes=self.options.minutes)


class _Walk:
    """The way from the dense model to the furthest cut within the accuracy limit."""

    def __init__(self, chooser: Chooser, objective: str) -> None:
        self._chooser, self._objective = chooser, objective
        judge = chooser.judge
        self._validate = judge.rows("validate")
        self._before = validated(judge, judge.original, self._validate).value
        self._rate = judge.metric in ("top1", "top5", "auc", "fidelity")
        self._deadline = time.monotonic() + 60.0 * (chooser.options.minutes or SEARCH_MINUTES)
        self.model: ir.Model = judge.original
        self.share = 1.0
        self.assignment, self.layout = self._assigned(1.0)

    def _allowed(self, trained: bool) -> float:
        """Points that a cut may lose on the validate rows."""
        judge, limit = self._chooser.judge, self._chooser.options.max_drop
        if judge.metric in ("top1", "top5") and judge.card is not None and "validate" not in judge.card.sections:
            # By the rule of succession: what a handful of rows held back cannot tell from no loss at all.
            limit -= 100.0 / (self._validate.count + 2)
        return limit + familiarity(judge, self._before, trained)

    def one_shot(self) -> None:
        """Bisect, in ratios, for the least share of the objective that needs no training."""
        low = self._chooser._floor(self._objective) / self._dense
        for step in range(BISECTIONS):
            self._chooser.progress("choosing", step, BISECTIONS, f"{1 / self.share:.2f}x")
            middle = (low * self.share) ** 0.5
            if not self._try(middle, self._chooser.judge.original, train=False):
                low = middle
        self._chooser.progress("choosing", BISECTIONS, BISECTIONS, f"{1 / self.share:.2f}x")

    def trained(self) -> None:
        """Go further step by step, each cut from the last that was trained, while the limit is kept."""
        stride = 0
        while stride < len(STRIDES) and time.monotonic() < self._deadline:
            if not self._try(self.share * STRIDES[stride], self.model, train=True):
                stride += 1

    @property
    def _dense(self) -> float:
        tables = self._chooser.tables
        sums = [
            sum(next(iter(options)).quantities[self._objective] for options in table.choices.values())
            + table.fixed[self._objective]
            for table in tables
        ]
        return self._chooser._factor(self._objective) * min(sums)

    def _assigned(self, share: float) -> tuple[Assignment, str]:
        return self._chooser._least_error({self._objective: share * self._dense})

    def _try(self, share: float, start: ir.Model, train: bool) -> bool:
        """Cut to `share` of the dense objective; keep the result where the limit is kept."""
        chooser, allowed = self._chooser, self._allowed(train)
        assignment, layout = self._assigned(share)
        model = cut(chooser.judge, assignment.levels, chooser.options, chooser.progress, start)
        if train:
            minutes = max(0.1, (self._deadline - time.monotonic()) / 60.0)
            enough = self._before - self._allowed(trained=False) / 100.0 if self._rate else None
            model = recovered(
                chooser.judge, model, chooser.options, chooser.progress, minutes=minutes, good_enough=enough
            )
        chooser.tried += 1
        after = validated(chooser.judge, model, self._validate).value
        if drop_points(chooser.judge.metric, self._before, after) > allowed:
            return False
        self.model, self.share, self.assignment, self.layout = model, share, assignment, layout
        return True


def _limits(options: Options) -> dict[str, float]:
    """The budgets that levels can meet: microseconds, bytes, millijoules."""
    wanted = {
        "latency": None if options.latency is None else 1000.0 * options.latency,
        "size": options.size,
        "energy": options.energy,
    }
    return {name: float(limit) for name, limit in wanted.items() if limit is not None}


def _quantity(objective: str) -> str:
    """The column of the tables that an objective is about; what has none of its own is best served by speed."""
    return objective if objective in ("energy", "size") else "latency"
