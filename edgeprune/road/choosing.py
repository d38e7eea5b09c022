"""Chooses what every layer keeps: the least loss within the budgets, or as far as the accuracy limit allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeprune.options import Options
from edgeprune.passes.prune import Prune
from edgeprune.pattern import Pattern
from edgeprune.progress import Progress
from edgeprune.road.assembly import Draft
from edgeprune.road.costing import with_layouts
from edgeprune.road.cutting import cut, epochs_of, loss_of, recovered
from edgeprune.road.drafting import Drafter
from edgeprune.road.judging import Judge
from edgeprune.road.pacing import Pace
from edgeprune.road.tabulating import energy_of, tables_for
from edgeprune.road.thinning import Thinner, channels_left
from edgeprune.road.walking import Plan, Walk
from edgeprune.search.candidates import LayoutTable, best_of
from edgeprune.search.costs import CostTable
from edgeprune.search.knapsack import Assignment, least

if TYPE_CHECKING:
    import onnx_ir as ir

MARGIN = 0.98
"""A budget is aimed at a little below it, for measurements differ from one another."""

TIGHTENINGS = 3
"""How often a budget is aimed at again, where the compiled model misses it or leaves much of it."""

SLACK = 0.95
"""The share of an aim that a compiled model is to use at least: what is left could keep weights."""

HALFWAY = 0.5
"""The share of the dense objective at which models of fewer channels are weighed where there is no budget."""

WORSE = 2.0
"""What is estimated to lose so many times as much is not run to know better."""

_SMALLEST = 1e-9


@dataclass(frozen=True)
class Search:
    """What a search found out: predicted and measured figures of the model it chose, and how many it tried.

    `channels` is the share of work and weights that was left with fewer channels before weights were cut.
    """

    objective: str
    layout: str
    channels: float
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
            "channels": self.channels,
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


@dataclass(frozen=True)
class _Try:
    """A plan and what was measured of it, compiled."""

    plan: Plan
    measured: Mapping[str, float]


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
    thinner: Thinner = field(init=False)
    tried: int = field(init=False, default=0)
    beside: float = field(init=False, default=0.0)
    """Bytes of the program beyond what the costs say."""
    paces: dict[str, Pace] = field(init=False)
    """What compiled models take for what is in the tables, of the quantities that can be told of them."""

    def __post_init__(self) -> None:
        target = self.drafter.target
        self.tables, self.costs = tables_for(self.judge, target, self.patterns, self.options, self.progress)
        self.thinner = Thinner(self.judge, target, self.options, self.progress)
        if self.options.pattern is None:
            self.tables += self.thinner.tables(self.tables)
        whole = {"latency": self.costs.dense_us, "size": float(self.costs.size({}))}
        self.paces = {name: Pace((value, value)) for name, value in whole.items()}

    def choose(self) -> Chosen:
        """The model; where a budget cannot be met, the nearest that there is."""
        limits = _limits(self.options)
        timed = self.drafter.measures and self.costs.kind == "measured"
        if timed or "size" in limits:
            self._measure_dense({"latency": 0.0} if timed else {})
        found, plan = self._within(limits) if limits else self._furthest()
        return replace(found, model=with_layouts(found.model, self.costs, plan.levels))

    def _measure_dense(self, wanted: Mapping[str, float]) -> None:
        """Compile the model as it is: how long it takes now, and how large the program beside the weights is."""
        said = {name: pace.dense[0] for name, pace in self.paces.items()}
        size = self.measured(Plan(Assignment({}, {}), "", 0, said), wanted)["size"]
        self.beside = size - said["size"]
        self.paces["size"] = Pace((size, size))
        self.tables = [each.shifted("size", self.beside) for each in self.tables]
        self.tried = 0

    def _within(self, limits: Mapping[str, float]) -> tuple[Chosen, Plan]:
        """The least error within `limits`, which the compiled model keeps too."""
        aims = {name: MARGIN * limit for name, limit in limits.items()}
        self.weigh_starts(aims)
        tries = [self._tried(self.least_error(aims), limits)]
        while len(tries) <= TIGHTENINGS and not _reached(tries[-1], limits, aims):
            plan = self.least_error(aims)
            if plan.same_as(tries[-1].plan):
                break
            tries.append(self._tried(plan, limits))
        kept = _best_within(tries, limits)
        judge = self.thinner.judge_of(kept.plan.start)
        model = self._trained(judge, cut(judge, kept.plan.levels, self.options, self.progress))
        return Chosen(model, self._search("error", kept.plan, kept.measured)), kept.plan

    def _tried(self, plan: Plan, limits: Mapping[str, float]) -> _Try:
        return _Try(plan, self.measured(plan, limits))

    def least_error(self, aims: Mapping[str, float]) -> Plan:
        """The least error within `aims`; where they cannot be kept, the least of what is missed by most."""
        plan = self._planned(self.tables, "error", aims)
        if plan is None:
            worst = max(aims, key=lambda name: self.floor(name) / aims[name])
            plan = self._planned(self.tables, worst, {})
        assert plan is not None
        return plan

    def _planned(self, tables: Sequence[LayoutTable], minimise: str, aims: Mapping[str, float]) -> Plan | None:
        """The best plan by `tables` within `aims`; None where there is none."""
        wanted = {name: self.paces[name].table(aim) if name in self.paces else aim for name, aim in aims.items()}
        found = best_of(tables, minimise, wanted)
        if found is None:
            return None
        assignment, table = found
        said = dict(assignment.totals)
        if table.start == 0:
            said["latency"] = self.costs.total(assignment.levels)
            said["size"] = self.costs.size(assignment.levels) + self.beside
        totals = {name: self.now(name, value) for name, value in said.items()}
        return Plan(Assignment(assignment.levels, totals), table.layout, table.start, said)

    def weigh_starts(self, aims: Mapping[str, float]) -> None:
        """Set right what models of fewer channels are estimated to lose, by a cut of one and a cut of the whole.

        What layers lose one by one is more than what they lose together; with channels it is hardly so.
        """
        whole, thinned = ([each for each in self.tables if bool(each.start) == thin] for thin in (False, True))
        plans = [self._planned(tables, "error", aims) for tables in (thinned, whole) if tables]
        found = [plan for plan in plans if plan is not None and plan.table["error"] > 0]
        if len(found) == 2 and found[0].table["error"] < WORSE * found[1].table["error"]:
            factor = self._lost(found[0]) / self._lost(found[1])
            self.tables = [each.scaled("error", factor) if each.start else each for each in self.tables]

    def _lost(self, plan: Plan) -> float:
        """What a cut to `plan` loses for each nat that it is estimated to lose."""
        judge = self.thinner.judge_of(plan.start)
        model = cut(judge, plan.levels, self.options, self.progress)
        return max(loss_of(judge, model), _SMALLEST) / plan.table["error"]

    def floor(self, quantity: str) -> float:
        """The least of `quantity` that any assignment has."""
        return self.now(quantity, min(least(table.choices, quantity) + table.fixed[quantity] for table in self.tables))

    def now(self, quantity: str, value: float) -> float:
        """From the `value` of a `quantity` in the tables to what is measured now."""
        return self.paces[quantity].now(value) if quantity in self.paces else value

    def measured(self, plan: Plan, wanted: Mapping[str, float]) -> dict[str, float]:
        """What the planned model takes once it is compiled; the paces learn from it.

        Its weights are cut by size: which ones are kept does not change what they cost.
        """
        self.tried += 1
        self.progress("measuring candidates", self.tried - 1, self.tried, "")
        model = self.thinner.judge_of(plan.start).original
        pruned = with_layouts(Prune(plan.levels)(model), self.costs, plan.levels)
        found = self._figures(self.drafter.draft(pruned, self.progress), wanted)
        for name, value in _taken(found).items():
            self.paces[name] = self.paces[name].learnt(plan.table[name], value)
        return found

    def _figures(self, draft: Draft, wanted: Mapping[str, float]) -> dict[str, float]:
        found = {"size": float(draft.manifest.total_bytes)}
        if "latency" in wanted and self.drafter.measures:
            found["latency"] = self.drafter.latency_us(draft, self.progress)
        elif "latency" in wanted and (predicted := self.drafter.compiled_us(draft)) is not None:
            found["predicted_latency"] = predicted
        return found

    def _furthest(self) -> tuple[Chosen, Plan]:
        """The least of the objective that keeps the accuracy limit on the validate rows."""
        objective = _quantity(self.options.objective)
        whole = min(table.dense[objective] for table in self.tables if table.start == 0)
        self.weigh_starts({objective: self.now(objective, HALFWAY * whole)})
        walk = Walk(self, objective)
        walk.one_shot()
        if epochs_of(self.judge, self.options):
            walk.trained()
        return Chosen(walk.model, self._search(objective, walk.plan, walk.measured)), walk.plan

    def _search(self, objective: str, plan: Plan, measured: Mapping[str, float]) -> Search:
        """What is told of the search that ends here."""
        kind, basis, totals = self.costs.kind, self.costs.basis, plan.assignment.totals
        channels = channels_left(plan.start)
        return Search(objective, plan.layout, channels, totals, measured, kind, self.tried, self._assumptions(), basis)

    def _assumptions(self) -> tuple[str, ...]:
        """What the energy figures rest on, where energy was asked for."""
        energy = energy_of(self.costs, self.drafter.target, self.options, self.judge.write.precision)
        asked = self.options.energy is not None or self.options.objective == "energy"
        return energy.assumptions() if energy is not None and asked else ()

    def _trained(self, judge: Judge, model: ir.Model) -> ir.Model:
        return recovered(judge, model, self.options, self.progress, minutes=self.options.minutes)


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


def _best_within(tries: Sequence[_Try], limits: Mapping[str, float]) -> _Try:
    """The try of least error that keeps `limits`; where none does, the last."""
    met = [each for each in tries if not _missed(each.measured, limits)]
    return min(met, key=lambda each: each.plan.assignment.totals["error"]) if met else tries[-1]


def _reached(last: _Try, limits: Mapping[str, float], aims: Mapping[str, float]) -> bool:
    """Whether the last try keeps `limits` and leaves little of one of the `aims`."""
    if _missed(last.measured, limits):
        return False
    taken = {**last.plan.assignment.totals, **_taken(last.measured)}
    return any(taken[name] >= SLACK * aim for name, aim in aims.items())


def _missed(measured: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
    """The quantities that are over their limit."""
    taken = _taken(measured)
    return [name for name, limit in limits.items() if taken.get(name, 0.0) > limit]


def _taken(measured: Mapping[str, float]) -> dict[str, float]:
    """What was measured, or predicted for the compiled model, by quantity."""
    return {name.removeprefix("predicted_"): value for name, value in measured.items()}
