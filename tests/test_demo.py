from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeprune.data import load_card
from edgeprune.demo import TRAIN_ROWS, VALIDATE_ROWS, DemoFiles, train_digits
from edgeprune.errors import EdgepruneError
from edgeprune.ir.ports import input_specs, load_ir


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    pytest.importorskip("sklearn")
    steps: list[tuple[int, int]] = []
    made = train_digits(
        tmp_path_factory.mktemp("demo"), epochs=3, progress=lambda label, done, total, note: steps.append((done, total))
    )
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    return made


def test_the_network_learns_the_digits(files):
    import onnxruntime

    session = onnxruntime.InferenceSession(files.model, providers=["CPUExecutionProvider"])
    stored = np.load(files.card.with_name("digits.npz"))
    known = TRAIN_ROWS + VALIDATE_ROWS
    images, labels = stored["x"][known:], stored["y"][known:]
    scores = np.concatenate([session.run(None, {"image": row[None]})[0] for row in images])
    assert len(labels) == 500
    assert (scores.argmax(1) == labels).mean() > 0.9


def test_the_card_fits_the_network_and_its_splits_do_not_overlap(files):
    card = load_card(files.card)
    specs = input_specs(load_ir(files.model))
    rows = {split: card.load(split, specs) for split in ("train", "validate", "calibrate", "test")}
    assert [rows[split].count for split in ("train", "validate", "test")] == [1097, 200, 500]
    assert sum(rows[split].count for split in ("train", "validate", "test")) == 1797
    assert rows["test"].row(0)["image"].shape == (1, 1, 8, 8)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(EdgepruneError) as caught:
        train_digits(tmp_path)
    assert caught.value.code == "package-missing"
    assert "edgeprune[demo]" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
