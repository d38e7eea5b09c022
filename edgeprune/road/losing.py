"""What a cut loses, as far as the validate rows can tell: by their labels, and by what the original holds likely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq

from edgeprune.metric import Score, drop_points, evaluate, needs_labels
from edgeprune.road.judging import Judge, outputs_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.data import Samples

_CLASSES = ("top1", "top5")
FORGIVEN = 0.5
"""The share of what the original surely scores higher on the validate rows than on others that a cut may lose."""

_TEMPERATURES = 0.05, 50.0
_ROUNDED, _LEAST = 0.1, 1 / 512
"""How far integers may bring the sum of a distribution from 1, and what is taken for what they round to nothing."""


@dataclass(frozen=True)
class Loss:
    """Points lost on rows like the validate rows, and one standard error of them (0: not known)."""

    points: float
    error: float


class Losses:
    """What models lose against the original of `judge` on the validate rows.

    Where the metric is top-1, two estimates are averaged. One counts labels, less `familiarity`; few rows change sides
    and each counts whole, so that chance weighs much. The other asks of every row how much more likely the original
    holds its own class than the one that the cut gives (the conditional expectation of the first, as of Rao and
    Blackwell); its likelihoods are flattened until they promise the rate that the original has on rows it has not seen
    (temperature: Guo, On Calibration of Modern Neural Networks, ICML 2017).
    """

    def __init__(self, judge: Judge) -> None:
        self._judge, self.rows = judge, judge.rows("validate")
        self._wanted = outputs_of(judge.master, self.rows)
        self._before = scored(judge, outputs_of(judge.write(judge.original), self.rows), self.rows, self._wanted)
        self._likely = self._likelihoods()

    @property
    def before(self) -> float:
        """The original's value on the rows."""
        return self._before.value

    @property
    def expects(self) -> bool:
        """Whether what the original holds likely is known."""
        return self._likely is not None

    def of(self, written: ir.Model, trained: bool = False) -> Loss:
        """What `written`, a model as it is judged, loses; whether it was `trained` matters to what is forgiven."""
        return self.seen(outputs_of(written, self.rows), trained)

    def seen(self, outputs: Mapping[str, np.ndarray], trained: bool = False) -> Loss:
        """What `outputs` on the rows, by name, lose."""
        judge = self._judge
        score = scored(judge, outputs, self.rows, self._wanted)
        drop = drop_points(judge.metric, self.before, score.value)
        points, error = drop - familiarity(judge, self.before, trained), uncertainty(judge, score, drop)
        if self._likely is None:
            return Loss(points, error)
        expected = 100.0 * self._less_likely(outputs)
        spread = float(expected.std() / max(1, len(expected)) ** 0.5)
        if self.rows.labels is None:
            return Loss(float(expected.mean()), spread)
        return Loss((points + float(expected.mean())) / 2, float(np.hypot(error, spread)) / 2)

    def value(self, outputs: Mapping[str, np.ndarray]) -> float:
        """The metric, a rate, that `outputs` of a trained model on the rows have by this estimate."""
        return self.before - self.seen(outputs, trained=True).points / 100.0

    def _likelihoods(self) -> np.ndarray | None:
        """What the master holds likely, (rows, classes), as sure of itself as its score allows."""
        judge, first = self._judge, next(iter(self._wanted.values()))
        if judge.metric != "top1" or judge.before is None or first.dtype.kind != "f" or first[0].size < 2:
            return None
        expected = judge.before.value
        if self.rows.labels is not None and not _surely_familiar(judge, self.before):
            expected = self.before
        return flattened(first.reshape(len(first), -1).astype(np.float64), expected)

    def _less_likely(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """By row: how much less likely the class that `outputs` give is than the master's own."""
        assert self._likely is not None
        name, rows = next(iter(self._wanted)), np.arange(len(self._likely))
        own, given = (table[name].reshape(len(rows), -1).argmax(-1) for table in (self._wanted, outputs))
        return self._likely[rows, own] - self._likely[rows, given]


def flattened(scores: np.ndarray, rate: float) -> np.ndarray:
    """Distributions (rows, classes) from `scores`, those or their logits, whose likeliest classes have the mean `rate`.

    It is reached by a temperature, as far as one within bounds does.
    """
    if scores.min() >= 0.0 and np.abs(scores.sum(-1) - 1.0).max() < _ROUNDED:
        scores = np.log(np.maximum(scores, _LEAST))

    def at(temperature: float) -> np.ndarray:
        powers = np.exp((scores - scores.max(-1, keepdims=True)) / temperature)
        return np.asarray(powers / powers.sum(-1, keepdims=True))

    def excess(logarithm: float) -> float:
        return float(at(np.exp(logarithm)).max(-1).mean()) - rate

    low, high = (float(np.log(temperature)) for temperature in _TEMPERATURES)
    if excess(low) <= 0.0:
        return at(_TEMPERATURES[0])
    return at(_TEMPERATURES[1]) if excess(high) >= 0.0 else at(float(np.exp(brentq(excess, low, high))))


def validated(judge: Judge, model: ir.Model, validate: Samples) -> Score:
    """The score of `model` on the validate rows, on ONNX Runtime; rows without labels: how often it agrees.

    How often it agrees with the original is told besides wherever the metric is one of classes.
    """
    return scored(judge, outputs_of(judge.write(model), validate), validate, None)


def scored(
    judge: Judge, outputs: Mapping[str, np.ndarray], rows: Samples, wanted: Mapping[str, np.ndarray] | None
) -> Score:
    """`validated` of `outputs` on `rows`; the master's are `wanted`, or computed where they are needed."""
    metric, classes = judge.metric if rows.labels is not None else "fidelity", judge.metric in _CLASSES
    if not classes and needs_labels(metric):
        return evaluate(metric, outputs, rows.labels)
    likeness = evaluate("fidelity", outputs, None, outputs_of(judge.master, rows) if wanted is None else wanted)
    agreement = likeness.top1_agreement
    if needs_labels(metric):
        return replace(evaluate(metric, outputs, rows.labels), top1_agreement=agreement)
    return replace(likeness, value=agreement) if classes and agreement is not None else likeness


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
    forgiven = FORGIVEN if trained or judge.write.quantized is None else FORGIVEN / 2
    return forgiven * max(0.0, _sure_gap(judge.metric, judge.before, validate_before))


def _surely_familiar(judge: Judge, validate_before: float) -> bool:
    return judge.before is not None and _sure_gap(judge.metric, judge.before, validate_before) > 0.0


def _sure_gap(metric: str, test: Score, validate: float) -> float:
    """Points that the score on the validate rows is above that on the test rows, less two standard errors of it."""
    chance = 200.0 * (test.value * (1 - test.value) / max(1, test.samples)) ** 0.5
    return drop_points(metric, validate, test.value) - chance
