"""Models that arrive sparse."""

import numpy as np
from networks import small_network

from edgeprune.frontend.load import load
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.prune import PATTERN_KEY, Prune
from edgeprune.passes.recognise import Recognise, fitted_levels, is_sparse, sparsity
from edgeprune.pattern import Level, parse_pattern

PATTERNS = tuple(parse_pattern(text) for text in ("1x1", "1x4", "1x8"))


def test_each_layer_gets_the_coarsest_pattern_that_its_zeros_fit():
    levels = {
        "a": Level(PATTERNS[0], 0.3),
        "wide": Level(PATTERNS[2], 0.5),
        "hidden": Level(PATTERNS[1], 0.25),
        "b": Level(PATTERNS[0], 0.95),
    }
    model = Prune(levels)(small_network())
    for node in model.graph:
        node.metadata_props.pop(PATTERN_KEY, None)
    found = fitted_levels(model, PATTERNS)
    assert {name: str(level.pattern) for name, level in found.items()} == {"a": "1x1", "wide": "1x8", "hidden": "1x4"}
    for layer in weighted_layers(model):
        if layer.name in found:
            assert found[layer.name].density == np.mean(read_weight(layer) != 0)
    noted = Recognise(PATTERNS)(model)
    assert {n.name: n.metadata_props[PATTERN_KEY] for n in noted.graph if PATTERN_KEY in n.metadata_props} == {
        "a": "1x1",
        "wide": "1x8",
        "hidden": "1x4",
    }
    assert not any(PATTERN_KEY in node.metadata_props for node in model.graph)


def test_dense_models_are_not_sparse():
    assert sparsity(small_network()) == 0
    assert not is_sparse(small_network())
    assert fitted_levels(small_network(), PATTERNS) == {}


def test_sparsity_counts_every_weight():
    model = small_network()
    arrays = {layer.name: read_weight(layer) for layer in weighted_layers(model)}
    pruned = Prune({"a": Level(PATTERNS[0], 0.5)})(model)
    total = sum(array.size for array in arrays.values())
    assert np.isclose(sparsity(pruned), 0.5 * arrays["a"].size / total)
    assert is_sparse(pruned)


def test_deep_compressed_squeezenet_is_unstructured_sparse(data_dir):
    model = load(data_dir / "models/squeezenet_dc/squeezenet1.0_deepcompressed.onnx")
    assert abs(sparsity(model) - 0.666) < 0.002
    found = fitted_levels(model, tuple(parse_pattern(text) for text in ("1x1", "1x8", "1x16")))
    dense = {layer.name for layer in weighted_layers(model) if np.mean(read_weight(layer) == 0) < 0.02}
    assert len(found) == 13
    assert found.keys() == {layer.name for layer in weighted_layers(model)} - dense
    assert {str(level.pattern) for level in found.values()} == {"1x1"}
