from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from recovery_cases import balanced, levels, network, samples, value, weights

from edgeprune.data import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import weighted_layers
from edgeprune.mask import fits
from edgeprune.passes.prune import Prune
from edgeprune.passes.recover import Recover
from edgeprune.passes.recover_augment import Augment, augment_for
from edgeprune.passes.recover_loss import Distillation
from edgeprune.passes.recover_masks import Gradual, Tightening
from edgeprune.passes.recover_optimiser import RelativeAdam, learning_rate, rate_for
from edgeprune.passes.recover_student import Student
from edgeprune.pattern import Level, parse_pattern


@pytest.mark.parametrize("metric", ["top1", "fidelity"])
@pytest.mark.parametrize("gradual", [False, True])
def test_recovery_improves_and_holds_the_pattern(metric: str, gradual: bool) -> None:
    original = balanced()
    wanted = levels("1x16", 0.25)
    pruned = Prune(wanted)(original)
    train = samples(original, 256, 1, metric == "top1")
    validate = samples(original, 64, 2, metric == "top1")
    recover = Recover(4, metric, levels=wanted if gradual else None, largest_batch=16)
    recovered = recover(pruned, original, train, validate)
    judged = samples(original, 256, 3, metric == "top1")
    assert value(metric, recovered, judged, original) > value(metric, pruned, judged, original)
    for name, array in weights(recovered).items():
        if name in wanted:
            assert fits(array, wanted[name].pattern, slack=0.0)
            assert (array != 0).mean() == (weights(pruned)[name] != 0).mean()
            if not gradual:
                assert not array[weights(pruned)[name] == 0].any()


def test_balanced_pattern_is_reached_step_by_step() -> None:
    original = network()
    wanted = {"middle": Level(parse_pattern("2:4"), 0.5)}
    train = samples(original, 128, 1, False)
    recovered = Recover(3, levels=wanted, largest_batch=16)(Prune(wanted)(original), original, train, train)
    array = weights(recovered)["middle"]
    groups = (array != 0).reshape(1, 1, 4, 4, 16).sum(axis=3)
    assert (groups == 2).all()


def test_inputs_are_left_alone_and_the_seed_decides() -> None:
    original = network()
    pruned = Prune(levels("1x1", 0.3))(original)
    before = [weights(copy_model(model)) for model in (original, pruned)]
    train = samples(original, 64, 1, False)
    recover = Recover(1, seed=5)
    first, second = (weights(recover(pruned, original, train, train)) for _ in range(2))
    other = weights(dataclasses.replace(recover, seed=6)(pruned, original, train, train))
    for model, held in zip((original, pruned), before, strict=True):
        for name, array in weights(model).items():
            np.testing.assert_array_equal(array, held[name])
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    assert any((array != other[name]).any() for name, array in first.items())


def test_result_is_never_worse_on_validate() -> None:
    original = network()
    pruned = Prune(levels("1x1", 0.9))(original)
    train = samples(original, 64, 1, False)
    recovered = Recover(1, rate=3.0)(pruned, original, train, train)
    assert value("fidelity", recovered, train, original) >= value("fidelity", pruned, train, original) - 1e-6


def test_divergence_keeps_the_best_so_far_and_says_so() -> None:
    original = network()
    pruned = Prune(levels("1x1", 0.5))(original)
    train = samples(original, 64, 1, False)
    notes: list[str] = []
    recover = Recover(2, rate=1e30)
    result = recover(pruned, original, train, train, lambda _label, _done, _total, note: notes.append(note))
    assert result is pruned
    assert notes[-1].startswith("diverged, the best so far is kept: fidelity 0.")


