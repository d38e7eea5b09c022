"""What units leave of work and weights, counted without taking them out, against the smaller model itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit_checks import random_units
from unit_networks import Image, Sequence, random_network

from edgeprune.ir.cost import model_cost
from edgeprune.ir.dependency import find_groups
from edgeprune.passes.select_units import SelectUnits
from edgeprune.passes.unit_shares import UnitShares


def left(model, kept):
    """The larger share of the multiply-accumulates and of the weights of `model` that the smaller model has."""
    whole, cut = model_cost(model), model_cost(SelectUnits(kept)(model))
    return max(cut.dense_macs / whole.dense_macs, cut.weights / max(1, whole.weights))


def check(model, seed):
    """Equal, or more where the model mixes tokens, whose rows are not counted."""
    random = np.random.default_rng(seed)
    shares = UnitShares(model, find_groups(model).groups)
    mixes = any(node.op_type == "Transpose" for node in model.graph)
    for least in (0.2, 0.7):
        kept = random_units(model, random, least, shuffled=False)
        found, wanted = shares.left(kept), left(model, kept)
        assert found == pytest.approx(wanted, abs=1e-9) or (mixes and found > wanted)


@settings(max_examples=6)
@given(st.integers(0, 1 << 30), st.lists(st.integers(0, 100), min_size=1, max_size=4))
def test_drawn_images(seed, steps):
    check(random_network(Image, seed, steps), seed)


@pytest.mark.parametrize("step", range(len(Image.STEPS)), ids=Image.STEPS)
def test_shares_of_every_image_step(step):
    check(random_network(Image, 5, [step, 0]), seed=1)


@pytest.mark.parametrize("step", range(len(Sequence.STEPS)), ids=Sequence.STEPS)
def test_shares_of_every_sequence_step(step):
    check(random_network(Sequence, 3, [step]), seed=1)


def test_without_units_gone_all_is_left():
    model = random_network(Image, 5, [0, 1])
    assert UnitShares(model, find_groups(model).groups).left({}) == pytest.approx(1.0)
