"""Equalized networks compute the same; sensitivities of layers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from networks import Builder, random_samples, small_network
from test_quantize import error, outputs, pruned

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.copy import copy_model
from edgeprune.ir.weights import read_weight, weighted_layers, write_weight
from edgeprune.passes.quantize.equalize import equalized, find_pairs
from edgeprune.passes.quantize.quantize import Quantize
from edgeprune.passes.quantize.sensitivity import layer_sensitivities


def names(model: ir.Model) -> list[tuple[str, str]]:
    return [(pair.first.name, pair.second.name) for pair in find_pairs(model)]


def test_pairs_never_cross_a_branch() -> None:
    assert names(small_network()) == [("a", "b"), ("depthwise", "wide"), ("wide", "hidden"), ("hidden", "last")]


def test_clip_is_left_alone_and_depthwise_is_not() -> None:
    build = Builder(0, [1, 3, 6, 6])
    one = build.relu("r1", build.convolution("one", build.input, 6))
    two = build.convolution("two", one, 6, group=6)
    low, high = build.constant("low"), build.constant("high")
    low.const_value, high.const_value = (ir.tensor(np.float32(x), name=n) for x, n in ((0, "low"), (6, "high")))
    clipped = build.add("Clip", "clip", [two, low, high], [1, 6, 6, 6])
    model = build.model(build.convolution("three", clipped, 4))
    assert names(model) == [("one", "two")]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("density", [0.4, 1.0])
def test_equalized_network_computes_the_same(seed: int, density: float) -> None:
    model = small_network(seed) if density == 1 else pruned(small_network(seed), density)
    found = equalized(model)
    assert found is not None
    rows = random_samples(20)
    np.testing.assert_allclose(outputs(found, rows), outputs(model, rows), rtol=1e-3, atol=1e-3)
    for before, after in zip(weighted_layers(model), weighted_layers(found), strict=True):
        np.testing.assert_array_equal(read_weight(before) != 0, read_weight(after) != 0)


def test_both_sides_of_a_channel_get_the_same_extent() -> None:
    found = equalized(spread(small_network()))
    assert found is not None
    for pair in find_pairs(found):
        if pair.first.name != "a":
            continue
        made = np.abs(read_weight(pair.first)).max(axis=(1, 2)).reshape(-1)
        read = np.abs(read_weight(pair.second)).max(axis=(1, 3)).reshape(-1)
        np.testing.assert_allclose(made, read, rtol=0.1)


def spread(model: ir.Model) -> ir.Model:
    """The same network with channels of very different extents between layers a and b."""
    result = copy_model(model)
    scale = np.exp2(np.linspace(-5, 5, 12)).astype(np.float32)
    layers = {layer.name: layer for layer in weighted_layers(result)}
    write_weight(layers["a"], read_weight(layers["a"]) * scale)
    bias = layers["a"].bias
    assert bias is not None
    bias.const_value = ir.tensor(bias.const_value.numpy() * scale, name=bias.name)  # type: ignore[union-attr]
    write_weight(layers["b"], read_weight(layers["b"]) / scale.reshape(2, 1, 6, 1))
    return result


def test_channels_of_different_extents_cost_less_when_equalized() -> None:
    model, rows, fresh = spread(small_network()), random_samples(64), random_samples(64, seed=8)
    plain = Quantize("minmax", "nearest", equalize=False, correct_bias=False)(model, rows)
    found = Quantize("minmax", "nearest", equalize=True, correct_bias=False)(model, rows)
    assert error(found, model, fresh) < 0.3 * error(plain, model, fresh)


def test_layers_kept_in_float_and_networks_without_pairs() -> None:
    model = small_network()
    found = equalized(model, ["a", "wide", "last"])
    assert found is None
    build = Builder(0, [1, 3, 6, 6])
    assert equalized(build.model(build.convolution("only", build.input, 4))) is None


def test_sensitivities_name_every_layer_and_tell_them_apart() -> None:
    model = small_network()
    steps: list[tuple[str, int, int, str]] = []
    found = layer_sensitivities(model, random_samples(40), progress=lambda *step: steps.append(step))
    assert list(found) == [layer.name for layer in weighted_layers(model)]
    assert all(0 <= loss < 0.1 for loss in found.values())
    assert steps[-1][1] == steps[-1][2]
    spoiled = layer_sensitivities(spread(model), random_samples(40))
    assert spoiled["b"] > 3 * found["b"]


def test_sensitivities_need_rows() -> None:
    with pytest.raises(EdgepruneError, match="quantizing needs inputs to calibrate on"):
        layer_sensitivities(small_network(), Samples({"x": np.zeros((0, 3, 6, 6), np.float32)}))
