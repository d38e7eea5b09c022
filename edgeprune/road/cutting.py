"""One cut: weights go down to their levels, what is kept is refitted, and then trained where there is time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.options import Options
from edgeprune.passes.correct_statistics import CorrectStatistics
from edgeprune.passes.output_loss import output_kind, output_loss
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level
from edgeprune.progress import Progress
from edgeprune.road.judging import Judge, available_cores, cores_of

if TYPE_CHECKING:
    import onnx_ir as ir


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
        levels, samples=CALIBRATION_ROWS, seed=options.seed, threads=cores_of(options), criterion=options.criterion
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
    value: Callable[[Mapping[str, np.ndarray]], float] | None = None,
    times: int = 1,
) -> ir.Model:
    """Train what is kept with the original as teacher; the best on the validate rows, `pruned` included.

    How good they are `value` tells from the outputs on them, else the metric. Training ends after `minutes` of wall
    clock, and once they are `good_enough`; where the user leaves the epochs open it goes on for `times` as many.
    Without training only the means and variances of the layers are set right, as far as that helps.
    """
    epochs = epochs_of(judge, options) * (times if options.epochs is None else 1)
    if epochs == 0:
        calibration = judge.rows("calibrate", CALIBRATION_ROWS)
        correct = CorrectStatistics(calibration, seed=options.seed, threads=cores_of(options))
        return correct(pruned, judge.original, progress)
    from edgeprune.passes.recover import Recover

    threads = cores_of(options)

    def train(checkpoint: Path | None) -> ir.Model:
        recover = Recover(
            epochs,
            judge.metric,
            seed=options.seed,
            threads=threads,
            minutes=minutes,
            good_enough=good_enough,
            value=value,
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


def loss_of(judge: Judge, model: ir.Model) -> float:
    """What `model` as it is written loses against the master, in nats a row, on some of the validate rows."""
    from edgeprune.ir.execute import Session

    rows = judge.rows("validate", CALIBRATION_ROWS)
    found, wanted = (Session(each).run_rows(rows, available_cores()) for each in (judge.write(model), judge.master))
    return output_loss(output_kind(judge.master, rows), found, wanted)
