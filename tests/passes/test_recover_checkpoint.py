"""A training that was killed goes on to the very result that it would have had."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from recovery_cases import levels, network, samples, weights

from edgeprune.data import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.passes import recover_training
from edgeprune.passes.prune import Prune
from edgeprune.passes.recover import Recover

STEPS = 8


class Killed(Exception):
    pass


class Recorder:
    """Notes what it is told, and raises Killed at step `end`."""

    def __init__(self, end: int | None = None) -> None:
        self.notes: list[str] = []
        self.done: list[int] = []
        self._end = end

    def __call__(self, _label: str, done: int, _total: int, note: str) -> None:
        self.notes.append(note)
        self.done.append(done)
        if done == self._end:
            raise Killed


def case(labelled: bool = False) -> tuple[ir.Model, ir.Model, Samples, Samples]:
    original = network()
    pruned = Prune(levels("1x16", 0.25))(original)
    return pruned, original, samples(original, 16 * STEPS, 1, labelled), samples(original, 32, 2, labelled)


@pytest.mark.parametrize("gradual", [False, True])
@pytest.mark.parametrize(("seconds", "killed", "first"), [(1e9, 2 * STEPS + 3, 2 * STEPS), (0.0, STEPS + 3, STEPS + 3)])
def test_killed_training_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradual: bool, seconds: float, killed: int, first: int
) -> None:
    monkeypatch.setattr(recover_training, "_SECONDS_BETWEEN_CHECKPOINTS", seconds)
    path = tmp_path / "state"
    recover = Recover(3, "fidelity", levels("1x16", 0.25) if gradual else None, largest_batch=16, seed=3)
    expected = weights(recover(*case()))
    kept = dataclasses.replace(recover, checkpoint=path)
    with pytest.raises(Killed):
        kept(*case(), Recorder(killed))
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    resumed = Recorder()
    found = weights(kept(*case(), resumed))
    assert resumed.notes[0] == f"goes on after step {first}" and resumed.done[1] == first
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert not path.exists()


def test_checkpoint_changes_nothing_and_is_removed(tmp_path: Path) -> None:
    plain = weights(Recover(1)(*case()))
    kept = weights(Recover(1, checkpoint=tmp_path / "state")(*case()))
    for name, array in plain.items():
        np.testing.assert_array_equal(kept[name], array)
    assert list(tmp_path.iterdir()) == []


def test_time_before_the_kill_counts(tmp_path: Path) -> None:
    ticks = iter(range(10_000))
    recover = Recover(20, minutes=10.0, largest_batch=16, checkpoint=tmp_path / "state")
    first = Recorder(STEPS + 2)
    with pytest.raises(Killed):
        dataclasses.replace(recover, clock=lambda: 5.0 * next(ticks))(*case(), first)
    ticks = iter(range(10_000))
    resumed = Recorder()
    dataclasses.replace(recover, clock=lambda: 5.0 * next(ticks))(*case(), resumed)
    ticks = iter(range(10_000))
    whole = Recorder()
    dataclasses.replace(recover, clock=lambda: 5.0 * next(ticks), checkpoint=None)(*case(), whole)
    assert len(resumed.done) < len(whole.done) - STEPS / 2


@pytest.mark.parametrize(
    "change",
    [{"seed": 4}, {"epochs": 3}, {"largest_batch": 32}, {"metric": "top1"}, {"rate": 0.001}],
    ids=lambda change: next(iter(change)),
)
def test_checkpoint_of_other_options_is_replaced_with_a_note(tmp_path: Path, change: dict[str, int]) -> None:
    path = tmp_path / "state"
    kept = Recover(2, largest_batch=16, checkpoint=path)
    with pytest.raises(Killed):
        kept(*case(True), Recorder(STEPS + 1))
    recorder = Recorder(0)
    with pytest.raises(Killed):
        dataclasses.replace(kept, **change)(*case(True), recorder)
    assert recorder.notes == [f"{path} belongs to another training and is replaced"]


def test_checkpoint_of_other_rows_or_weights_is_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "state"
    kept = Recover(1, largest_batch=16, checkpoint=path)
    pruned, original, train, validate = case()
    with pytest.raises(Killed):
        kept(pruned, original, train, validate, Recorder(3))
    held = path.read_bytes()
    changed = {"x": np.where(np.arange(train.count)[:, None, None, None] == 5, 0, train.inputs["x"])}
    others = [
        (pruned, original, dataclasses.replace(train, inputs=changed), validate),
        (pruned, original, train, validate.slice(0, 31)),
        (original, original, train, validate),
        (Prune(levels("1x16", 0.5))(original), original, train, validate),
    ]
    for other in others:
        path.write_bytes(held)
        recorder = Recorder(0)
        with pytest.raises(Killed):
            kept(*other, recorder)
        assert "belongs to another training" in recorder.notes[0]


@pytest.mark.parametrize("content", [b"", b"a file of the user", b"PK\x03\x04 half a file"])
def test_file_that_is_no_checkpoint_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(EdgepruneError) as caught:
        Recover(1, checkpoint=path)(*case())
    assert caught.value.code == "checkpoint-unreadable"
    assert "is no checkpoint of a recovery training" in str(caught.value) and "delete this one" in str(caught.value)
    assert path.read_bytes() == content


def test_tensors_of_someone_else_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(EdgepruneError, match="is no checkpoint of a recovery training"):
        Recover(1, checkpoint=path)(*case())


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "state"
    torch.save({"format": "edgeprune recovery 1", "state": Recorder()}, path)
    with pytest.raises(EdgepruneError, match="is no checkpoint of a recovery training"):
        Recover(1, checkpoint=path)(*case())


def test_folder_that_is_not_there_is_known_at_once(tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(EdgepruneError) as caught:
        Recover(1, checkpoint=tmp_path / "none" / "state")(*case(), recorder)
    assert caught.value.code == "output-unwritable" and recorder.done == []
