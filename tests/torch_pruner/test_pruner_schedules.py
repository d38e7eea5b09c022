"""Schedules in training, against their formulas and brute force."""

import copy
import math

import numpy as np
import pytest
import torch
from pruner_networks import batches, convnet, sgd, train
from torch import nn
from torch.nn.functional import cross_entropy

from edgeprune.mask import block_scores, mask_from_scores
from edgeprune.pattern import Pattern, parse_pattern
from edgeprune.torch import ACDC, SRSTE, Gradual, GroupLasso, Pruner, RigL
from edgeprune.torch.layers import Layer

NAMES = ("3", "6")


def grid_of(model: nn.Sequential, name: str) -> np.ndarray:
    module = model.get_submodule(name)
    return Layer(name, module, 1).grid(module.weight.detach()).numpy().copy()


def blocks_of(model: nn.Sequential, name: str, tensor: torch.Tensor, pattern: Pattern) -> np.ndarray:
    return block_scores(Layer(name, model.get_submodule(name), 1).grid(tensor).numpy(), pattern)


def one_step(model, optimizer, images, labels) -> None:
    optimizer.zero_grad()
    cross_entropy(model(images), labels).backward()
    optimizer.step()


def test_gradual_sparsity_is_cubic():
    steps, final = 40, 0.9
    model = convnet()
    optimizer = sgd(model, 0.01)
    schedule = Gradual(start=0.1, until=0.6, refreshes=1000)
    pruner = Pruner(model, pattern="1x1", sparsity=final, schedule=schedule, steps=steps, optimizer=optimizer)
    for done, batch in enumerate(batches(steps), start=1):
        train(model, optimizer, pruner, [batch])
        share = min(1.0, max(0.0, (done - 4) / (24 - 4)))
        wanted = final + (0 - final) * (1 - share) ** 3
        assert pruner.sparsity == pytest.approx(wanted, abs=2 / 1440)
    pruner.finalize()
    assert pruner.sparsity == pytest.approx(final, abs=1e-3)


@pytest.mark.parametrize("text", ["1x4", "2:4", "1:4/1x4"])
def test_masks_only_tighten_and_end_where_brute_force_ends(text):
    steps, pattern = 20, parse_pattern(text)
    model = convnet()
    optimizer = sgd(model, 0.01)
    pruner = Pruner(
        model, pattern=text, sparsity=None if pattern.density else 0.75, schedule=Gradual(until=0.5), steps=steps
    )
    before = {name: np.ones_like(grid_of(model, name), bool) for name in NAMES}
    for done, (images, labels) in enumerate(batches(steps), start=1):
        one_step(model, optimizer, images, labels)
        moved = {name: grid_of(model, name) * before[name] for name in NAMES}
        pruner.step()
        for name in NAMES:
            now = grid_of(model, name) != 0
            if pattern.group is None:
                assert not (now & ~before[name]).any()
            if done == 10:
                np.testing.assert_array_equal(now, mask_from_scores(moved[name] ** 2, pattern, 0.25))
            if done > 10:
                np.testing.assert_array_equal(now, before[name])
            before[name] = now


def test_ending_early_still_reaches_the_level():
    for schedule in (Gradual(), ACDC(warmup=0.5), GroupLasso()):
        model = convnet()
        optimizer = sgd(model)
        pruner = Pruner(model, pattern="1x1", sparsity=0.8, schedule=schedule, steps=100)
        train(model, optimizer, pruner, batches(2))
        assert pruner.sparsity < 0.7
        pruner.finalize()
        assert pruner.sparsity == pytest.approx(0.8, abs=1e-3)


def test_acdc_alternates():
    steps = 40
    model = convnet()
    optimizer = sgd(model, 0.01)
    pruner = Pruner(model, pattern="1x1", sparsity=0.8, schedule=ACDC(warmup=0.1, phase=0.1, final=0.7), steps=steps)
    seen = []
    for batch in batches(steps):
        train(model, optimizer, pruner, [batch])
        seen.append(bool(pruner.masks))
    dense, compressed = [False] * 4, [True] * 4
    wanted = [*dense[:3], *compressed, *dense, *compressed, *dense, *compressed, *dense, *([True] * 13)]
    assert seen == wanted
    assert pruner.masks.keys() == set(NAMES)


