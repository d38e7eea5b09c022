"""SNIP, GraSP, SynFlow and random masks: scores against formulas, and what happens to layers."""

import copy
import itertools

import numpy as np
import pytest
import torch
from pruner_networks import EXTRAS, convnet, loss_of
from torch import nn

from edgeprune.pattern import Pattern
from edgeprune.torch import Pruner, SynFlow
from edgeprune.torch.layers import prunable_layers
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedules import schedule_named
from edgeprune.torch.synflow import absolute_copy, flow


def network_of(model: nn.Module, **given) -> MaskedNetwork:
    layers = tuple(prunable_layers(model, protect_ends=False))
    return MaskedNetwork(model, layers, Pattern(), 0.5, "raw", **given)


def tiny_loss(model: nn.Module) -> torch.Tensor:
    inputs = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)
    return (model(inputs).sin() ** 2).mean()


def tiny() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def gradient(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """The gradient of the tiny loss at `weights`, the rest as it is."""
    model = tiny()
    with torch.no_grad():
        for layer, weight in zip((model[0], model[2]), weights, strict=True):
            layer.weight.copy_(weight)
    return list(torch.autograd.grad(tiny_loss(model), [model[0].weight, model[2].weight]))


def test_snip_scores_are_the_loss_slope_times_the_weight():
    model, step = tiny(), 1e-6
    scores = schedule_named("snip").scores(network_of(model, loss=tiny_loss))
    for name in ("0", "2"):
        weight = model.get_submodule(name).weight
        for place in np.ndindex(*weight.shape):
            with torch.no_grad():
                kept = weight[place].item()
                weight[place] = kept * (1 + step)
                above = tiny_loss(model).item()
                weight[place] = kept * (1 - step)
                below = tiny_loss(model).item()
                weight[place] = kept
            assert scores[name][place].item() == pytest.approx(abs(above - below) / (2 * step), rel=1e-4, abs=1e-9)


def test_grasp_scores_are_the_weight_times_the_change_of_gradients():
    model, step = tiny(), 1e-5
    weights = [model[0].weight.detach(), model[2].weight.detach()]
    slopes = gradient(weights)
    ahead = gradient([weight + step * slope for weight, slope in zip(weights, slopes, strict=True)])
    behind = gradient([weight - step * slope for weight, slope in zip(weights, slopes, strict=True)])
    scores = schedule_named("grasp").scores(network_of(model, loss=tiny_loss))
    for name, weight, after, before in zip(("0", "2"), weights, ahead, behind, strict=True):
        torch.testing.assert_close(scores[name].double(), weight * (after - before) / (2 * step), rtol=1e-4, atol=1e-9)


def test_grasp_removes_what_slows_the_flow_of_gradients_least():
    """Of two single weights the one with the higher score costs more of the squared gradient norm, to first order."""
    model = tiny()
    scores = schedule_named("grasp").scores(network_of(model, loss=tiny_loss))["0"]
    weights = [model[0].weight.detach(), model[2].weight.detach()]
    whole = sum(float((slope**2).sum()) for slope in gradient(weights))
    for place in np.ndindex(*weights[0].shape):
        less = weights[0].clone()
        less[place] *= 1 - 1e-4
        lost = whole - sum(float((slope**2).sum()) for slope in gradient([less, weights[1]]))
        assert lost / 2e-4 == pytest.approx(float(scores[place]), rel=1e-2, abs=1e-6)


def plain(depth: int, width: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width, bias=False), nn.ReLU())]
    return nn.Sequential(nn.Linear(10, width, bias=False), nn.ReLU(), *layers, nn.Linear(width, 4, bias=False))


def test_synaptic_flow_is_the_same_through_every_layer():
    model = plain(4)
    network = network_of(model, example=(torch.zeros(1, 10),))
    totals = [float(score.sum()) for score in flow(network, absolute_copy(model)).values()]
    assert totals == pytest.approx([totals[0]] * len(totals), rel=1e-9)


