"""How the sparsity is shared out, against formulas and brute force."""

import numpy as np
import pytest
import torch
from pruner_networks import convnet, mixed
from torch import nn

from edgeprune.mask import block_scores, mask_from_scores
from edgeprune.pattern import Pattern, parse_pattern
from edgeprune.search.levels import FLOOR
from edgeprune.torch import Pruner
from edgeprune.torch.layers import prunable_layers, unwrapped
from edgeprune.torch.levels import erk_densities


def grids(model) -> dict[str, np.ndarray]:
    return {layer.name: layer.grid(layer.weight.detach()).numpy() for layer in prunable_layers(model)}


def kept(model) -> dict[str, np.ndarray]:
    return {name: grid != 0 for name, grid in grids(model).items()}


@pytest.mark.parametrize("text", ["1x1", "1x4", "4x16", "3x7", "2:4", "1:4/1x4"])
def test_uniform_levels_keep_what_brute_force_keeps(text):
    model, pattern = convnet(), parse_pattern(text)
    wanted = {name: mask_from_scores(grid**2, pattern, 0.3) for name, grid in grids(model).items()}
    Pruner(model, pattern=text, sparsity=None if pattern.density else 0.7, schedule="one-shot")
    for name, found in kept(model).items():
        np.testing.assert_array_equal(found, wanted[name])


def erk_by_bisection(layers, density: float) -> dict[str, float]:
    """The densities min(1, f * shape rule), with the f for which they add up."""
    sizes = {layer.name: layer.weight.numel() for layer in layers}
    rules = {}
    for layer in layers:
        shape = layer.weight.shape
        rules[layer.name] = (shape[0] + shape[1] + sum(shape[2:])) / np.prod(shape)
    low, high = 0.0, 1 / min(rules.values())
    for _ in range(200):
        middle = (low + high) / 2
        total = sum(min(1.0, middle * rules[name]) * size for name, size in sizes.items())
        low, high = (middle, high) if total < density * sum(sizes.values()) else (low, middle)
    return {name: min(1.0, high * rule) for name, rule in rules.items()}


@pytest.mark.parametrize("density", [0.02, 0.25, 0.6, 0.97])
def test_erk_densities_follow_the_formula(density):
    layers = prunable_layers(convnet(), protect_ends=False)
    found = erk_densities(layers, density)
    assert found == pytest.approx(erk_by_bisection(layers, density), rel=1e-9)
    total = sum(layer.weight.numel() for layer in layers)
    assert sum(found[layer.name] * layer.weight.numel() for layer in layers) == pytest.approx(density * total)


@pytest.mark.parametrize("rule", ["global", "raw"])
@pytest.mark.parametrize("pattern", [Pattern(), Pattern(1, 4), Pattern(3, 7)], ids=str)
def test_one_threshold_over_all_layers(rule, pattern):
    model = convnet()
    with torch.no_grad():
        model[3].weight.mul_(0.05)
    before = grids(model)
    blocks = {name: block_scores(grid**2, pattern) for name, grid in before.items()}
    if rule == "global":
        blocks = {name: scores / scores.mean() for name, scores in blocks.items()}
    Pruner(model, pattern=pattern, sparsity=0.6, schedule="one-shot", levels=rule)
    lowest, removed, floors = [], 0.0, {}
    for name, scores in blocks.items():
        size = before[name].size / scores.size
        floors[name] = max(1, round(FLOOR * 0.4 * scores.size)) if rule == "global" else 1
        order = np.sort(scores, axis=None)[: scores.size - floors[name]]
        lowest += [(score, name, size) for score in order]
    counts = dict.fromkeys(blocks, 0)
    for _, name, size in sorted(lowest):
        removed += size
        if removed > 0.6 * sum(grid.size for grid in before.values()) + 1e-6:
            break
        counts[name] += 1
    for name, found in kept(model).items():
        wanted = mask_from_scores(before[name] ** 2, pattern, 1 - counts[name] / blocks[name].size)
        np.testing.assert_array_equal(found, wanted)


def test_levels_by_name_leave_the_others_dense():
    model = convnet()
    pruner = Pruner(model, pattern="1x1", levels={"3": 0.5, "11": 0.8}, schedule="one-shot")
    assert pruner.densities == pytest.approx({"3": 0.5, "11": 0.2})
    assert bool((model[6].weight != 0).all())
    assert pruner.sparsity == pytest.approx((0.5 * 1440 + 0.8 * 120) / 1560)


def test_small_ends_and_depthwise_layers_stay_dense():
    model = mixed()
    assert model(torch.zeros(1, 3, 9, 7)).shape == (1, 7)
    assert [layer.name for layer in prunable_layers(model)] == ["2", "7"]
    assert [layer.name for layer in prunable_layers(model, protect_ends=False)] == ["0", "2", "7", "10"]
    large_ends = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    assert len(prunable_layers(large_ends)) == 3
    assert [layer.name for layer in prunable_layers(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Linear(99, 99)))] == ["0", "1"]


def test_a_shared_weight_counts_once_and_a_computed_one_not_at_all():
    first, second = nn.Linear(9, 9), nn.Linear(9, 9)
    second.weight = first.weight
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(9, 9))
    assert [layer.name for layer in prunable_layers(nn.Sequential(first, second, normed))] == ["0"]


def test_wrapped_networks_have_the_names_of_what_they_wrap():
    model = convnet()
    assert unwrapped(nn.DataParallel(model)) is model
    assert unwrapped(torch.compile(model)) is model
    assert list(Pruner(nn.DataParallel(model), pattern="1x1", sparsity=0.5, schedule="one-shot").densities) == [
        "3",
        "6",
    ]


def test_channels_go_whole():
    model = convnet()
    norms = {name: (grid**2).sum(axis=(0, 1, 2)) for name, grid in grids(model).items()}
    Pruner(model, pattern="channel", sparsity=0.5, schedule="one-shot")
    for name, found in kept(model).items():
        live = norms[name] >= np.sort(norms[name])[len(norms[name]) // 2]
        np.testing.assert_array_equal(found, np.broadcast_to(live, found.shape))
