"""What every layer may become, and what each of that costs: the table that a budget is solved on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgeprune.pattern import Level, Pattern
from edgeprune.search.costs import DENSE, LayoutCosts
from edgeprune.search.energy import EnergyModel
from edgeprune.search.knapsack import Assignment, Choice, solve, undominated

DENSITIES = (0.85, 0.7, 0.6, 0.5, 0.42, 0.35, 0.3, 0.25, 0.2, 0.16, 0.13, 0.1, 0.08, 0.06)
"""The densities that are tried where a pattern leaves the level open."""

QUANTITIES = ("error", "latency", "size", "energy")


@dataclass(frozen=True)
class Work:
    """What one layer does at full density: multiply-accumulates, and bytes of activations in and out."""

    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class LayoutTable:
    """The choices of every layer with images in one layout, and what is there in any case.

    Quantities: error (the estimated loss), latency (microseconds), size (bytes), energy (millijoules). `start` is the
    number of the model that the weights are cut from: 0 the whole one, others have fewer channels.
    """

    layout: str
    choices: Mapping[str, Sequence[Choice]]
    fixed: Mapping[str, float]
    start: int = 0

    def assign(self, minimise: str, limits: Mapping[str, float]) -> Assignment | None:
        """The best assignment whose totals, with what is fixed, keep to `limits`; None where there is none."""
        left = {name: limit - self.fixed[name] for name, limit in limits.items()}
        found = solve(self.choices, minimise, left)
        if found is None:
            return None
        return Assignment(found.levels, {name: found.totals.get(name, 0.0) + self.fixed[name] for name in QUANTITIES})

    @property
    def dense(self) -> Mapping[str, float]:
        """The totals where every layer keeps everything."""
        first = [next(iter(options)).quantities for options in self.choices.values()]
        return {name: self.fixed[name] + sum(each[name] for each in first) for name in QUANTITIES}

    def scaled(self, quantity: str, factor: float) -> LayoutTable:
        """The table in which all of `quantity` is `factor` times as much."""
        choices = {
            name: [
                Choice(each.level, {**each.quantities, quantity: factor * each.quantities[quantity]})
                for each in options
            ]
            for name, options in self.choices.items()
        }
        return replace(self, choices=choices, fixed={**self.fixed, quantity: factor * self.fixed[quantity]})

    def shifted(self, quantity: str, amount: float) -> LayoutTable:
        """The table in which `amount` more of `quantity` is there in any case."""
        return replace(self, fixed={**self.fixed, quantity: self.fixed[quantity] + amount})

    def thinned(self, start: int, shares: Mapping[str, float], rest: float, error: float) -> LayoutTable:
        """The table of a model of fewer channels that lost `error` with them.

        Of the costs of a layer, its share in `shares` is left, of the time and energy of everything else `rest`.
        """
        choices = {
            name: [_shrunk(choice, shares.get(name, 1.0)) for choice in options]
            for name, options in self.choices.items()
        }
        fixed = {**self.fixed, "error": error}
        fixed.update({name: rest * self.fixed[name] for name in ("latency", "energy")})
        return LayoutTable(self.layout, choices, fixed, start)


def _shrunk(choice: Choice, share: float) -> Choice:
    quantities = {name: value if name == "error" else share * value for name, value in choice.quantities.items()}
    return Choice(choice.level, quantities)


def levels_to_try(names: Sequence[str], patterns: Sequence[Pattern]) -> dict[str, tuple[Level, ...]]:
    """Every level that each layer of `names` may get: each pattern at its own density, or at all of DENSITIES."""
    levels = tuple(
        Level(pattern, density)
        for pattern in patterns
        for density in (DENSITIES if pattern.density is None else (pattern.density,))
    )
    return dict.fromkeys(names, levels)


def layout_table(
    costs: LayoutCosts,
    levels: Mapping[str, Sequence[Level]],
    errors: Mapping[str, Sequence[float]],
    work: Mapping[str, Work],
    energy: EnergyModel | None,
) -> LayoutTable:
    """The table of one layout; `errors` go with `levels`. Options that another beats in everything are left out."""
    choices = {}
    for name in costs.dense:
        options = [_choice(costs, name, None, 0.0, work, energy)]
        if name in errors:
            pairs = zip(levels[name], errors[name], strict=True)
            options += [_choice(costs, name, level, error, work, energy) for level, error in pairs]
        choices[name] = undominated(options, QUANTITIES)
    static = 0.0 if energy is None else energy.of(0, 0, 0, costs.fixed_us)
    fixed = {
        "error": 0.0,
        "latency": costs.fixed_us,
        "size": float(costs.fixed_bytes + costs.code_bytes),
        "energy": static,
    }
    return LayoutTable(costs.layout, choices, fixed)


def _choice(
    costs: LayoutCosts,
    name: str,
    level: Level | None,
    error: float,
    work: Mapping[str, Work],
    energy: EnergyModel | None,
) -> Choice:
    taken = DENSE if level is None else level
    time, size = costs.time_us(name, taken), costs.bytes(name, taken)
    spent = 0.0
    if energy is not None and name in work:
        spent = energy.of(work[name].macs * taken.density, size, work[name].activation_bytes, time)
    return Choice(level, {"error": error, "latency": time, "size": float(size), "energy": spent})


def best_of(
    tables: Sequence[LayoutTable], minimise: str, limits: Mapping[str, float]
) -> tuple[Assignment, LayoutTable] | None:
    """The best assignment of all tables, and its table; None where the limits cannot be kept in any."""
    found = [(table.assign(minimise, limits), table) for table in tables]
    kept = [(assignment, table) for assignment, table in found if assignment is not None]
    return min(kept, key=lambda pair: pair[0].totals[minimise]) if kept else None
