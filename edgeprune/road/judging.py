"""How good a model is on the user's data: the rows to learn from, and the rows to be judged on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.data import Card, Samples, load_card, random_samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.indices import index_limits
from edgeprune.ir.states import remembering, states_of, visible_specs
from edgeprune.metric import Score, check_labels, drop_points, evaluate, needs_labels
from edgeprune.options import Options
from edgeprune.progress import Progress, silent
from edgeprune.road.resuming import Resume
from edgeprune.road.writing import Writer

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.road.opened import Opened

_RANDOM_ROWS = 64

Runner = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
Reset = Callable[[], None]
"""Makes a model forget what it remembers."""


@dataclass(frozen=True)
class Judge:
    """The data of one road: `card` with the original model's outputs, or nothing but random inputs.

    `before` is the score on the test rows of the model that came in. Where that was quantized or lost channels on the
    way, `original` is what became of it and `teacher` what it was; `write` makes of a model what is judged, compiled
    and saved. `resume` holds what a run that was cut off has done.
    """

    original: ir.Model
    card: Card | None
    seed: int
    before: Score | None = None
    test: Samples | None = None
    reference: dict[str, np.ndarray] | None = None
    resume: Resume = field(default_factory=Resume)
    teacher: ir.Model | None = None
    write: Writer = field(default_factory=Writer)

    @property
    def master(self) -> ir.Model:
        """The model that outputs are compared with, and that teaches."""
        return self.original if self.teacher is None else self.teacher

    @property
    def metric(self) -> str:
        """The card's metric; fidelity without a card."""
        return self.card.metric if self.card is not None else "fidelity"

    def rows(self, split: str, limit: int | None = None) -> Samples:
        """The rows of `split`, or random ones without a card; with states as the original meets them row by row."""
        from edgeprune.ir.stream import with_held

        specs, remembers = visible_specs(self.original), bool(states_of(self.original))
        if self.card is None:
            random = random_samples(specs, limit or _RANDOM_ROWS, self.seed, index_limits(self.original))
            return with_held(self.original, random)
        if not remembers or limit is None:
            return with_held(self.original, self.card.load(split, specs, limit))
        return with_held(self.original, self.card.load(split, specs)).spread(limit)

    def score(self, model: ir.Model) -> Score | None:
        """The test score of `model` on ONNX Runtime; None without a card."""
        if self.test is None:
            return None
        from edgeprune.ir.stream import Stream

        stream = Stream(self.write(model), available_cores())
        return self.score_runner(stream.run, stream.reset)

    def score_runner(self, run: Runner, reset: Reset, progress: Progress = silent) -> Score | None:
        """The test score of whatever `run` computes; None without a card."""
        if self.test is None:
            return None
        outputs = run_rows(run, self.test, reset, progress)
        return evaluate(self.metric, outputs, self.test.labels, self.reference)

    def drop(self, score: Score | None) -> float | None:
        """Points lost against the original; None where nothing was measured."""
        if score is None or self.before is None:
            return None
        return drop_points(self.metric, self.before.value, score.value)


def judge_of(original: ir.Model, data: str | PathLike[str] | None, seed: int, resume: Resume | None = None) -> Judge:
    """The judge for `data`, with the original model measured on its test rows."""
    if data is None:
        return Judge(original, None, seed, resume=resume or Resume())
    card = load_card(data)
    test = card.load("test", visible_specs(original))
    outputs = outputs_of(original, test)
    _check_classes(card, test, outputs)
    before = evaluate(card.metric, outputs, test.labels, outputs)
    return Judge(original, card, seed, before, test, outputs, resume or Resume())


def outputs_of(model: ir.Model, rows: Samples) -> dict[str, np.ndarray]:
    """What `model` gives for every row; one that remembers takes them in turn."""
    from edgeprune.ir.execute import Session
    from edgeprune.ir.stream import Stream

    if rows.count and not states_of(model):
        return Session(model).run_rows(rows, available_cores())
    stream = Stream(model)
    return run_rows(stream.run, rows, stream.reset)


def available_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of(options: Options) -> int:
    """How many cores passes and training use: all, and at least as many as the compiled model."""
    return max(options.threads, available_cores())


def evaluate_runner(
    opened: Opened,
    data: str | PathLike[str],
    split: str,
    reference: ir.Model | None,
    progress: Progress = silent,
) -> Score:
    """The metric of the card `data` for something opened; fidelity compares with `reference`.

    Raises EdgepruneError (reference-missing) where fidelity has nothing to compare with.
    """
    card = load_card(data)
    samples = card.load(split, opened.inputs)
    compared = None
    if not needs_labels(card.metric):
        if reference is None:
            raise EdgepruneError(
                "reference-missing",
                "fidelity compares with the outputs of another model, and none was named",
                where=str(data),
                hint="name the original model: --reference MODEL",
                exit_code=2,
            )
        from edgeprune.ir.stream import Stream

        stream = Stream(remembering(reference, opened.states))
        compared = run_rows(stream.run, samples, stream.reset)
    outputs = run_rows(opened.run, samples, opened.reset, progress)
    _check_classes(card, samples, outputs)
    return evaluate(card.metric, outputs, samples.labels, compared)


def run_rows(run: Runner, samples: Samples, reset: Reset, progress: Progress = silent) -> dict[str, np.ndarray]:
    """One inference a row; outputs by name, stacked along a new first axis in place of the batch axis.

    What the model remembers goes from row to row, and `reset` is called where `samples` begin anew.
    """
    rows = []
    for index in range(samples.count):
        if samples.begins(index):
            reset()
        rows.append(run(samples.row(index)))
        progress("evaluating", index + 1, samples.count, "")
    if not rows:
        raise EdgepruneError("data-empty", "there is no row to run", where="data card", hint="give at least one row")
    return {name: np.stack([_without_batch(row[name]) for row in rows]) for name in rows[0]}


def _check_classes(card: Card, samples: Samples, outputs: dict[str, np.ndarray]) -> None:
    first = next(iter(outputs.values()))
    if card.metric in ("top1", "top5") and samples.labels is not None and first.dtype.kind == "f":
        check_labels(samples.labels, first.shape[-1])


def _without_batch(output: np.ndarray) -> np.ndarray:
    return output[0] if output.ndim and output.shape[0] == 1 else output
