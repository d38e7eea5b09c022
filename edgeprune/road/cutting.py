"""One cut: weights go down to their levels, what is kept is refitted, and then trained where there is time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.metric import Score, evaluate
from edgeprune.options import Options
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level
from edgeprune.progress import Progress
from edgeprune.road.judging import Judge, available_cores

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.data import Samples

CALIBRATION_ROWS = 512
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
    return refit(original if start is None else start, calibration, original=original, progress=progress)


def recovered(
    judge: Judge, pruned: ir.Model, epochs: int, options: Options, progress: Progress, minutes: float | None = None
) -> ir.Model:
    """Train what is kept with the original as teacher; the best on the validate rows, `pruned` included."""
    if epochs == 0:
        return pruned
    from edgeprune.passes.recover import Recover

    threads = max(options.threads, available_cores())
    recover = Recover(epochs, judge.metric, seed=options.seed, threads=threads, minutes=minutes)
    return recover(pruned, judge.original, judge.rows("train"), judge.rows("validate"), progress)


def epochs_of(judge: Judge, options: Options) -> int:
    """The epochs asked for; by default a few where there are enough rows to train on."""
    if options.epochs is not None:
        return options.epochs
    trainable = judge.card is not None and "train" in judge.card.sections
    return DEFAULT_EPOCHS if trainable and judge.rows("train").count >= ENOUGH_ROWS else 0


def validated(judge: Judge, model: ir.Model, validate: Samples) -> Score:
    """The score of `model` on the validate rows, on ONNX Runtime."""
    from edgeprune.ir.execute import Session

    outputs = Session(model, available_cores()).run_rows(validate)
    reference = Session(judge.original, available_cores()).run_rows(validate) if judge.metric == "fidelity" else None
    return evaluate(judge.metric, outputs, validate.labels, reference)
