"""SelectUnits and SilenceUnits on small networks with known answers, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from networks import small_network
from unit_checks import check_cut, inputs_for
from unit_networks import Image

from edgeprune.errors import EdgepruneError
from edgeprune.ir.dependency import find_groups
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.select_units import SelectUnits
from edgeprune.passes.silence_units import SilenceUnits


def weights(model):
    return {layer.name: read_weight(layer) for layer in weighted_layers(model)}


def test_small_network_by_hand():
    """Kept channels of conv a, which a conv in two groups reads, and of the residual stream of conv first and b."""
    model = small_network()
    groups = find_groups(model)
    assert [(group.name, group.size) for group in groups.groups if group.kind == "channel"] == [
        ("first", 4),
        ("a", 6),
        ("wide", 20),
        ("hidden", 16),
    ]
    kept = {"first": np.array([1, 3]), "a": np.array([5, 0]), "hidden": np.array([7, 2, 9])}
    before, after = weights(model), weights(SelectUnits(kept)(model))
    stream, inner = [1, 3, 5, 7], [5, 0, 11, 6]
    np.testing.assert_array_equal(after["first"], before["first"][..., stream])
    np.testing.assert_array_equal(after["a"], before["a"][:, :, stream][..., inner])
    np.testing.assert_array_equal(after["b"], before["b"][:, :, [5, 0]][..., [1, 3]])
    np.testing.assert_array_equal(after["depthwise"], before["depthwise"][stream])
    np.testing.assert_array_equal(after["wide"], before["wide"][:, :, stream])
    np.testing.assert_array_equal(after["last"], before["last"][:, :, [7, 2, 9]])


def test_silenced_units_are_zero():
    model = small_network()
    masked = weights(SilenceUnits({"a": np.array([4])})(model))
    made, read = np.flatnonzero(masked["a"].any(axis=(0, 1, 2))), masked["b"].any(axis=(1, 3))
    np.testing.assert_array_equal(made, [4, 10])
    np.testing.assert_array_equal(np.argwhere(read), [[0, 4], [1, 4]])


def test_the_model_given_stays_as_it_is():
    model = small_network()
    before = weights(model)
    check_cut(model, {"a": np.array([2, 1])}, inputs_for(model, np.random.default_rng(0)))
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("cut", [SelectUnits, SilenceUnits])
def test_unknown_group(cut):
    with pytest.raises(EdgepruneError) as caught:
        cut({"wid": np.array([0])})(small_network())
    assert str(caught.value) == (
        "the model has no group 'wid' [group-unknown]\n  where: group 'wid'\n  hint:  did you mean wide?"
    )


def test_unresolved_group():
    with pytest.raises(EdgepruneError) as caught:
        SelectUnits({"last": np.array([0])})(small_network())
    assert str(caught.value) == (
        "nothing of 'last' can be removed [group-unresolved]\n  where: group 'last'\n  hint:  model output 'last_out'"
    )


@pytest.mark.parametrize("units", [[], [0, 0], [6], [-1], [0.5], [[1]]])
def test_invalid_units(units):
    with pytest.raises(EdgepruneError) as caught:
        SelectUnits({"a": np.array(units)})(small_network())
    assert str(caught.value) == (
        "the kept units of group 'a' are not different numbers from 0 to 5 [units-invalid]\n"
        "  where: group 'a'\n  hint:  give at least 1 of them"
    )


def test_nothing_left_of_a_tensor():
    """Units that fill a part of a split alone cannot all go; the group says so."""
    build = Image(0, [1, 3, 4, 6])
    first, second = build.add("Split", build.conv("x", 3, 6), build.integers(2, 4), outputs=2, axis=1)
    model = build.model(build.conv(build.add("Concat", build.conv(first, 2, 4), second, axis=1), 8, 2))
    group = find_groups(model).groups[0]
    assert group.sections == ((0, 1), (2, 3, 4, 5)) and not group.interchangeable
    with pytest.raises(EdgepruneError) as caught:
        SelectUnits({group.name: np.array([2, 3])})(model)
    assert caught.value.code == "group-empty"
    assert caught.value.what.startswith("the kept units leave nothing of input 1 of node 'Conv")
    assert caught.value.hint == "keep more units"


def test_a_branch_goes_whole():
    model = small_network()
    branch = find_groups(model)["sum"]
    assert (branch.kind, branch.size, {each.node for each in branch.slices}) == ("layer", 1, {"a", "b"})
    smaller, _ = check_cut(model, {"sum": np.array([])}, inputs_for(model, np.random.default_rng(0)))
    names = [node.name for node in smaller.graph]
    assert not {"sum", "a", "b", "r1"} & set(names) and "r2" in names
