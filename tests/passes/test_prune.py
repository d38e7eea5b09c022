"""Pruning by size: what goes, what stays, what is noted."""

import numpy as np
import pytest
from networks import random_samples, small_network

from edgeprune.errors import EdgepruneError
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.prune import PATTERN_KEY, Prune
from edgeprune.pattern import Level, parse_pattern


def weights(model):
    return {layer.name: read_weight(layer) for layer in weighted_layers(model)}


def test_the_smallest_weights_go_and_the_rest_is_untouched():
    model = small_network()
    pruned = Prune({"a": Level(parse_pattern("1x1"), 0.25)})(model)
    before, after = weights(model), weights(pruned)
    assert (before["a"] != 0).all()
    kept = after["a"] != 0
    assert kept.sum() == round(0.25 * kept.size)
    np.testing.assert_array_equal(after["a"][kept], before["a"][kept])
    assert np.abs(before["a"][kept]).min() >= np.abs(before["a"][~kept]).max()
    for name in before.keys() - {"a"}:
        np.testing.assert_array_equal(after[name], before[name])


def test_pattern_is_noted_on_pruned_nodes_alone():
    pruned = Prune({"a": Level(parse_pattern("2:4"), 0.5), "hidden": Level(parse_pattern("1x8"), 0.5)})(small_network())
    noted = {node.name: node.metadata_props[PATTERN_KEY] for node in pruned.graph if PATTERN_KEY in node.metadata_props}
    assert noted == {"a": "2:4", "hidden": "1x8"}


def test_scores_decide_where_they_are_given():
    model = small_network()
    scores = np.random.default_rng(0).random(weights(model)["wide"].shape)
    kept = weights(Prune({"wide": Level(parse_pattern("1x1"), 0.5)})(model, {"wide": scores}))["wide"] != 0
    assert scores[kept].min() > scores[~kept].max()


def test_pruned_model_runs_as_its_zeros_say():
    model = small_network()
    pruned = Prune({"last": Level(parse_pattern("1x5"), 0.0)})(model)
    assert np.count_nonzero(weights(pruned)["last"]) == 5
    samples = random_samples(3)
    assert not np.allclose(*(next(iter(Session(m).run_rows(samples).values())) for m in (model, pruned)))


def test_unknown_layer_is_named_with_its_nearest():
    with pytest.raises(EdgepruneError) as caught:
        Prune({"hiden": Level(parse_pattern("1x1"), 0.5)})(small_network())
    assert caught.value.code == "layer-unknown"
    assert "hiden" in caught.value.what
    assert "hidden" in caught.value.hint
