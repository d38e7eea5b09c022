"""A speech model with several inputs and a state goes the same road; only its open dimension is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from speech import RATE, listen, read_speech, windows_of

from edgeprune import flow
from edgeprune.errors import EdgepruneError
from edgeprune.ir.execute import Session
from edgeprune.model_file import ModelFile
from edgeprune.options import Options

CARD = """
metric = "fidelity"
[calibrate]
file = "speech.npz"
rows = "0:200"
[test]
file = "speech.npz"
rows = "200:"
"""


@pytest.fixture(scope="module")
def model(data_dir: Path) -> ModelFile:
    return ModelFile(str(data_dir / "models/silero/silero_vad_16k_op15.onnx"), dimensions={"sequence": 576})


@pytest.fixture(scope="module")
def windows(data_dir: Path) -> np.ndarray:
    return windows_of(read_speech(data_dir / "sets/speech_short_wav_easy10s.wav"))


@pytest.fixture(scope="module")
def heard(model: ModelFile, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return listen(Session(flow.load_model(model), 1).run, windows)


@pytest.fixture(scope="module")
def card(windows: np.ndarray, heard: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows with the states they were heard with: arrays named as the inputs."""
    folder = tmp_path_factory.mktemp("speech")
    rates = np.full(len(windows), RATE)
    np.savez(folder / "speech.npz", input=windows, state=heard[1], sr=rates)
    (folder / "card.toml").write_text(CARD)
    return folder / "card.toml"


def test_an_open_dimension_is_named_with_the_option_that_fixes_it(model):
    with pytest.raises(EdgepruneError) as caught:
        flow.load_model(model.spec)
    assert str(caught.value) == (
        "the model leaves open how large 'sequence' (axis 1 of input 'input') is [shape-dynamic]\n"
        "  where: input 'input'\n"
        "  hint:  give the size it is used with: --dimension sequence=SIZE "
        "(only the batch, the first axis, is fixed for you, at 1)"
    )


def test_the_original_hears_speech(heard):
    assert len(heard[0]) == 312
    assert heard[0].max() > 0.9 and heard[0].min() < 0.1


def test_the_dense_package_hears_the_same_through_its_own_state(model, card, windows, heard, tmp_path):
    result = flow.compile(model, data=card, output=tmp_path / "dense.edge", options=Options(dense=True))
    assert result.package is not None
    with result.package as package, package.runner() as runner:
        np.testing.assert_allclose(listen(runner.run, windows)[0], heard[0], atol=1e-4)


def test_half_of_the_weights_hear_nearly_the_same(model, card, windows, heard):
    pruned = flow.prune(model, data=card, options=Options(sparsity=0.5, pattern="1x8", epochs=0))
    accuracy = pruned.inspection["accuracy"]
    assert (accuracy["samples"], accuracy["before"]) == (112, pytest.approx(1.0))
    assert accuracy["after"] >= 0.97
    chances = listen(Session(pruned.model, 1).run, windows)[0]
    assert np.mean((chances > 0.5) == (heard[0] > 0.5)) >= 0.9