@pytest.mark.parametrize("text", ["2:4", "1:4/1x4", "1x4"])
def test_sr_ste_moves_all_weights_along_its_formula(text):
    pattern, rate, decay = parse_pattern(text), 0.1, 0.3
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), rate)
    dense = {name: model.get_submodule(name).weight.detach().clone() for name in NAMES}
    pruner = Pruner(
        model,
        pattern=text,
        sparsity=None if pattern.density else 0.75,
        schedule=SRSTE(decay=decay),
        steps=9,
        optimizer=optimizer,
    )
    for images, labels in batches(5):
        masks = {}
        for name in NAMES:
            module = model.get_submodule(name)
            layer = Layer(name, module, 1)
            kept = mask_from_scores(layer.grid(dense[name] ** 2).numpy(), pattern, 0.25)
            masks[name] = layer.ungrid(torch.from_numpy(kept))
            assert torch.equal(module.weight, dense[name] * masks[name])
        twin = copy.deepcopy(model)
        gradients = torch.autograd.grad(
            cross_entropy(twin(images), labels), [twin.get_submodule(name).weight for name in NAMES]
        )
        for name, gradient in zip(NAMES, gradients, strict=True):
            dense[name] = dense[name] - rate * (gradient + decay * (dense[name] * ~masks[name]))
        one_step(model, optimizer, images, labels)
        pruner.step()
        latent = pruner.state_dict()["memory"]["latent"]
        for name in NAMES:
            torch.testing.assert_close(latent[name], dense[name], rtol=1e-5, atol=1e-7)
            dense[name] = latent[name]


@pytest.mark.parametrize("pattern", [Pattern(), Pattern(1, 4), Pattern(3, 7)], ids=str)
def test_rigl_drops_the_smallest_and_grows_the_largest_gradients(pattern):
    steps, model = 40, convnet()
    optimizer = sgd(model)
    schedule = RigL(alpha=0.4, until=0.8, every=4)
    pruner = Pruner(model, pattern=pattern, sparsity=0.7, schedule=schedule, steps=steps, optimizer=optimizer)
    assert schedule.dropped(8, steps) == pytest.approx(0.2 * (1 + math.cos(math.pi * 8 / 32)))
    changes = 0
    for done, (images, labels) in enumerate(batches(steps), start=1):
        live = {name: blocks_of(model, name, pruner.masks[name], pattern) > 0 for name in NAMES}
        one_step(model, optimizer, images, labels)
        weights = {name: grid_of(model, name) for name in NAMES}
        slopes = {name: blocks_of(model, name, model.get_submodule(name).weight.grad ** 2, pattern) for name in NAMES}
        pruner.step()
        for name in NAMES:
            wanted = set(np.flatnonzero(live[name]))
            if done % 4 == 0 and done < 32:
                sizes = block_scores(weights[name] ** 2, pattern).ravel()
                count = round(schedule.dropped(done, steps) * len(wanted))
                wanted -= set(sorted(wanted, key=lambda place: sizes[place])[:count])
                free = [place for place in range(sizes.size) if place not in wanted]
                wanted |= set(sorted(free, key=lambda place: -slopes[name].ravel()[place])[:count])
            kept = set(np.flatnonzero(blocks_of(model, name, pruner.masks[name], pattern)))
            assert kept == wanted
            changes += kept != set(np.flatnonzero(live[name]))
    assert changes > 4
    pruner.finalize()


def test_rigl_keeps_the_number_of_weights():
    model = convnet()
    optimizer = sgd(model)
    pruner = Pruner(model, pattern="1x4", sparsity=0.8, schedule="rigl", steps=30, optimizer=optimizer)
    counts = {name: int(mask.sum()) for name, mask in pruner.masks.items()}
    first = pruner.masks
    train(model, optimizer, pruner, batches(30))
    assert {name: int(mask.sum()) for name, mask in pruner.masks.items()} == counts
    assert any(not torch.equal(first[name], mask) for name, mask in pruner.masks.items())