def test_interrupt_passes_through() -> None:
    original = network()
    pruned = Prune(levels("1x1", 0.5))(original)
    train = samples(original, 64, 1, False)

    def interrupt(_label: str, done: int, _total: int, _note: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            Recover(2, threads=1)(pruned, original, train, train, interrupt)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_counts_to_the_end() -> None:
    original = network()
    train = samples(original, 64, 1, False)
    seen: list[tuple[int, int]] = []
    pruned = Prune(levels("1x1", 0.5))(original)
    Recover(2)(pruned, original, train, train, lambda _label, done, total, _note: seen.append((done, total)))
    done = [pair[0] for pair in seen]
    assert done == sorted(done) and seen[-1][0] == seen[-1][1]


def test_softmax_output_is_trained_with_labels() -> None:
    original = balanced(softmax=True)
    pruned = Prune(levels("1x16", 0.25))(original)
    train, judged = samples(original, 256, 1, True), samples(original, 256, 3, True)
    recovered = Recover(4, "top1", largest_batch=16)(pruned, original, train, judged)
    assert value("top1", recovered, judged, original) > value("top1", pruned, judged, original)


def test_softmax_output_is_trained_without_labels() -> None:
    original = balanced(softmax=True)
    pruned = Prune(levels("1x16", 0.25))(original)
    train, validate, judged = (samples(original, count, seed, False) for count, seed in ((256, 1), (64, 2), (256, 3)))
    recovered = Recover(4, largest_batch=16)(pruned, original, train, validate)
    assert value("fidelity", recovered, judged, original) > 0.85 > 0.5 > value("fidelity", pruned, judged, original)


@pytest.mark.parametrize(("labelled", "probabilities"), [(False, False), (True, False), (True, True)])
def test_parts_of_a_batch_add_up_to_the_loss(labelled: bool, probabilities: bool) -> None:
    loss = Distillation(("y",), ("inside",), classes=labelled, probabilities=probabilities)
    rng = np.random.default_rng(0)
    shapes = {"y": (12, 4), "inside": (12, 1, 3, 5, 5)}
    found, wanted = (
        {name: torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for name, shape in shapes.items()}
        for _ in range(2)
    )
    labels = torch.arange(12) % 4 if labelled else None
    values = []
    for part in (slice(0, 5), slice(5, 12)):
        halves = [{name: tensor[part] for name, tensor in each.items()} for each in (found, wanted)]
        own = {float(torch.linalg.vector_norm(wanted[name][part]).square()): name for name in shapes}

        def total(square: torch.Tensor, own: dict[float, str] = own) -> torch.Tensor:
            name = own[min(own, key=lambda known: abs(known - square.item()))]
            return wanted[name].square().sum()

        values.append(loss(*halves, None if labels is None else labels[part], 12, total).item())
    assert sum(values) == pytest.approx(loss(found, wanted, labels).item(), rel=1e-5)


def test_labels_count_as_much_as_the_teacher_errs() -> None:
    rng = np.random.default_rng(0)
    found, wanted = ({"y": torch.from_numpy(rng.standard_normal((6, 3)).astype(np.float32))} for _ in range(2))
    labels = torch.arange(6) % 3
    loss = Distillation(("y",), (), classes=True, probabilities=False)
    assert [round(loss.trusting(errors).label_share, 3) for errors in (0.0, 0.05, 0.5)] == [0.0, 0.15, 0.3]
    taught, told = (loss.trusting(0.0)(found, wanted, each).item() for each in (labels, None))
    assert taught == told != loss(found, wanted, labels).item()
    right = torch.nn.functional.cross_entropy(found["y"], labels).item()
    assert loss.trusting(0.05)(found, wanted, labels).item() == pytest.approx(0.85 * told + 0.15 * right, rel=1e-5)


def test_distance_has_the_gradient_of_its_formula() -> None:
    rng = np.random.default_rng(0)
    found, wanted = (torch.from_numpy(rng.standard_normal((6, 3)).astype(np.float32)) for _ in range(2))
    found.requires_grad_()
    loss = Distillation(("y",), (), classes=False, probabilities=False)({"y": found}, {"y": wanted}, None)
    plain = (found - wanted).square().mean() / wanted.square().mean()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    ours, theirs = (torch.autograd.grad(each, found)[0].numpy() for each in (loss, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_student_starts_as_the_model_and_folds_back_to_it() -> None:
    model = network()
    rows = samples(model, 48, 4, False)
    batch = {"x": torch.from_numpy(rows.inputs["x"])}
    student = Student(model, [batch])
    expected = Session(model).run_rows(rows)["y"]
    np.testing.assert_allclose(student(batch, {})["y"].detach().numpy(), expected, rtol=1e-3, atol=1e-3)
    folded = Session(student.write(student.plain_weights())).run_rows(rows)["y"]
    np.testing.assert_allclose(folded, expected, rtol=1e-3, atol=1e-3)


def test_convolution_of_one_channel_is_folded() -> None:
    values = {"w": np.ones((1, 3, 1, 1), np.float32), "b": np.ones(1, np.float32)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="only")
    ports = [helper.make_tensor_value_info(*port) for port in (("x", 1, [1, 3, 8, 8]), ("y", 1, [1, 1, 8, 8]))]
    held = [numpy_helper.from_array(array, name) for name, array in values.items()]
    graph = helper.make_graph([node], "one", ports[:1], ports[1:], held)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
    rows = Samples({"x": np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)}, specs=())
    student = Student(model, [{"x": torch.from_numpy(rows.inputs["x"])}])
    expected = Session(model).run_rows(rows)["y"]
    found = Session(student.write(student.plain_weights())).run_rows(rows)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_folded_weights_compute_what_training_computes() -> None:
    model = network()
    rows = samples(model, 48, 4, False)
    batch = {"x": torch.from_numpy(rows.inputs["x"])}
    student = Student(model, [batch])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in student.parameters.values():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)
    expected = student(batch, {})["y"].detach().numpy()
    found = Session(student.write(student.plain_weights())).run_rows(rows)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_tightening_goes_from_dense_to_the_level() -> None:
    model = network()
    wanted = {"middle": Level(parse_pattern("1x16"), 0.25), "first": Level(parse_pattern("2:4"), 0.5)}
    tightening = Tightening(model, wanted)
    held = {str(layer.weight.name): layer.weight.const_value.numpy() for layer in weighted_layers(model)}
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in held.items()}
    shares = [
        [mask.mean().item() for mask in tightening.masks(tensors, remaining).values()] for remaining in (1.0, 0.5, 0.0)
    ]
    assert shares[0] == [1.0, 1.0]
    assert shares[0] > shares[1] > shares[2]
    expected = weights(Prune(wanted)(model))
    for layer in weighted_layers(model):
        if layer.name in wanted:
            mask = tightening.masks(tensors, 0.0)[str(layer.weight.name)].numpy()
            kept = held[str(layer.weight.name)] * mask
            assert (kept != 0).sum() == (expected[layer.name] != 0).sum()


