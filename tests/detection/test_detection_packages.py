"""AP50 of the packages of FastestDet, on photographs that nothing was chosen on."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastestdet import average_precision, decode, read_labels

from edgeprune import flow
from edgeprune.data import Samples, load_card
from edgeprune.data.source import list_images
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.options import Options
from edgeprune.road.judging import Runner

PHOTOGRAPHS = 32


@pytest.fixture(scope="module")
def model(data_dir: Path) -> Path:
    return data_dir / "models/fastestdet/FastestDet.onnx"


@pytest.fixture(scope="module")
def card(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of the data folder with fewer photographs."""
    text = (data_dir / "cards/detect_fastestdet.toml").read_text()
    text = text.replace("../sets", str(data_dir / "sets"))
    text = text.replace('"0:64"', '"0:64:8"').replace('"64:128"', f'"64:{64 + PHOTOGRAPHS}"')
    path = tmp_path_factory.mktemp("card") / "card.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def rows(model: Path, card: Path) -> Samples:
    return load_card(card).load("test", input_specs(flow.load_model(model)))


def precision(run: Runner, rows: Samples, data_dir: Path) -> float:
    labels = read_labels(data_dir / "sets/coco128_train2017_labels.json")
    names = [path.name for path in list_images(data_dir / "sets/coco128_train2017")][64 : 64 + PHOTOGRAPHS]
    found = [decode(run(rows.row(index))["758"][0]) for index in range(rows.count)]
    return average_precision(found, [labels[name] for name in names])


def test_a_dense_package_detects_as_the_original(data_dir, model, card, rows, tmp_path):
    before = precision(Session(flow.load_model(model), 1).run, rows, data_dir)
    assert before == pytest.approx(0.367, abs=0.002)
    result = flow.compile(model, data=card, output=tmp_path / "dense.edge", options=Options(dense=True))
    assert result.package is not None
    with result.package as package, package.runner() as runner:
        assert precision(runner.run, rows, data_dir) == pytest.approx(before, abs=0.002)


def test_half_of_the_weights_still_detect(data_dir, model, card, rows):
    pruned = flow.prune(model, data=card, options=Options(sparsity=0.5, pattern="1x1", epochs=0)).model
    assert precision(Session(pruned, 1).run, rows, data_dir) >= 0.2
