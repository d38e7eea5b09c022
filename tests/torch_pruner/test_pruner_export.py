"""A pruned model keeps its pattern through export, and the example of the documentation runs."""

import re
import textwrap

import numpy as np
import pytest
import torch
from pruner_networks import EXTRAS, batches, convnet, sgd, train
from torch import nn
from torch.nn.functional import cross_entropy

import edgeprune
import edgeprune.torch
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.passes.recognise import fitted_levels
from edgeprune.pattern import parse_pattern
from edgeprune.torch import SCHEDULES, Pruner

STEPS = 12


def trained(schedule: str, pattern: str, sparsity: float | None) -> nn.Module:
    model = convnet()
    optimizer = sgd(model)
    extras = EXTRAS.get(schedule, {})
    pruner = Pruner(
        model, pattern=pattern, sparsity=sparsity, schedule=schedule, steps=STEPS, optimizer=optimizer, **extras
    )
    train(model, optimizer, pruner, batches(STEPS))
    pruner.finalize()
    return model.eval()


def save(model: nn.Module, path) -> str:
    torch.export.save(torch.export.export(model, (torch.zeros(1, 1, 8, 8),)), path)
    return str(path)


@pytest.mark.parametrize("schedule", ["gradual", "sr-ste"])
def test_the_pattern_is_recognised_after_export(schedule, tmp_path):
    pattern, sparsity = ("2:4", None) if schedule == "sr-ste" else ("1x4", 0.75)
    model = trained(schedule, pattern, sparsity)
    loaded = edgeprune.load_model(save(model, tmp_path / "model.pt2"))
    weights = [read_weight(layer) for layer in weighted_layers(loaded)]
    assert [weight.shape[1:] for weight in weights] == [(9, 1, 8), (9, 8, 20), (9, 20, 24), (1, 24, 5)]
    assert np.count_nonzero(weights[0]) == weights[0].size and np.count_nonzero(weights[3]) == weights[3].size
    levels = list(fitted_levels(loaded, [parse_pattern(text) for text in ("1x1", "2:4", "1x4", "4x16")]).values())
    kept = sum(np.count_nonzero(weight) for weight in weights[1:3]) / (9 * 8 * 20 + 9 * 20 * 24)
    assert [str(level.pattern) for level in levels] == [pattern] * len(levels) and levels
    assert kept == pytest.approx(0.5 if sparsity is None else 1 - sparsity, abs=0.01)


def test_a_callable_of_a_module_is_read_too(tmp_path):
    torch.save(trained("one-shot", "1x4", 0.5).state_dict(), tmp_path / "weights.pt")
    (tmp_path / "pruned.py").write_text(
        textwrap.dedent(f"""
            import sys, torch
            sys.path.insert(0, {str(tmp_path)!r}); sys.path.insert(0, {str(__file__.rsplit("/", 1)[0])!r})
            from pruner_networks import convnet
            def build():
                model = convnet()
                model.load_state_dict(torch.load({str(tmp_path / "weights.pt")!r}, weights_only=True))
                return model, (torch.zeros(1, 1, 8, 8),)
        """)
    )
    levels = fitted_levels(edgeprune.load_model(f"{tmp_path}/pruned.py:build"), [parse_pattern("1x4")])
    assert [level.density for level in levels.values()] == pytest.approx([0.5, 0.5], abs=0.01)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_plain_tensors_are_left(schedule):
    model = trained(schedule, "1:2" if schedule == "sr-ste" else "1x4", 0.5)
    fresh = convnet()
    assert list(model.state_dict()) == list(fresh.state_dict())
    for module, plain in zip(model.modules(), fresh.modules(), strict=True):
        assert type(module) is type(plain)
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
    assert all(type(parameter) is nn.Parameter and not parameter._backward_hooks for parameter in model.parameters())


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = re.search(r"\n\n((?:    .*\n)+)", edgeprune.torch.__doc__)
    model = convnet()
    names = {
        "edgeprune": edgeprune, "torch": torch, "cross_entropy": cross_entropy, "model": model,
        "optimizer": sgd(model), "batches": batches(5),
    }  # fmt: skip
    exec(textwrap.dedent(example[1]), names)
    levels = fitted_levels(edgeprune.load_model(tmp_path / "pruned.onnx"), [parse_pattern("1x16")])
    assert [str(level.pattern) for level in levels.values()] == ["1x16", "1x16"]
    assert names["pruner"].sparsity == pytest.approx(0.75, abs=0.03)


def test_edgeprune_torch_needs_no_import_of_its_own():
    assert edgeprune.__getattr__("torch").Pruner is Pruner
