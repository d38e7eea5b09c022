"""What a cut may lose on rows that the original knows by heart, and how sure it is what it lost."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgeprune.metric import Score
from edgeprune.road import losing
from edgeprune.road.losing import Losses, familiarity, flattened, uncertainty


def _judge(
    metric: str, before: float | None, samples: int = 500, labelled: bool = True, quantized: object = None
) -> SimpleNamespace:
    score = None if before is None else Score(metric, before, samples)
    rows = SimpleNamespace(labels=np.zeros(1) if labelled else None)
    write = SimpleNamespace(quantized=quantized)
    return SimpleNamespace(metric=metric, before=score, rows=lambda split, limit: rows, write=write)


def test_rows_known_by_heart_are_forgiven_in_part():
    sure = 9.0 - 200 * (0.91 * 0.09 / 500) ** 0.5
    assert familiarity(_judge("top1", 0.91), 1.0) == pytest.approx(0.5 * sure)
    assert familiarity(_judge("top1", 0.91, quantized=object()), 1.0) == pytest.approx(0.25 * sure)


@pytest.mark.parametrize("quantized", [None, object()])
def test_a_cut_that_was_trained_is_forgiven_alike_in_integers(quantized):
    untouched = familiarity(_judge("top1", 0.91), 1.0)
    assert familiarity(_judge("top1", 0.91, quantized=quantized), 1.0, trained=True) == untouched


@pytest.mark.parametrize(
    ("metric", "before", "validate"),
    [("top1", 0.91, 0.92), ("top1", 0.91, 0.85), ("mse", 0.1, 0.9), ("fidelity", 0.5, 1.0), ("top1", None, 1.0)],
)
def test_nothing_is_forgiven_within_chance_or_without_a_rate(metric, before, validate):
    assert familiarity(_judge(metric, before), validate) == 0.0


def test_rows_without_labels_tell_nothing_of_what_is_known_by_heart():
    assert familiarity(_judge("top1", 0.91, labelled=False), 1.0) == 0.0


def test_few_test_rows_say_little():
    assert familiarity(_judge("top1", 0.9, 50), 0.98) == 0.0
    assert familiarity(_judge("top1", 0.9, 5000), 0.98) > 0


@pytest.mark.parametrize(("lost", "won", "rows"), [(9, 2, 100), (0, 0, 100), (30, 30, 1000), (1, 0, 20)])
def test_the_uncertainty_is_the_standard_error_of_paired_rows(lost, won, rows):
    losses = np.array([1.0] * lost + [-1.0] * won + [0.0] * (rows - lost - won))
    score = Score("top1", 0.9, rows, top1_agreement=1 - (lost + won) / rows)
    expected = 100 * losses.std() / rows**0.5
    assert uncertainty(_judge("top1", 0.9), score, 100 * losses.mean()) == pytest.approx(expected)


def test_without_classes_nothing_is_known_of_chance():
    assert uncertainty(_judge("mse", 0.1), Score("mse", 0.2, 100), 100.0) == 0.0
    assert uncertainty(_judge("fidelity", 0.9), Score("fidelity", 0.99, 100, 0.9), 1.0) == 0.0


def _sure(random: np.random.Generator, rows: int, classes: int) -> np.ndarray:
    scores = random.standard_normal((rows, classes)) * 2
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize("logits", [False, True])
def test_what_is_likely_promises_the_rate_and_keeps_its_order(rate, logits):
    likely = _sure(np.random.default_rng(3), 400, 7)
    found = flattened(np.log(likely) + 5 if logits else likely, rate)
    assert found.max(-1).mean() == pytest.approx(rate, abs=1e-6)
    assert found.sum(-1) == pytest.approx(1.0)
    assert (found.argmax(-1) == likely.argmax(-1)).all()


def test_no_temperature_promises_what_cannot_be():
    likely = _sure(np.random.default_rng(3), 50, 5)
    assert flattened(likely, 0.05).max(-1).mean() == pytest.approx(0.2, abs=0.05)
    assert flattened(likely, 1.0).max(-1).mean() > 0.95


def _losses(monkeypatch, before: np.ndarray, labels: np.ndarray | None, rate: float) -> Losses:
    rows = SimpleNamespace(labels=labels, count=len(before))
    judge = SimpleNamespace(
        metric="top1",
        before=Score("top1", rate, 100_000),
        rows=lambda split, limit=None: rows,
        write=_Writer(),
        master="original",
        original="original",
    )
    monkeypatch.setattr(losing, "outputs_of", lambda model, rows: {"y": before})
    return Losses(judge)


class _Writer:
    quantized = None

    def __call__(self, model):
        return model


def test_the_expected_loss_is_what_labels_show_on_average(monkeypatch):
    """A calibrated original: labels drawn from what it holds likely give the same, with three times the chance."""
    random = np.random.default_rng(0)
    likely = _sure(random, 2000, 6)
    cut = np.log(likely) + random.standard_normal(likely.shape) * 0.7
    rate = float(likely.max(-1).mean())
    drawn = [(random.random((2000, 1)) > likely.cumsum(-1)).sum(-1).clip(max=5) for _ in range(60)]
    by_labels = [100 * float(((likely.argmax(-1) == y) * 1.0 - (cut.argmax(-1) == y)).mean()) for y in drawn]
    unlabelled = _losses(monkeypatch, likely, None, rate).seen({"y": cut})
    assert unlabelled.points == pytest.approx(np.mean(by_labels), abs=4 * np.std(by_labels) / 60**0.5)
    assert unlabelled.error < np.std(by_labels) / 2

    halves = [_losses(monkeypatch, likely, y, rate).seen({"y": cut}) for y in drawn[:20]]
    assert np.std([loss.points for loss in halves]) < 0.75 * np.std(by_labels)
    assert np.mean([loss.points for loss in halves]) == pytest.approx(np.mean(by_labels), abs=0.5)


def test_what_is_the_original_loses_nothing(monkeypatch):
    likely = _sure(np.random.default_rng(1), 300, 4)
    losses = _losses(monkeypatch, likely, likely.argmax(-1), 0.8)
    assert losses.seen({"y": np.log(likely)}, trained=True).points <= 0.0
    assert losses.value({"y": np.log(likely)}) >= losses.before == 1.0
