"""Random networks: the masked twin and the smaller model agree, and another order of units changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit_checks import check_units
from unit_networks import Image, Sequence, random_network

seeds = st.integers(0, 1 << 30)
steps = st.lists(st.integers(0, 100), min_size=1, max_size=4)


@settings(max_examples=6)
@given(seeds, steps)
def test_images(seed, steps):
    check_units(random_network(Image, seed, steps), seed)


@settings(max_examples=6)
@given(seeds, steps)
def test_sequences(seed, steps):
    check_units(random_network(Sequence, seed, steps), seed)


@pytest.mark.parametrize("step", range(len(Image.STEPS)), ids=Image.STEPS)
def test_every_image_step(step):
    groups = check_units(random_network(Image, 5, [step, 0]), seed=1)
    assert groups.groups


def test_statistics_of_statistics():
    """The means of one normalisation run over the units that the one before kept."""
    names = ["layer_norm", "layer_norm", "rms_norm", "rms_norm", "layer_norm", "perceptron"]
    for seed in range(3):
        check_units(random_network(Sequence, seed, [Sequence.STEPS.index(name) for name in names]), seed)


KINDS = {"attention": 1, "grouped_attention": 1, "fused_attention": 1, "perceptron": 0, "gated": 0}


@pytest.mark.parametrize("step", range(len(Sequence.STEPS)), ids=Sequence.STEPS)
def test_every_sequence_step(step):
    groups = check_units(random_network(Sequence, 3, [step]), seed=1)
    name = Sequence.STEPS[step]
    assert sum(group.kind == "head" for group in groups.groups) == KINDS.get(name, 0)
    assert sum(group.kind == "layer" for group in groups.groups) == (name in KINDS or name == "mixer")


def test_heads_of_shared_keys():
    """A unit is one key head with the query heads that read it; keys that all heads read cannot go."""
    step = Sequence.STEPS.index("grouped_attention")
    found = {}
    for seed in range(4):
        network = random_network(Sequence, seed, [step])
        groups = check_units(network, seed)
        heads = [group for group in groups.groups if group.kind == "head"]
        assert len(heads) == 1
        slices = {(each.node, each.axis): each.units for each in heads[0].slices if each.role == "out"}
        found.setdefault(len(slices), []).append((heads[0].size, [np.bincount(units) for units in slices.values()]))
    assert set(found) == {1, 3}
    for _, counts in found[3]:
        assert all(np.array_equal(counts[0], 2 * each) for each in counts[1:])


def test_one_attention_operator():
    """Attention of operator set 23, four query heads on two key heads, is written out on the way in."""
    build = Sequence(0, [1, 5, 4])
    x, c, heads, shared, depth = build.linear("x", 4, 12), 12, 4, 2, 3
    query, key, value = (build.linear(x, c, count * depth) for count in (heads, shared, shared))
    mixed = build.add("Attention", query, key, value, q_num_heads=heads, kv_num_heads=shared)
    model = build.model(build.linear(build.add("Add", x, build.linear(mixed, heads * depth, c)), c, 3), opset=23)
    groups = check_units(model, 0)
    assert [(group.kind, group.size) for group in groups.groups] == [("channel", 12), ("head", 2), ("layer", 1)]
