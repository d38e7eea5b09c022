"""What units cost that others make up for: against brute force, normal equations and networks that lost them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from networks import Builder, random_samples, small_network

from edgeprune.data.samples import Samples
from edgeprune.ir.dependency import find_groups
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import read_weight, weighted_layers, write_weight
from edgeprune.passes.criteria.curvature import damped
from edgeprune.passes.layer_inputs import layer_inputs
from edgeprune.passes.least_squares import fit_kept
from edgeprune.passes.output_loss import output_kind, output_loss
from edgeprune.passes.silence_units import SilenceUnits
from edgeprune.passes.unit_errors import by_scores, unit_errors
from edgeprune.passes.unit_readers import readers_of


def network(kernel=3):
    """Two convolutions between which there are 8 channels."""
    build = Builder(1, [1, 4, 8, 8])
    first = build.add(
        "Conv", "first", [build.input, build.constant("w", 8, 4, 3, 3), build.constant("b", 8)], [1, 8, 6, 6]
    )
    active = build.add("Relu", "active", [first], [1, 8, 6, 6])
    size = 7 - kernel
    inputs = [active, build.constant("v", 5, 8, kernel, kernel), build.constant("c", 5)]
    return build.model(build.add("Conv", "second", inputs, [1, 5, size, size]))


def rows(count=40):
    images = np.random.default_rng(2).standard_normal((count, 4, 8, 8)).cumsum(axis=2)
    return Samples({"x": images.astype(np.float32)})


def reader_of(model, samples):
    group = find_groups(model)["first"]
    layers = {layer.name: layer for layer in weighted_layers(model)}
    moments = {layer.name: seen for layer, seen in layer_inputs(model, samples)}
    (reader,) = readers_of(group, layers, moments, None)
    return reader, layers["second"], moments["second"]


def loss_without(second, start, rows):
    """What the best weights without `rows` lose, by the normal equations."""
    mask = np.ones(start.shape, bool)
    mask[rows] = False
    fitted = fit_kept(second, second @ start, mask, start)
    change = fitted - start
    return float(np.sum(change * (second @ change))), fitted


def places(units, taps, inputs=8):
    return np.concatenate([np.arange(taps) * inputs + unit for unit in units])


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_reader_costs_what_the_normal_equations_say(kernel):
    model, samples = network(kernel), rows()
    reader, layer, moments = reader_of(model, samples)
    start = read_weight(layer).astype(np.float64).reshape(-1, 5)
    second = damped(moments.second, moments.power)[0]
    scale = 0.5 / float(np.sum(start * (moments.second[0] @ start)))
    alone = [scale * loss_without(second, start, places([unit], kernel**2))[0] for unit in range(8)]
    np.testing.assert_allclose(reader.costs(np.arange(8)), alone, rtol=1e-6)
    total = 0.0
    for units in ([2, 5], [0], [7, 1, 3]):
        total += reader.remove(np.array(units))
    wanted, fitted = loss_without(second, start, places([2, 5, 0, 7, 1, 3], kernel**2))
    assert total == pytest.approx(scale * wanted, rel=1e-6)
    np.testing.assert_allclose(reader.weights, fitted, atol=1e-6)


def test_the_order_is_hardly_worse_than_the_best_of_all_sets():
    model, samples = network(), rows()
    _, layer, moments = reader_of(model, samples)
    start, second = read_weight(layer).astype(np.float64).reshape(-1, 5), damped(moments.second, moments.power)[0]
    group = find_groups(model)["first"]
    found = unit_errors(model, samples, {"first": (group, 1)}, {})["first"]
    assert sorted(found.order) == list(range(8)) and len(found.errors) == 8
    for count in (1, 3, 5):
        sets = itertools.combinations(range(8), count)
        best = min(loss_without(second, start, places(units, 9))[0] for units in sets)
        assert loss_without(second, start, places(found.order[:count], 9))[0] <= 1.3 * best


def test_a_channel_that_is_there_twice_goes_for_nothing():
    model = network()
    first = weighted_layers(model)[0]
    weight = read_weight(first)
    weight[..., 6] = weight[..., 1]
    write_weight(first, weight)
    first.bias.const_value = type(first.bias.const_value)(np.zeros(8, np.float32))
    samples, group = rows(), find_groups(model)["first"]
    found = unit_errors(model, samples, {"first": (group, 1)}, {})["first"]
    assert found.order[0] in (1, 6) and found.errors[1] < 0.25 * found.errors[2]


def test_errors_are_those_of_the_network_without_the_units():
    """What no reader makes up for is measured as it is: the silenced network's loss, made to ascend."""
    model = small_network()
    samples, groups = random_samples(32), find_groups(model)
    worth = {layer.name: read_weight(layer) ** 2 for layer in weighted_layers(model)}
    found = unit_errors(model, samples, {"a": (groups["a"], 1)}, worth)["a"]
    kind, wanted = output_kind(model, samples), Session(model).run_rows(samples)
    losses = []
    for count in range(1, groups["a"].size):
        silenced = SilenceUnits({"a": np.sort(found.order[count:])})(model)
        losses.append(output_loss(kind, Session(silenced).run_rows(samples), wanted))
    assert losses[-1] <= found.errors[-1] <= max(losses) * (1 + 1e-5)
    assert min(abs(found.errors[-1] / loss - 1) for loss in losses) < 1e-5


def test_every_group_of_a_network_has_its_errors():
    model = small_network()
    samples = random_samples(32)
    worth = {layer.name: read_weight(layer) ** 2 for layer in weighted_layers(model)}
    steps = {group.name: (group, 1) for group in find_groups(model).groups}
    for name, found in unit_errors(model, samples, steps, worth).items():
        size = steps[name][0].size
        assert sorted(found.order) == list(range(size))
        assert len(found.errors) == size + (size == 1)
        assert found.errors[0] == 0 and np.all(np.diff(found.errors) >= 0) and found.errors[-1] > 0


def test_scores_in_steps():
    found = by_scores(np.array([3.0, 1.0, 2.0, 4.0]), 2)
    assert found.order.tolist() == [1, 2, 0, 3] and found.errors.tolist() == [0.0, 3.0]
    assert by_scores(np.array([3.0]), 1).errors.tolist() == [0.0, 3.0]