def test_synaptic_flow_sums_over_paths():
    model = plain(0, width=3)
    first, last = model[0].weight.abs().detach().double(), model[2].weight.abs().detach().double()
    scores = flow(network_of(model, example=(torch.zeros(1, 10),)), absolute_copy(model))
    torch.testing.assert_close(scores["0"], first * last.sum(0)[:, None])
    torch.testing.assert_close(scores["2"], last * first.sum(1)[None])


def deep(seed: int) -> nn.Sequential:
    """A network with one wide layer, whose weights are each worth less than those of the others."""
    torch.manual_seed(seed)
    widths = [10, 12, 12, 300, 12, 12, 4]
    layers = [
        layer
        for inputs, outputs in itertools.pairwise(widths)
        for layer in (nn.Linear(inputs, outputs, bias=False), nn.ReLU())
    ]
    return nn.Sequential(*layers[:-1])


def deep_loss(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(64, 10, generator=generator), torch.randint(0, 4, (64,), generator=generator)
    return nn.functional.cross_entropy(model(images), labels)


def keeps_a_path(model: nn.Sequential) -> bool:
    through = torch.ones(1, 10)
    for layer in model:
        through = through @ (layer.weight != 0).float().t() if isinstance(layer, nn.Linear) else through
    return bool(through.any())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("sparsity", "collapsed"), [(0.95, ["one-shot"]), (0.995, ["one-shot", "snip", "grasp"])], ids=["95%", "99.5%"]
)
def test_only_synflow_keeps_a_path_from_inputs_to_outputs(seed, sparsity, collapsed):
    """One threshold empties the wide layers of the others, down to the one weight that a mask always keeps."""
    for schedule in (*collapsed, "synflow"):
        model = deep(seed)
        given = {"loss": deep_loss, "example": torch.zeros(1, 10)}
        pruner = Pruner(
            model, pattern="1x1", sparsity=sparsity, schedule=schedule, levels="raw", protect_ends=False, **given
        )
        assert pruner.sparsity == pytest.approx(sparsity, abs=2e-3)
        assert keeps_a_path(model) == (schedule == "synflow")


def test_synflow_rounds_go_down_by_the_same_factor():
    counts = []

    model = plain(2)
    network = network_of(model, example=(torch.zeros(1, 10),))
    network.sparsity = 0.9
    choose = network.choose

    def watched(*arguments):
        masks = choose(*arguments)
        counts.append(sum(int(mask.sum()) for mask in masks.values()))
        return masks

    network.choose = watched
    SynFlow(rounds=20).begin(network)
    total = sum(layer.weight.numel() for layer in network.layers)
    assert counts == pytest.approx([total * 0.1 ** (step / 20) for step in range(1, 21)], abs=2)


@pytest.mark.parametrize("schedule", ["snip", "grasp", "synflow", "erk-random"])
def test_nothing_but_masked_weights_changes(schedule):
    model = convnet()
    before = copy.deepcopy(model.state_dict())
    random = torch.random.get_rng_state()
    pruner = Pruner(model, pattern="1x4", sparsity=0.5, schedule=schedule, **EXTRAS.get(schedule, {}))
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, tensor in model.state_dict().items():
        mask = pruner.masks.get(name.removesuffix(".weight"))
        assert torch.equal(tensor, before[name] if mask is None else before[name] * mask)
    assert pruner.sparsity == pytest.approx(0.5, abs=0.03)


def test_random_masks_follow_the_seed():
    masks = [
        Pruner(convnet(), pattern="1x1", sparsity=0.5, schedule="erk-random", seed=seed).masks for seed in (0, 0, 1)
    ]
    assert torch.equal(masks[0]["3"], masks[1]["3"])
    assert not torch.equal(masks[0]["3"], masks[2]["3"])


def test_the_same_loss_gives_the_same_masks():
    masks = [Pruner(convnet(), pattern="1x1", sparsity=0.5, schedule="snip", loss=loss_of).masks for _ in range(2)]
    assert torch.equal(masks[0]["6"], masks[1]["6"])
