from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from recovery_cases import balanced, levels, network, samples, value, weights

from edgeprune.data import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.mask import fits
from edgeprune.passes.iterate import Iterate
from edgeprune.passes.recover import Recover
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level, parse_pattern

ROUNDS = [levels("1x16", density) for density in (0.6, 0.4, 0.25)]
STEPS = 17
"""Calls of progress in one round of one epoch."""


class Killed(Exception):
    pass


def case() -> tuple[ir.Model, Samples, Samples, Samples]:
    original = network()
    return original, *(samples(original, count, seed, False) for seed, count in ((1, 48), (2, 96), (3, 32)))


def iterate(epochs: int = 3, checkpoint: Path | None = None) -> Iterate:
    return Iterate(ROUNDS, Recover(epochs, largest_batch=16, checkpoint=checkpoint), Refit(samples=48))


def test_last_round_decides_the_zeros() -> None:
    original, *rows = case()
    found = iterate()(original, *rows)
    for name, array in weights(found).items():
        if name in ROUNDS[-1]:
            level = ROUNDS[-1][name]
            assert fits(array, level.pattern, slack=0.0)
            blocks = array.size // 16
            assert (array != 0).mean() == pytest.approx(round(level.density * blocks) / blocks)
    again = weights(iterate()(original, *rows))
    for name, array in weights(found).items():
        np.testing.assert_array_equal(array, again[name])


def test_rounds_of_training_help() -> None:
    original = balanced()
    rows = [samples(original, count, seed, False) for seed, count in ((1, 48), (2, 256), (3, 64))]
    judged = samples(original, 128, 9, False)
    few = dataclasses.replace(iterate(), rounds=ROUNDS[1:], refit=Refit(samples=8))
    recovers = (Recover(epochs, largest_batch=16) for epochs in (6, 0))
    trained, cut = (dataclasses.replace(few, recover=recover)(original, *rows) for recover in recovers)
    assert value("fidelity", trained, judged, original) > value("fidelity", cut, judged, original)


@pytest.mark.parametrize(("epochs", "expected"), [(4, [1, 1, 2]), (5, [1, 2, 2]), (2, [0, 1, 1]), (6, [2, 2, 2])])
def test_epochs_and_minutes_are_shared_out(epochs: int, expected: list[int]) -> None:
    whole = Iterate(ROUNDS, Recover(epochs, minutes=12.0))
    parts = [whole._trained(index) for index in range(3)]
    assert [part.epochs for part in parts] == expected
    assert sum(part.minutes or 0.0 for part in parts) == pytest.approx(12.0)


def test_rate_is_rewound_in_every_round() -> None:
    seen: list[int] = []

    def progress(label: str, done: int, _total: int, _note: str) -> None:
        if label == "recovering":
            seen.append(done)

    iterate()(*case(), progress)
    assert seen.count(0) == 3


@pytest.mark.parametrize("killed", [20, 40])
def test_killed_run_goes_on_to_the_same_result(tmp_path: Path, killed: int) -> None:
    steps = 0

    def kill(label: str, _done: int, _total: int, _note: str) -> None:
        nonlocal steps
        steps += label == "recovering"
        if steps == killed:
            raise Killed

    expected = weights(iterate()(*case()))
    kept = iterate(checkpoint=tmp_path / "state")
    with pytest.raises(Killed):
        kept(*case(), kill)
    rounds: list[int] = []

    def count(label: str, done: int, _total: int, _note: str) -> None:
        if label == "pruning in rounds":
            rounds.append(done)

    found = weights(kept(*case(), count))
    assert rounds == list(range((killed - 1) // STEPS, 4))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert list(tmp_path.iterdir()) == []


def test_unknown_layer_is_named_before_any_work() -> None:
    wrong = [ROUNDS[0], {"nowhere": Level(parse_pattern("1x16"), 0.5)}]
    with pytest.raises(EdgepruneError, match="no layer 'nowhere' with weights"):
        dataclasses.replace(iterate(), rounds=wrong)(*case())


def test_no_round_is_no_change() -> None:
    original, *rows = case()
    assert dataclasses.replace(iterate(), rounds=[])(original, *rows) is original
