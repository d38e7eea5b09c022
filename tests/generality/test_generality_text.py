"""A transformer on tokens goes the same road: fidelity token by token, and the text it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from stories import START, generate, read_vocabulary, text_of

from edgeprune import flow
from edgeprune.ir.execute import Session
from edgeprune.options import Options
from edgeprune.package.format import MODEL
from edgeprune.road.judging import judge_of

WINDOW = 64
CALIBRATION, TEST = 8, 4
BEGINNING = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
CARD = """
metric = "fidelity"
[calibrate]
file = "texts.npz"
rows = "0:8"
[test]
file = "texts.npz"
rows = "8:"
"""


@pytest.fixture(scope="module")
def model(data_dir: Path) -> Path:
    return data_dir / "models/stories260K/stories260K_t64.onnx"


@pytest.fixture(scope="module")
def vocabulary(data_dir: Path) -> list[bytes]:
    return read_vocabulary(data_dir / "models/stories260K/tok512.bin")


@pytest.fixture(scope="module")
def session(model: Path) -> Session:
    return Session(flow.load_model(model), 1)


@pytest.fixture(scope="module")
def card(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts that the model itself wrote: nothing else is needed to prune it."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("texts")
    texts = np.stack([generate(session.run, [START], WINDOW, random) for _ in range(CALIBRATION + TEST)])
    np.savez(folder / "texts.npz", tokens=texts)
    (folder / "card.toml").write_text(CARD)
    return folder / "card.toml"


def test_the_vocabulary_and_the_text_of_the_original(session, vocabulary):
    assert len(vocabulary) == 512
    assert text_of(generate(session.run, [START], WINDOW), vocabulary).startswith(BEGINNING)


def test_a_pruned_package_writes_as_its_model_and_nearly_as_the_original(model, card, session, vocabulary, tmp_path):
    options = Options(sparsity=0.3, pattern="1x1", epochs=0)
    result = flow.compile(model, data=card, output=tmp_path / "stories.edge", options=options)
    assert result.package is not None
    assert result.inspection["nonzero_weights"] / result.inspection["weights"] < 0.72
    score = flow.evaluate(tmp_path / "stories.edge", data=card, reference=model)
    assert score.samples == TEST
    assert score.value >= 0.98
    assert score.top1_agreement is not None and score.top1_agreement >= 0.75
    pruned = Session(ir.from_proto(onnx.load_from_string(result.package.member(MODEL))), 1)
    with result.package as package, package.runner() as runner:
        written = generate(runner.run, [START], WINDOW)
    np.testing.assert_array_equal(written, generate(pruned.run, [START], WINDOW))
    assert text_of(written, vocabulary).startswith(BEGINNING[:48])


def test_random_calibration_draws_tokens_of_the_vocabulary(model):
    tokens = judge_of(flow.load_model(model), None, seed=0).rows("calibrate", 8).inputs["tokens"]
    assert (tokens.dtype, tokens.shape) == (np.int64, (8, WINDOW))
    assert 0 <= tokens.min() < tokens.max() < 512
    assert len(np.unique(tokens)) > 200
