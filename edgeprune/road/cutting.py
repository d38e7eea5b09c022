"""One cut: weights go down to their levels, what is kept is refitted, and then trained where there is time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.metric import Score, drop_points, evaluate, needs_labels
from edgeprune.options import Options
from edgeprune.passes.correct_statistics import CorrectStatistics
from edgeprune.passes.output_loss import output_kind, output_loss
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level
from edgeprune.progress import Progress
from edgeprune.road.judging import Judge, available_cores

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.data import Samples

CALIBRATION_ROWS = 512
_CLASSES = ("top1", "top5")
FORGIVEN = 0.5
"""The share of what the original surely scores higher on the validate rows than on others that a cut may lose."""

DEFAULT_EPOCHS = 2
ENOUGH_ROWS = 1000
"""Recovery training is on by default from this many training rows on."""


def cut(
    judge: Judge,
    levels: Mapping[str, Level],
    options: Options,
    progress: Progress,
    start: ir.Model | None = None,
) -> ir.Model:
    """`start` (None: the original) at `levels`, refitted on the calibration rows to give what the original gives."""
    calibration = judge.rows("calibrate", CALIBRATION_ROWS)
    refit = Refit(
        levels, samples=CALIBRATION_ROWS, seed=options.seed, threads=options.threads, criterion=options.criterion
    )
    original = judge.original
    first = original if start is None else with_real_weights(start)
    return refit(first, calibration, original=original, progress=progress)


def recovered(
    judge: Judge,
    pruned: ir.Model,
    options: Options,
    progress: Progress,
    *,
    minutes: float | None = None,
    good_enough: float | None = None,
    times: int = 1,
) -> ir.Model:
    """Train what is kept with the original as teacher; the best on the validate rows, `pruned` included.

    Training ends after `minutes` of wall clock, and once the validate rows are `good_enough`; where the user leaves the
    epochs open it goes on for `times` as many. Without training only the means and variances of the layers are set
    right, as far as that helps.
    """
    epochs = epochs_of(judge, options) * (times if options.epochs is None else 1)
    if epochs == 0:
        calibration = judge.rows("calibrate", CALIBRATION_ROWS)
        correct = CorrectStatistics(calibration, seed=options.seed, threads=options.threads)
        return correct(pruned, judge.original, progress)
    from edgeprune.passes.recover import Recover

    threads = max(options.threads, available_cores())

    def train(checkpoint: Path | None) -> ir.Model:
        recover = Recover(
            epochs,
            judge.metric,
            seed=options.seed,
            threads=threads,
            minutes=minutes,
            good_enough=good_enough,
            checkpoint=checkpoint,
        )
        return recover(student, judge.master, judge.rows("train"), judge.rows("validate"), progress)

    student = judge.write(pruned)
    return judge.resume.step(student, (epochs, judge.metric, options.seed, threads, good_enough), train)


def epochs_of(judge: Judge, options: Options) -> int:
    """The epochs asked for; by default a few where there are enough rows to train on."""
    if options.epochs is not None:
        return options.epochs
    trainable = judge.card is not None and "train" in judge.card.sections
    return DEFAULT_EPOCHS if trainable and judge.rows("train").count >= ENOUGH_ROWS else 0


def validated(judge: Judge, model: ir.Model, validate: Samples) -> Score:
    """The score of `model` on the validate rows, on ONNX Runtime; rows without labels: how often it agrees.

    How often it agrees with the original is told besides wherever the metric is one of classes.
    """
    from edgeprune.ir.execute import Session

    outputs = Session(judge.write(model), available_cores()).run_rows(validate)
    metric, classes = judge.metric if validate.labels is not None else "fidelity", judge.metric in _CLASSES
    if not classes and needs_labels(metric):
        return evaluate(metric, outputs, validate.labels)
    likeness = evaluate("fidelity", outputs, None, Session(judge.master, available_cores()).run_rows(validate))
    agreement = likeness.top1_agreement
    if needs_labels(metric):
        return replace(evaluate(metric, outputs, validate.labels), top1_agreement=agreement)
    return replace(likeness, value=agreement) if classes and agreement is not None else likeness


def loss_of(judge: Judge, model: ir.Model) -> float:
    """What `model` as it is written loses against the master, in nats a row, on some of the validate rows."""
    from edgeprune.ir.execute import Session

    rows = judge.rows("validate", CALIBRATION_ROWS)
    found, wanted = (Session(each, available_cores()).run_rows(rows) for each in (judge.write(model), judge.master))
    return output_loss(output_kind(judge.master, rows), found, wanted)


def uncertainty(judge: Judge, score: Score, drop: float) -> float:
    """One standard error, in points, of the `drop` seen on the rows of `score`; 0 where the metric has no classes.

    Rows on which original and cut say the same tell nothing of what was lost: of the others each is a draw (McNemar,
    1947).
    """
    if judge.metric not in _CLASSES or score.top1_agreement is None:
        return 0.0
    differing = 1.0 - score.top1_agreement
    return 100.0 * (max(0.0, differing - (drop / 100.0) ** 2) / max(1, score.samples)) ** 0.5


def familiarity(judge: Judge, validate_before: float, trained: bool = False) -> float:
    """Points that a cut may lose on the validate rows beyond the limit, because the original knows them by heart.

    A network that was trained on its validate rows scores higher there than on the test rows. What it knows by heart
    goes first when weights go, and costs nothing on rows it has not seen: FORGIVEN of the difference is allowed, less
    what may be chance (two standard errors). Of the test rows only the original's score counts. In integers, before the
    cut is `trained`, half of that is allowed: there the same loss on the validate rows was seen to cost more on others.
    """
    if judge.before is None or judge.metric not in _CLASSES or judge.rows("validate", 1).labels is None:
        return 0.0
    gap = drop_points(judge.metric, validate_before, judge.before.value)
    share = judge.before.value
    chance = 200.0 * (share * (1 - share) / max(1, judge.before.samples)) ** 0.5
    forgiven = FORGIVEN if trained or judge.write.quantized is None else FORGIVEN / 2
    return forgiven * max(0.0, gap - chance)