def test_grown_weights_start_at_rest():
    """With the optimizer known, momentum from the time under the mask is gone where a weight returns."""
    model = convnet()
    optimizer = sgd(model)
    pruner = Pruner(model, pattern="1x1", sparsity=0.5, schedule=RigL(every=3), steps=12, optimizer=optimizer)
    before = pruner.masks["3"]
    train(model, optimizer, pruner, batches(3))
    grown = pruner.masks["3"] & ~before
    weight = model[3].weight
    assert grown.any() and not weight[grown].any()
    assert not optimizer.state[weight]["momentum_buffer"][grown].any()


@pytest.mark.parametrize("text", ["1x4", "channel"])
def test_group_lasso_drives_blocks_to_zero_before_the_cut(text):
    """Linear regression on a few of the inputs: all blocks of the others vanish, the rest is held up."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(512, 12, generator=generator)
    wanted = torch.randn(12, 16, generator=generator)
    if text == "channel":
        wanted[:, 4:] = 0
    else:
        wanted[3:] = 0
    torch.manual_seed(0)
    model = nn.Linear(12, 16, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 2.0)
    schedule = GroupLasso(strength=3.0, until=0.9)
    pruner = Pruner(model, pattern=text, sparsity=0.75, schedule=schedule, steps=300)
    for _ in range(265):
        optimizer.zero_grad()
        ((model(inputs) - inputs @ wanted) ** 2).mean().backward()
        optimizer.step()
        pruner.step()
    assert not pruner.masks
    vanished = (model.weight.detach().t() == 0).numpy()
    np.testing.assert_array_equal(vanished, wanted.numpy() == 0)
    pruner.finalize()
    np.testing.assert_array_equal(model.weight.detach().t().numpy() == 0, wanted.numpy() == 0)


def test_one_proximal_step_is_the_formula():
    model = nn.Linear(6, 8)
    start = model.weight.detach().numpy().T.copy()
    pruner = Pruner(model, pattern="2x4", sparsity=0.5, schedule=GroupLasso(strength=2.0, until=0.5), steps=20)
    pruner.step()
    norms = np.array([[np.linalg.norm(start[r : r + 2, c : c + 4]) for c in (0, 4)] for r in (0, 2, 4)])
    taken = 2.0 * norms.mean() / 10
    factors = np.maximum(0, 1 - taken / norms)
    np.testing.assert_allclose(
        model.weight.detach().numpy().T, start * factors.repeat(2, 0).repeat(4, 1), rtol=1e-5, atol=1e-8
    )


def test_momentum_does_not_move_masked_weights():
    for make in (sgd, lambda model: torch.optim.AdamW(model.parameters(), 0.01)):
        model = convnet()
        optimizer = make(model)
        train(model, optimizer, type("None", (), {"step": staticmethod(lambda: None)}), batches(3))
        pruner = Pruner(model, pattern="1x4", sparsity=0.75, schedule="one-shot")
        zeros = {name: ~mask for name, mask in pruner.masks.items()}
        before = model[3].weight.detach().clone()
        train(model, optimizer, pruner, batches(4, seed=1))
        for name in NAMES:
            assert not model.get_submodule(name).weight[zeros[name]].any()
        assert not torch.equal(before, model[3].weight)


def test_no_sparsity_changes_nothing():
    for schedule in ("gradual", "acdc", "group-lasso", "rigl", "sr-ste"):
        model, plain = convnet(), convnet()
        optimizer = sgd(model)
        pruner = Pruner(model, pattern="1x1", sparsity=0.0, schedule=schedule, steps=4, optimizer=optimizer)
        train(model, optimizer, pruner, batches(4))
        pruner.finalize()
        train(plain, sgd(plain), type("None", (), {"step": staticmethod(lambda: None)}), batches(4))
        assert torch.equal(model[3].weight, plain[3].weight), schedule
