"""What is written keeps integers that there are, and makes them where there are none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.ir.execute import Session
from edgeprune.ir.quantization import read_stored
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.weights import read_weight, weighted_layers, write_weight
from edgeprune.passes.quantize.quantize import Quantize
from edgeprune.passes.quantize.store_weights import StoreWeights, holds_integers
from edgeprune.road.writing import Writer

sys.path.insert(0, str(Path(__file__).parents[1] / "passes"))
from networks import random_samples, small_network


@pytest.fixture(scope="module")
def arrived() -> ir.Model:
    return Quantize()(small_network(), random_samples(64))


def changed(model: ir.Model) -> ir.Model:
    """`model` with real weights that lie on no grid of its."""
    real = with_real_weights(model)
    generator = np.random.default_rng(3)
    for layer in weighted_layers(real):
        weight = read_weight(layer)
        write_weight(layer, (weight * generator.uniform(0.5, 1.5, weight.shape)).astype(np.float32))
    return real


def test_integers_that_were_trained_are_not_rounded_again(arrived: ir.Model) -> None:
    """Least squares would find other scales for weights that were trained on theirs."""
    trained = StoreWeights(arrived)(changed(arrived))
    for node in trained.graph:
        stored = read_stored(node.inputs[1]) if node.op_type == "Conv" else None
        if stored is not None:
            scale = node.inputs[1].producer().inputs[1]
            scale.const_value = ir.tensor(1.07 * scale.const_value.numpy(), name=scale.name)
    written = Writer.of(arrived)(trained)
    rows = random_samples(9, seed=4)
    ours, theirs = (next(iter(Session(each).run_rows(rows).values())) for each in (written, trained))
    np.testing.assert_array_equal(ours, theirs)


def test_real_weights_become_integers(arrived: ir.Model) -> None:
    real = changed(arrived)
    assert not holds_integers(real, arrived) and holds_integers(arrived, arrived)
    written = Writer.of(arrived)(real)
    assert holds_integers(written, arrived) and weighted_layers(written) == []
    assert Writer()(real) is real
