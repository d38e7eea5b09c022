"""What a cut may lose on rows that the original knows by heart, and how sure it is what it lost."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgeprune.metric import Score
from edgeprune.road.cutting import familiarity, uncertainty


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
