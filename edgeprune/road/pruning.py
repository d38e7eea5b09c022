"""The pruning part of the road: what to cut, the cut, the repair, and the level that the limits allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeprune.errors import EdgepruneError
from edgeprune.options import Options
from edgeprune.passes.criteria.named import saliencies
from edgeprune.passes.finite import check_finite
from edgeprune.passes.permute import Permute
from edgeprune.passes.recognise import Recognise, is_sparse
from edgeprune.pattern import Level, Pattern, parse_pattern
from edgeprune.progress import Progress
from edgeprune.road.budgets import has_budget
from edgeprune.road.choosing import Chooser
from edgeprune.road.costing import ram_bytes
from edgeprune.road.cutting import CALIBRATION_ROWS, cut, recovered
from edgeprune.road.drafting import Drafter
from edgeprune.road.judging import Judge
from edgeprune.road.losing import Losses
from edgeprune.road.structures import structures_of
from edgeprune.road.tabulating import errors_of
from edgeprune.search.candidates import DENSITIES
from edgeprune.search.levels import global_levels, least_error_levels, levels_around, prunable_layers
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir


_BY_RECONSTRUCTION = ("auto", "sparsegpt", "obs", "alps")
"""Criteria that judge one layer at a time, by the error of its output: levels go by what each layer loses."""

_BY_WEIGHT = (*_BY_RECONSTRUCTION, "magnitude")
"""Criteria whose levels, where nothing can be measured, go by the size of the weights."""


@dataclass(frozen=True)
class Pruned:
    """A pruned model, whether the user set the level by hand, and what a search found out."""

    model: ir.Model
    by_hand: bool
    search: dict[str, Any] | None = None

    @property
    def predicted_us(self) -> float | None:
        """Microseconds that a search predicted; None where there was none."""
        return None if self.search is None else float(self.search["predicted"]["latency"])

    @property
    def told(self) -> dict[str, Any]:
        """What `compile` and `prune` tell of a search, if there was one."""
        return {} if self.search is None else {"search": self.search}


def prune_for(judge: Judge, drafter: Drafter, options: Options, progress: Progress) -> Pruned:
    """Prune the judge's original model: as asked, as it arrived, or as far as limits and budgets allow."""
    original, target = judge.original, drafter.target
    if options.dense:
        return Pruned(original, by_hand=True)
    asked = options.sparsity is not None or options.pattern is not None
    if not asked and not has_budget(options) and is_sparse(original):
        return Pruned(Recognise(_patterns(target))(original), by_hand=True)
    _require_data(judge, options)
    check_finite(original, judge.rows("calibrate", CALIBRATION_ROWS))
    patterns = _patterns(target) if options.pattern is None else (parse_pattern(options.pattern),)
    if patterns[-1].structure != "block":
        return _structures(judge, target, patterns[-1], options, progress)
    judge = _within_ram(_ordered(judge, patterns[-1], options, progress), target, options, progress)
    if options.sparsity is not None or patterns[-1].density is not None:
        return Pruned(
            prune_to(judge, _pattern_for(judge, patterns, options, progress), options, progress), by_hand=True
        )
    if options.ram is not None and not has_budget(replace(options, ram=None)):
        return Pruned(judge.original, by_hand=False)
    found = Chooser(judge, replace(drafter, judge=judge), options, patterns, progress).choose()
    return Pruned(found.model, by_hand=False, search=found.search.as_dict())


def prune_to(judge: Judge, pattern: Pattern, options: Options, progress: Progress) -> ir.Model:
    """Cut to the level asked for, refit what is kept on the calibration rows, and train it where there are epochs."""
    pruned = cut(judge, _levels(judge, pattern, options, progress), options, progress)
    return recovered(judge, pruned, options, progress, minutes=options.minutes)


def _levels(judge: Judge, pattern: Pattern, options: Options, progress: Progress) -> dict[str, Level]:
    """What every layer keeps where the user set the level of the whole."""
    model, sparsity = judge.original, options.sparsity or 0.0
    if options.criterion in _BY_RECONSTRUCTION and judge.card is not None and pattern.density is None:
        around = levels_around(sparsity, pattern, DENSITIES)
        levels = {layer.name: around for layer in prunable_layers(model)}
        return least_error_levels(model, sparsity, levels, errors_of(judge, levels, options, progress))
    scores = None
    if options.criterion not in _BY_WEIGHT:
        scores = saliencies(model, judge.rows("calibrate", CALIBRATION_ROWS), options.criterion, options.seed)
    return global_levels(model, pattern, sparsity, scores)


def _pattern_for(judge: Judge, patterns: Sequence[Pattern], options: Options, progress: Progress) -> Pattern:
    """The coarsest of `patterns` (finest first) that keeps the limit on the validate rows in one shot.

    Where none does, the one that loses least; without data, the coarsest.
    """
    if len(patterns) == 1 or judge.card is None:
        return patterns[-1]
    losses = Losses(judge)
    drops: dict[Pattern, float] = {}
    for index, pattern in enumerate(reversed(patterns)):
        progress("choosing a pattern", index, len(patterns), str(pattern))
        model = cut(judge, _levels(judge, pattern, options, progress), options, progress)
        drops[pattern] = losses.of(judge.write(model)).points
        if drops[pattern] <= options.max_drop:
            break
    progress("choosing a pattern", len(patterns), len(patterns), "")
    within = [pattern for pattern, drop in drops.items() if drop <= options.max_drop]
    return within[0] if within else min(drops, key=drops.__getitem__)


def _structures(judge: Judge, target: Target, pattern: Pattern, options: Options, progress: Progress) -> Pruned:
    structures = structures_of(judge, target, pattern, options, progress)
    if options.sparsity is None:
        return Pruned(structures.furthest(progress), by_hand=False)
    return Pruned(structures.repaired(structures.keep(1 - options.sparsity), progress), by_hand=True)


def _within_ram(judge: Judge, target: Target, options: Options, progress: Progress) -> Judge:
    """The judge of a model whose channels are few enough for the RAM budget: only fewer channels take less memory."""
    if options.ram is None or ram_bytes(judge.write(judge.original), target, options.ram) <= options.ram:
        return judge
    structures = structures_of(judge, target, Pattern(structure="channel"), options, progress)
    kept = structures.within_ram(target, options.ram, progress)
    smaller = structures.repaired(kept, progress)
    return replace(judge, original=smaller, teacher=judge.master)


def _ordered(judge: Judge, pattern: Pattern, options: Options, progress: Progress) -> Judge:
    """The judge of the same model with its channels in the order in which `pattern` loses least.

    A model that was quantized on the way came in order.
    """
    if not options.permute or judge.teacher is not None:
        return judge
    return replace(judge, original=Permute(pattern)(judge.original, progress))


def _patterns(target: Target) -> tuple[Pattern, ...]:
    """The patterns of the target, finest first."""
    return tuple(parse_pattern(text) for text in target.patterns)


def _require_data(judge: Judge, options: Options) -> None:
    if judge.card is None and not options.random_calibration:
        raise EdgepruneError(
            "data-missing",
            "pruning needs inputs to calibrate on, and none were given",
            where="--data",
            hint="give a data card (--data CARD.toml), or --random-calibration (then no accuracy is known), or --dense",
            exit_code=2,
        )
    by_hand = options.sparsity is not None or options.pattern is not None
    if judge.card is None and not by_hand and not has_budget(options):
        raise EdgepruneError(
            "data-missing",
            "a level can only be chosen by measuring accuracy, and there is no data",
            where="--data",
            hint="give a data card, a budget such as --latency 5, or the level by hand: --sparsity 0.5",
            exit_code=2,
        )
