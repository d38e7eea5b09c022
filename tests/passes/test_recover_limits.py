"""When a recovery training ends: at the clock, at a limit, without hope, or before it begins."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import onnx_ir as ir
import pytest
from recovery_cases import levels, network, samples, value, weights

from edgeprune.data import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.trainable import to_torch
from edgeprune.passes.prune import Prune
from edgeprune.passes.recover import Recover
from edgeprune.passes.recover_judge import Judge
from edgeprune.passes.recover_processes import Processes
from edgeprune.passes.recover_schedule import Schedule, schedule_for


class Ticking:
    """A clock that moves on by `step` seconds whenever it is read."""

    def __init__(self, step: float) -> None:
        self._count, self._step = itertools.count(), step

    def __call__(self) -> float:
        return next(self._count) * self._step


def case() -> tuple[ir.Model, ir.Model, Samples, Samples]:
    original = network()
    pruned = Prune(levels("1x16", 0.25))(original)
    return pruned, original, samples(original, 128, 1, False), samples(original, 32, 2, False)


def notes_of(recover: Recover) -> tuple[ir.Model, list[str], list[int]]:
    notes: list[str] = []
    done: list[int] = []

    def progress(_label: str, at: int, _total: int, note: str) -> None:
        notes.append(note)
        done.append(at)

    return recover(*case(), progress), notes, done


def test_share_is_the_larger_of_steps_and_time() -> None:
    schedule = Schedule(100, 50.0)
    assert schedule.share(10, 1.0) == pytest.approx(0.1)
    assert schedule.share(10, 27.5) == pytest.approx(0.5)
    assert schedule.share(10, 80.0) == 1.0 and schedule.over(10, 50.0) and not schedule.over(99, 49.0)
    assert schedule.expected(10, 27.5) == 20 and schedule.expected(10, 1.0) == 100 and schedule.expected(0, 5.0) == 100
    assert Schedule(100).share(10, 1e9) == pytest.approx(0.1) and Schedule(100).expected(5, 1e9) == 100


def test_time_for_the_last_judgement_is_held_back() -> None:
    assert schedule_for(10, 1.0, 4.0).seconds == pytest.approx(54.0)
    assert schedule_for(10, 0.01, 4.0).over(0, 0.0)
    assert schedule_for(10, None, 4.0).seconds is None


def test_clock_ends_the_training_with_what_is_best() -> None:
    pruned, original, _, validate = case()
    recover = Recover(50, minutes=10.0, largest_batch=16, clock=Ticking(2.0))
    recovered, _, done = notes_of(recover)
    steps = len(done) - 1
    assert 20 < steps < 200 and done[-1] == 800
    assert value("fidelity", recovered, validate, original) > value("fidelity", pruned, validate, original)
    again, _, _ = notes_of(dataclasses.replace(recover, clock=Ticking(2.0)))
    for name, array in weights(recovered).items():
        np.testing.assert_array_equal(array, weights(again)[name])


def test_generous_clock_changes_nothing() -> None:
    free, _, _ = notes_of(Recover(1))
    capped, _, _ = notes_of(Recover(1, minutes=1.5, clock=Ticking(0.8)))
    for name, array in weights(free).items():
        np.testing.assert_array_equal(array, weights(capped)[name])


def test_no_time_leaves_the_model_as_it_is() -> None:
    recovered, notes, _ = notes_of(Recover(1, minutes=1e-9))
    assert notes[-1].startswith("no time to train: fidelity 0.")
    assert (weights(recovered)["middle"] == weights(case()[0])["middle"]).all()


def test_good_enough_ends_the_training() -> None:
    pruned, original, _, validate = case()
    before = value("fidelity", pruned, validate, original)
    _, notes, done = notes_of(Recover(6, good_enough=before + 1e-4, largest_batch=16))
    assert notes[-1].startswith("good enough: fidelity 0.")
    assert len(done) < 6 * 8
    _, notes, done = notes_of(Recover(6, good_enough=before - 0.1))
    assert notes[-1].startswith("good enough: fidelity 0.") and len(done) == 1


def test_perfect_model_is_not_trained() -> None:
    original = network()
    rows = samples(original, 32, 1, True)
    assert Recover(3, "top1")(original, original, rows, rows) is original


def test_training_without_hope_ends() -> None:
    _, notes, done = notes_of(Recover(9, rate=2.0, patience=2, largest_batch=16))
    assert notes[-1].startswith("no better for 2 epochs: fidelity 0.")
    assert len(done) < 9 * 8


def refused(recover: Recover, pruned: ir.Model, original: ir.Model, train: Samples, validate: Samples) -> str:
    with pytest.raises(EdgepruneError) as caught:
        recover(pruned, original, train, validate)
    return str(caught.value)


def test_training_without_rows_is_refused() -> None:
    pruned, original, train, validate = case()
    text = refused(Recover(1), pruned, original, train.slice(0, 0), validate)
    assert "there is no row to train on [data-empty]" in text and "[train] section" in text and "--epochs 0" in text
    text = refused(Recover(1), pruned, original, train, validate.slice(0, 0))
    assert "judged on validate rows, and there is none [data-empty]" in text and "[validate] section" in text


def test_nothing_is_asked_of_rows_that_are_not_used() -> None:
    pruned, original, train, validate = case()
    assert Recover(0)(pruned, original, train.slice(0, 0), validate) is pruned


def test_rows_that_hold_nan_are_refused() -> None:
    pruned, original, train, validate = case()
    images = train.inputs["x"].copy()
    images[90, 1, 2, 3] = np.nan
    text = refused(Recover(1), pruned, original, dataclasses.replace(train, inputs={"x": images}), validate)
    assert "input 'x' of the training rows holds NaN [not-finite]" in text and "leave out the rows" in text


def test_loss_that_overflows_at_once_is_an_error() -> None:
    pruned, original, train, validate = case()
    huge = dataclasses.replace(train, inputs={"x": train.inputs["x"] * np.float32(1e37)})
    text = refused(Recover(1), pruned, original, huge, validate)
    assert "the loss is not finite in the first step of the recovery training [training-diverged]" in text


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.arange(128) % 7, "labels from 0 to 6 for 4 outputs"),
        (np.linspace(0, 1, 128), "labels of dtype float64 and shape [128] are no class numbers"),
        (np.zeros(60, np.int64), "60 labels for 128 training rows"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, expected: str) -> None:
    pruned, original, train, validate = case()
    text = refused(Recover(1, "top1"), pruned, original, dataclasses.replace(train, labels=labels), validate)
    assert expected in text and "[labels-misfit]" in text


@pytest.mark.parametrize(
    ("metric", "found", "highest", "alike"),
    [("top1", 0.5, 0.5, True), ("top1", 0.76, 0.78, True), ("top1", 0.7, 0.78, False), ("mse", 0.1, 0.1, False)],
)
def test_a_later_model_counts_where_chance_alone_tells_them_apart(
    metric: str, found: float, highest: float, alike: bool
) -> None:
    """64 rows, of which 0.78 are right: half a standard error is 0.026."""
    original = network()
    rows = samples(original, 64, 2, True)
    judge = Judge(metric, rows, to_torch(original), 16, Processes())
    assert judge.as_good(found, highest) == alike


def test_rows_may_be_judged_by_what_is_handed_in() -> None:
    told: list[int] = []

    def value_of(outputs) -> float:
        told.append(len(next(iter(outputs.values()))))
        return 0.1 * len(told)

    _, notes, done = notes_of(Recover(6, good_enough=0.25, value=value_of))
    assert told == [case()[3].count] * 3
    assert notes[-1].startswith("good enough: fidelity 0.3") and len(done) > 1