def test_gradual_ends_on_time() -> None:
    remaining = [Gradual(until=0.5).remaining(done) for done in (0.0, 0.25, 0.5, 0.9)]
    assert remaining == [1.0, 0.125, 0.0, 0.0]


def test_step_is_relative_to_the_size() -> None:
    parameters = {"large": torch.full((8,), 100.0), "small": torch.full((8,), 0.1)}
    RelativeAdam(parameters, {}).step({name: torch.ones(8) for name in parameters}, 0.01, {})
    np.testing.assert_allclose(parameters["large"].numpy(), 99.0, rtol=1e-5)
    np.testing.assert_allclose(parameters["small"].numpy(), 0.099, rtol=1e-5)


def test_few_steps_go_further() -> None:
    rates = [rate_for(steps) for steps in (1, 30, 100, 600, 10_000)]
    assert rates == sorted(rates, reverse=True) and rates[0] <= 0.01 and rates[-1] == rates[-2]


def test_what_starts_near_takes_shorter_steps_the_longer_it_trains() -> None:
    rates = [rate_for(steps, 0.5) for steps in (600, 1200, 2400, 10_000)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == rates[-2] == 0.25 * rate_for(600)
    assert all(gentle <= 0.5 * rate_for(steps) for gentle, steps in zip(rates, (600, 1200, 2400, 10_000), strict=True))


def test_learning_rate_rises_and_falls_to_zero() -> None:
    rates = [learning_rate(1.0, done) for done in (0.0, 0.05, 0.5, 1.0)]
    assert rates[0] == 0.0 and rates[1] == 1.0 and 0 < rates[2] < 1 and rates[3] == pytest.approx(0.0)


@pytest.mark.parametrize("shape", [(3, 20, 24), (20, 24, 3)])
def test_augmented_images_are_shifted_and_mirrored_originals(shape: tuple[int, ...]) -> None:
    augment = augment_for(shape)
    assert augment is not None and augment.mirror
    images = np.random.default_rng(0).standard_normal((32, *shape)).astype(np.float32)
    found = augment(torch.from_numpy(images), augment.draw(32, np.random.default_rng(1))).numpy()
    planes = images if augment.channels_last else images.transpose(0, 2, 3, 1)
    moved = found if augment.channels_last else found.transpose(0, 2, 3, 1)
    reach = augment.shift
    for image, result in zip(planes, moved, strict=True):
        possible = []
        for plane in (image, image[:, ::-1]):
            padded = np.pad(plane, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
            spots = [(y, x) for y in range(2 * reach + 1) for x in range(2 * reach + 1)]
            possible += [padded[y : y + image.shape[0], x : x + image.shape[1]] for y, x in spots]
        assert any(np.array_equal(result, candidate) for candidate in possible)


def test_what_is_no_image_is_not_augmented() -> None:
    assert augment_for((42,)) is None
    assert augment_for((1, 49, 10)) is None
    assert augment_for((64, 20, 20)) is None
    assert augment_for((1, 28, 28)) == Augment(shift=1, mirror=False, channels_last=False)
