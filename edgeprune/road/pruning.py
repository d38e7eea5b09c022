"""The pruning part of the road: what to cut, the cut, the repair, and the level that the accuracy limit allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeprune.errors import EdgepruneError
from edgeprune.metric import Score, drop_points, evaluate
from edgeprune.options import Options
from edgeprune.passes.recognise import Recognise, is_sparse
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Pattern, parse_pattern
from edgeprune.progress import Progress
from edgeprune.road.judging import Judge, available_cores
from edgeprune.search.levels import global_levels
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.data import Samples

LADDER = (0.875, 0.75, 0.625, 0.5, 0.35, 0.2)
"""The levels that are tried, highest first, where the user gives none."""

CALIBRATION_ROWS = 512
DEFAULT_EPOCHS = 2
ENOUGH_ROWS = 1000
"""Recovery training is on by default from this many training rows on."""


@dataclass(frozen=True)
class Pruned:
    """A pruned model, and whether the user set the level by hand."""

    model: ir.Model
    by_hand: bool


def prune_for(judge: Judge, target: Target, options: Options, progress: Progress) -> Pruned:
    """Prune the judge's original model for `target`: as asked, as it arrived, or as far as the limit allows."""
    original = judge.original
    if options.dense:
        return Pruned(original, by_hand=True)
    if options.sparsity is None and options.pattern is None and is_sparse(original):
        return Pruned(Recognise(_patterns(target))(original), by_hand=True)
    _require_data(judge, options)
    pattern = parse_pattern(options.pattern) if options.pattern is not None else _patterns(target)[-1]
    if options.sparsity is not None or pattern.density is not None:
        model = prune_to(judge, pattern, options.sparsity or 0.0, options, progress)
        return Pruned(model, by_hand=True)
    return _search(judge, pattern, options, progress)


def prune_to(judge: Judge, pattern: Pattern, sparsity: float, options: Options, progress: Progress) -> ir.Model:
    """Cut to `sparsity`, refit what is kept on the calibration rows, and train it where epochs are asked for."""
    calibration = judge.rows("calibrate", CALIBRATION_ROWS)
    levels = global_levels(judge.original, pattern, sparsity)
    refit = Refit(levels, samples=CALIBRATION_ROWS, seed=options.seed, threads=options.threads)
    pruned = refit(judge.original, calibration, progress=progress)
    epochs = _epochs(judge, options)
    return pruned if epochs == 0 else _recovered(judge, pruned, epochs, options, progress)


def _search(judge: Judge, pattern: Pattern, options: Options, progress: Progress) -> Pruned:
    """The highest rung of the ladder within the limit on the validate rows; nothing is cut where none is."""
    validate = judge.rows("validate")
    before = _validated(judge, judge.original, validate)
    found = judge.original
    for rung, sparsity in enumerate(LADDER):
        progress("choosing a level", rung, len(LADDER), f"{sparsity:.0%}")
        model = prune_to(judge, pattern, sparsity, options, progress)
        after = _validated(judge, model, validate)
        if drop_points(judge.metric, before.value, after.value) <= options.max_drop:
            found = model
            break
    progress("choosing a level", len(LADDER), len(LADDER), "")
    return Pruned(found, by_hand=False)


def _validated(judge: Judge, model: ir.Model, validate: Samples) -> Score:
    from edgeprune.ir.execute import Session

    outputs = Session(model, available_cores()).run_rows(validate)
    reference = Session(judge.original, available_cores()).run_rows(validate) if judge.metric == "fidelity" else None
    return evaluate(judge.metric, outputs, validate.labels, reference)


def _recovered(judge: Judge, pruned: ir.Model, epochs: int, options: Options, progress: Progress) -> ir.Model:
    """Train what is kept with the original as teacher; the best on the validate rows, `pruned` included."""
    from edgeprune.passes.recover import Recover

    recover = Recover(epochs, judge.metric, seed=options.seed, threads=max(options.threads, available_cores()))
    return recover(pruned, judge.original, judge.rows("train"), judge.rows("validate"), progress)


def _epochs(judge: Judge, options: Options) -> int:
    """The epochs asked for; by default a few where there are enough rows to train on."""
    if options.epochs is not None:
        return options.epochs
    trainable = judge.card is not None and "train" in judge.card.sections
    return DEFAULT_EPOCHS if trainable and judge.rows("train").count >= ENOUGH_ROWS else 0


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
    if judge.card is None and options.sparsity is None and options.pattern is None:
        raise EdgepruneError(
            "data-missing",
            "a level can only be chosen by measuring accuracy, and there is no data",
            where="--data",
            hint="give a data card, or set the level by hand: --sparsity 0.5",
            exit_code=2,
        )
