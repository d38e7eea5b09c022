"""Stopping and going on: bit for bit, with any optimizer, under mixed precision and accelerate."""

import copy
import io

import pytest
import torch
from accelerate import Accelerator
from pruner_networks import EXTRAS, batches, convnet, sgd, train
from torch.nn.functional import cross_entropy

from edgeprune.torch import SCHEDULES, Pruner, RigL

OPTIMIZERS = {
    "sgd": sgd,
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), 0.01),
    "rmsprop": lambda model: torch.optim.RMSprop(model.parameters(), 0.003, momentum=0.5),
}
CASES = [*((schedule, "sgd") for schedule in SCHEDULES), ("rigl", "adamw"), ("sr-ste", "adamw"), ("acdc", "rmsprop")]


def made(schedule: str, optimizer: str, resume: bool = False):
    model = convnet()
    steering = OPTIMIZERS[optimizer](model)
    pattern, sparsity = ("2:4", None) if schedule == "sr-ste" else ("1x4", 0.7)
    extras = EXTRAS.get(schedule, {})
    pruner = Pruner(
        model,
        pattern=pattern,
        sparsity=sparsity,
        schedule=schedule,
        steps=20,
        optimizer=steering,
        resume=resume,
        **extras,
    )
    return model, steering, pruner


@pytest.mark.parametrize(("schedule", "optimizer"), CASES)
def test_going_on_is_the_same_as_not_stopping(schedule, optimizer):
    parts = batches(20)
    straight = made(schedule, optimizer)
    train(*straight, parts)
    straight[2].finalize()
    stopped = made(schedule, optimizer)
    train(*stopped, parts[:10])
    file = io.BytesIO()
    torch.save([part.state_dict() for part in stopped], file)
    file.seek(0)
    resumed = made(schedule, optimizer, resume=True)
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(*resumed, parts[10:])
    resumed[2].finalize()
    for name, tensor in straight[0].state_dict().items():
        assert torch.equal(tensor, resumed[0].state_dict()[name]), name


def test_a_finished_state_stays_finished():
    model, optimizer, pruner = made("one-shot", "sgd")
    train(model, optimizer, pruner, batches(2))
    pruner.finalize()
    pruner.finalize()
    _, _, again = made("one-shot", "sgd", resume=True)
    again.load_state_dict(pruner.state_dict())
    assert again.sparsity == pytest.approx(pruner.sparsity)


def test_a_state_is_a_copy():
    model, optimizer, pruner = made("rigl", "sgd")
    state = pruner.state_dict()
    before = copy.deepcopy(state["masks"])
    train(model, optimizer, pruner, batches(10))
    assert all(torch.equal(before[name], mask) for name, mask in state["masks"].items())


@pytest.mark.parametrize("schedule", ["gradual", "sr-ste", "rigl"])
def test_mixed_precision_with_steps_left_out(schedule):
    """GradScaler skips a step whose gradients overflow; the weights stay as they were and masks hold."""
    model, optimizer, pruner = made(schedule, "sgd")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for index, (images, labels) in enumerate(batches(20)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        before = model[3].weight.detach().clone()
        if index in (4, 9):
            model[3].weight.grad[0, 0, 0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        if index in (4, 9):
            assert torch.equal(model[3].weight, before)
        pruner.step()
        for name, mask in pruner.masks.items():
            assert not model.get_submodule(name).weight[~mask].any()
    pruner.finalize()
    assert pruner.sparsity == pytest.approx(0.5 if schedule == "sr-ste" else 0.7, abs=0.03)


def test_sr_ste_decays_alike_under_a_scaled_loss():
    """The scale is out of the gradients before the optimizer sees them, and so is it out of the decay."""
    plain, scaled = made("sr-ste", "sgd"), made("sr-ste", "sgd")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    parts = batches(4)
    train(*plain, parts)
    for images, labels in parts:
        scaled[1].zero_grad()
        scaler.scale(cross_entropy(scaled[0](images), labels)).backward()
        scaler.step(scaled[1])
        scaler.update()
        scaled[2].step()
    torch.testing.assert_close(scaled[0][3].weight, plain[0][3].weight, rtol=1e-4, atol=1e-6)


def test_accelerate_saves_and_loads_the_pruner(tmp_path):
    parts = batches(20)
    straight = made("rigl", "sgd")
    train(*straight, parts)
    accelerator = Accelerator(cpu=True)
    model, optimizer, pruner = made("rigl", "sgd")
    prepared = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(pruner)
    train(*prepared, pruner, parts[:10])
    accelerator.save_state(str(tmp_path))
    again = made("rigl", "sgd", resume=True)
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare(*again[:2])
    accelerator.register_for_checkpointing(again[2])
    accelerator.load_state(str(tmp_path))
    train(*prepared, again[2], parts[10:])
    assert torch.equal(straight[0][3].weight, again[0][3].weight)


def test_rigl_waits_for_finite_gradients():
    model, optimizer, pruner = made("gradual", "sgd")
    pruner = Pruner(model, pattern="1x1", sparsity=0.5, schedule=RigL(every=1), steps=10, optimizer=optimizer)
    before = pruner.masks
    for layer in (model[3], model[6]):
        layer.weight.grad = torch.full_like(layer.weight, torch.inf)
    pruner.step()
    assert all(torch.equal(before[name], mask) for name, mask in pruner.masks.items())
