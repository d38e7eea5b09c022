"""Every criterion by its name: what it says of a network, and what Refit makes of it."""

import numpy as np
import pytest
from networks import random_samples
from networks import small_network as plain_network

from edgeprune.errors import EdgepruneError
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.mask import block_scores
from edgeprune.passes.criteria import named
from edgeprune.passes.criteria.named import criterion_named, saliencies
from edgeprune.passes.prune import Prune
from edgeprune.passes.refit import Refit
from edgeprune.pattern import parse_pattern
from edgeprune.search.levels import global_levels

KNOWN = tuple(named._CLASSES)


@pytest.fixture(autouse=True)
def fewer_tiles(monkeypatch):
    monkeypatch.setattr("edgeprune.passes.criteria.ablation.TILES", 4)


def small_network():
    """The network, with the scales of a batch norm noted on two of its layers."""
    model = plain_network()
    for node in model.graph:
        if node.name in ("first", "a"):
            channels = node.outputs[0].shape[1]
            node.metadata_props["edgeprune.bn_scale"] = " ".join(str(0.1 + 0.1 * index) for index in range(channels))
    return model


def outputs(model, samples):
    return next(iter(Session(model).run_rows(samples).values()))


def weights(model):
    return {layer.name: read_weight(layer) for layer in weighted_layers(model)}


@pytest.mark.parametrize("text", ["1x1", "2:4", "2x3"])
@pytest.mark.parametrize("name", KNOWN)
def test_refit_follows_the_level_by_every_criterion_and_beats_size_without_a_refit(name, text):
    model, fresh = small_network(), random_samples(100, seed=9)
    levels = global_levels(model, parse_pattern(text), 0.5)
    pruned = Refit(levels, criterion=name)(model, random_samples(120))
    for layer, array in weights(pruned).items():
        live = int((block_scores(array != 0, parse_pattern(text)) > 0).sum())
        by_size = weights(Prune(levels)(model))[layer]
        assert live == int((block_scores(by_size != 0, parse_pattern(text)) > 0).sum())
    wanted = outputs(model, fresh)
    errors = [np.mean((outputs(m, fresh) - wanted) ** 2) for m in (pruned, Prune(levels)(model))]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("name", KNOWN)
def test_saliencies_are_finite_and_of_every_weight(name):
    model = small_network()
    found = saliencies(model, random_samples(40), name)
    assert {layer: array.shape for layer, array in found.items()} == {
        layer: array.shape for layer, array in weights(model).items()
    }
    for array in found.values():
        assert np.isfinite(array).all() and (array >= 0).all() and array.any()
    levels = global_levels(model, parse_pattern("1x1"), 0.5, found)
    assert all(0 < level.density <= 1 for level in levels.values())


@pytest.mark.parametrize("name", ["wanda", "taylor", "fisher"])
def test_the_same_seed_gives_the_same_saliencies(name):
    first, second = (saliencies(small_network(), random_samples(20), name, seed=3) for _ in range(2))
    for layer, array in first.items():
        np.testing.assert_array_equal(array, second[layer])


def test_an_unknown_name_is_refused():
    with pytest.raises(EdgepruneError) as caught:
        criterion_named("magnitud")
    assert str(caught.value) == (
        "'magnitud' is not a criterion [criterion-unknown]\n  where: --criterion\n  hint:  did you mean magnitude?"
    )
    assert caught.value.exit_code == 2


def test_wanda_is_squared_weight_times_mean_square_of_the_input():
    model, samples = small_network(), random_samples(30)
    found = saliencies(model, samples, "wanda")
    x = np.pad(samples.inputs["x"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    weight = weights(model)["first"]
    for tap in range(9):
        row, column = divmod(tap, 3)
        power = np.mean(x[:, :, row : row + 6, column : column + 6] ** 2, axis=(0, 2, 3))
        np.testing.assert_allclose(found["first"][0, tap], weight[0, tap] ** 2 * power[:, None], rtol=1e-4)
