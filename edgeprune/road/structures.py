"""Cuts whole channels, heads or residual branches: chosen, silenced, repaired, and only then taken out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.errors import EdgepruneError
from edgeprune.ir.cost import model_cost
from edgeprune.ir.dependency import Group, find_groups
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.options import Options
from edgeprune.passes.criteria.named import saliencies
from edgeprune.passes.select_units import SelectUnits
from edgeprune.passes.silence_units import SilenceUnits
from edgeprune.passes.unit_errors import UnitErrors, by_scores, unit_errors
from edgeprune.passes.unit_scores import unit_scores, units_cost
from edgeprune.passes.unit_shares import UnitShares
from edgeprune.pattern import Pattern
from edgeprune.progress import Progress
from edgeprune.road.costing import ram_bytes
from edgeprune.road.cutting import CALIBRATION_ROWS, cut, epochs_of, recovered
from edgeprune.road.error_store import kept_unit_errors
from edgeprune.road.judging import Judge, cores_of
from edgeprune.road.losing import Losses
from edgeprune.search.units import UnitGroup, keep_units, step_for
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

UNIT_CRITERION = "taylor"
"""What judges units that no layer's weights can make up for, where the user leaves the criterion open."""

_COUNTED_ALIKE = 1e-6
_BISECTIONS = 4
_RAM_DENSITIES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Structures:
    """The units of one kind in the judge's original, and what each is worth."""

    judge: Judge
    options: Options
    units: tuple[UnitGroup, ...]
    shares: UnitShares

    def keep(self, density: float) -> dict[str, np.ndarray]:
        """The units to keep so that at most `density` of the weights, and of the work, is left."""
        kept = keep_units(self.units, density, self.shares.left)
        left, counted = self._left(kept), self.shares.left(kept)
        if left < counted - _COUNTED_ALIKE:
            return keep_units(self.units, density, self._left)
        return kept

    def taken_out(self, kept: Mapping[str, np.ndarray]) -> ir.Model:
        """The original without the other units, as it is."""
        return SelectUnits(kept)(self.judge.original) if kept else self.judge.original

    def repaired(self, kept: Mapping[str, np.ndarray], progress: Progress) -> ir.Model:
        """The original without the other units, refitted and trained.

        Meanwhile they are silent but in place, so that the original can teach what is left value by value.
        """
        judge, options = self.judge, self.options
        if not kept:
            return judge.original
        silenced = SilenceUnits(kept)(judge.original)
        refitted = cut(judge, {}, options, progress, silenced)
        trained = recovered(judge, refitted, options, progress, minutes=options.minutes)
        return SelectUnits(kept)(with_real_weights(trained))

    def refitted(self, kept: Mapping[str, np.ndarray], progress: Progress) -> ir.Model:
        """The original without the other units, refitted."""
        judge = self.judge
        silenced = SilenceUnits(kept)(judge.original)
        return SelectUnits(kept)(with_real_weights(cut(judge, {}, self.options, progress, silenced)))

    def lost(self, kept: Mapping[str, np.ndarray]) -> float:
        """The sum of what is lost with the units of each group."""
        gone = [(group, len(group.order) - len(kept[group.name])) for group in self.units if group.name in kept]
        return sum(float(group.errors[count // group.step]) for group, count in gone)

    def furthest(self, progress: Progress) -> ir.Model:
        """The fewest units that keep the accuracy limit on the validate rows, by bisection."""
        judge, found = self.judge, self.judge.original
        losses, trained = Losses(judge), epochs_of(judge, self.options) > 0
        low, high = 0.1, 1.0
        for step in range(_BISECTIONS):
            progress("choosing", step, _BISECTIONS, f"{high:.0%} left")
            middle = (low + high) / 2
            model = self.repaired(self.keep(middle), progress)
            if losses.of(judge.write(model), trained).points <= self.options.max_drop:
                found, high = model, middle
            else:
                low = middle
        progress("choosing", _BISECTIONS, _BISECTIONS, f"{high:.0%} left")
        return found

    def within_ram(self, target: Target, budget: float, progress: Progress) -> dict[str, np.ndarray]:
        """The most units to keep with which the static plan takes at most `budget` bytes; else the fewest there are."""
        kept: dict[str, np.ndarray] = {}
        for step, density in enumerate(_RAM_DENSITIES):
            progress("fitting into RAM", step, len(_RAM_DENSITIES), f"{density:.0%} of the channels")
            kept = self.keep(density) if density < 1 else {}
            if ram_bytes(self.judge.write(self.taken_out(kept)), target, budget) <= budget:
                break
        progress("fitting into RAM", len(_RAM_DENSITIES), len(_RAM_DENSITIES), "")
        return kept

    def _left(self, kept: Mapping[str, np.ndarray]) -> float:
        whole, cost = model_cost(self.judge.original), model_cost(self.taken_out(kept))
        return max(cost.dense_macs / max(1, whole.dense_macs), cost.weights / max(1, whole.weights))


def structures_of(judge: Judge, target: Target, pattern: Pattern, options: Options, progress: Progress) -> Structures:
    """The units that `pattern` removes, judged on the calibration rows.

    Raises EdgepruneError (nothing-to-prune) where the model has none of the kind.
    """
    model = judge.original
    groups = [group for group in find_groups(model).groups if group.kind == pattern.structure]
    if not groups:
        raise _nothing(pattern, model)
    progress("judging units", 0, len(groups), "")
    steps = {group.name: (group, step_for(group.size, target.lanes)) for group in groups}
    errors = _errors(judge, steps, options, progress)
    whole = model_cost(model)
    units = []
    for name, (group, step) in steps.items():
        cost = units_cost(model, group)
        macs, weights = cost.macs / max(1, whole.dense_macs), cost.weights / max(1, whole.weights)
        units.append(UnitGroup(name, errors[name].order, errors[name].errors, macs, weights, step))
    return Structures(judge, options, tuple(units), UnitShares(model, groups))


def _errors(
    judge: Judge, steps: Mapping[str, tuple[Group, int]], options: Options, progress: Progress
) -> Mapping[str, UnitErrors]:
    """What is lost with the units of every group: measured, or as the criterion that was asked for has it."""
    model, rows = judge.original, judge.rows("calibrate", CALIBRATION_ROWS)

    def make() -> Mapping[str, UnitErrors]:
        worth, threads = _worth(judge, options), cores_of(options)
        return unit_errors(model, rows, steps, worth, seed=options.seed, threads=threads, progress=progress)

    if options.criterion == "auto":
        sizes = {name: step for name, (_, step) in steps.items()}
        return kept_unit_errors(model, rows, sizes, options.seed, make)
    worth = _worth(judge, options)
    owned = {group.name: units_cost(model, group).weights for group, _ in steps.values()}
    scores = {group.name: unit_scores(model, group, worth) * max(owned[group.name], 1.0) for group, _ in steps.values()}
    return {name: by_scores(scores[name], step) for name, (_, step) in steps.items()}


def _worth(judge: Judge, options: Options) -> dict[str, np.ndarray]:
    """The saliencies of the criterion; where the user leaves it open, by size in a model that gives no gradients."""
    model, rows = judge.original, judge.rows("calibrate", CALIBRATION_ROWS)
    if options.criterion != "auto":
        return saliencies(model, rows, options.criterion, options.seed)
    try:
        return saliencies(model, rows, UNIT_CRITERION, options.seed)
    except EdgepruneError as error:
        if error.code != "op-untrainable":
            raise
        return saliencies(model, rows, "magnitude", options.seed)


def _nothing(pattern: Pattern, model: ir.Model) -> EdgepruneError:
    reasons = [f"{each.name}: {each.reason}" for each in find_groups(model).unresolved[:3]]
    return EdgepruneError(
        "nothing-to-prune",
        f"no {pattern} of this model can be removed",
        where=f"--pattern {pattern}",
        hint="; ".join(reasons) if reasons else "choose another pattern, such as 1x1",
        exit_code=2,
    )
