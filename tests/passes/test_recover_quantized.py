from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from recovery_cases import balanced, levels, samples, value, weights

from edgeprune.data import Samples, load_card
from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.trainable import to_torch
from edgeprune.ir.trainable_stored import dequantizers, with_masters
from edgeprune.passes.correct_statistics import CorrectStatistics
from edgeprune.passes.prune import Prune
from edgeprune.passes.recover import Recover
from edgeprune.passes.recover_folds import folds_of, with_biases
from edgeprune.passes.recover_loss import Watched, distillation_for
from edgeprune.passes.recover_masks import zeros_as_masks
from edgeprune.passes.recover_optimiser import gentler
from edgeprune.passes.recover_student import Student


class Reader(CalibrationDataReader):
    def __init__(self, rows: Samples) -> None:
        self._rows = iter([rows.row(index) for index in range(rows.count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


def quantized(
    model: ir.Model, rows: Samples, folder: Path, *, channels: bool = True, activations: QuantType = QuantType.QUInt8
) -> ir.Model:
    """`model` as ONNX Runtime's own quantizer writes it."""
    before, after = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(ir.to_proto(model), before)
    quantize_static(
        before,
        after,
        Reader(rows),
        quant_format=QuantFormat.QDQ,
        per_channel=channels,
        activation_type=activations,
        weight_type=QuantType.QInt8,
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(after)))


def stored(model: ir.Model) -> dict[str, np.ndarray]:
    """The integers behind each weight, by layer."""
    return {name: node.inputs[0].const_value.numpy() for name, node in dequantizers(model).items()}  # type: ignore[union-attr]


def error(model: ir.Model, reference: ir.Model, rows: Samples) -> float:
    """The squared distance of the outputs, relative to the reference's."""
    found, wanted = (Session(each).run_rows(rows)["y"] for each in (model, reference))
    return float(np.square(found - wanted).sum() / np.square(wanted).sum())


@pytest.mark.parametrize("metric", ["top1", "fidelity"])
@pytest.mark.parametrize("channels", [True, False])
def test_recovery_improves_and_keeps_every_zero(metric: str, channels: bool, tmp_path: Path) -> None:
    original = balanced()
    wanted = levels("1x16", 0.25)
    train, validate, judged = (
        samples(original, count, seed, metric == "top1") for count, seed in ((256, 1), (64, 2), (256, 3))
    )
    start = quantized(Prune(wanted)(original), train.slice(0, 32), tmp_path, channels=channels)
    recovered = Recover(4, metric, largest_batch=16)(start, original, train, validate)
    assert value(metric, recovered, judged, original) > value(metric, start, judged, original)
    before, after = stored(start), stored(recovered)
    assert {name for name, node in dequantizers(start).items() if node.outputs[0].name} <= set(after)
    for name, whole in before.items():
        assert after[name].dtype == whole.dtype
        if whole.dtype == np.int8:
            assert not after[name][whole == 0].any()
    assert any((after[name] != whole).any() for name, whole in before.items())
    kept = weights(Prune(wanted)(original))
    for name, array in weights(with_masters(recovered)).items():
        assert not array[kept[name] == 0].any() and array.any()


def test_steps_are_not_shared_by_what_was_shared(tmp_path: Path) -> None:
    original = balanced()
    train = samples(original, 128, 1, True)
    start = quantized(original, train.slice(0, 32), tmp_path)
    student = Student(start, [{"x": torch.from_numpy(train.inputs["x"][:32])}])
    scales = [str(node.inputs[1].name) for node in dequantizers(student.model).values()]  # type: ignore[union-attr]
    assert len(set(scales)) == len(scales) and student.quantized


def test_folding_changes_scales_and_no_weight(tmp_path: Path) -> None:
    original = balanced()
    train = samples(original, 64, 1, False)
    start = quantized(original, train.slice(0, 32), tmp_path)
    student = Student(start, [{"x": torch.from_numpy(train.inputs["x"])}])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in student.parameters.items():
            if name.endswith(":scale"):
                tensor.mul_(1 + 0.3 * torch.rand(tensor.shape, generator=generator))
    written = student.write(student.plain_weights())
    folds = folds_of(with_biases(start))
    assert set(folds) == {"r1", "r2", "c3"}
    before, after = stored(with_biases(start)), stored(written)
    for fold in folds.values():
        np.testing.assert_array_equal(after[fold.weight], before[fold.weight])
        weight, bias = (dequantizers(written)[name] for name in (fold.weight, fold.bias))
        steps = weight.inputs[1].const_value.numpy()  # type: ignore[union-attr]
        assert (steps != dequantizers(start)[fold.weight].inputs[1].const_value.numpy()).all()  # type: ignore[union-attr]
        assert fold.input_scale is not None
        np.testing.assert_array_equal(bias.inputs[1].const_value.numpy(), steps * fold.input_scale.numpy())  # type: ignore[union-attr]


def test_what_is_written_computes_what_was_trained(tmp_path: Path) -> None:
    original = balanced()
    rows = samples(original, 64, 1, False)
    start = quantized(original, rows.slice(0, 32), tmp_path)
    batch = {"x": torch.from_numpy(rows.inputs["x"])}
    student = Student(start, [batch])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in student.parameters.values():
            tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator))
        expected = student(batch, {})["y"].numpy()
    found = Session(student.write(student.plain_weights())).run_rows(rows)["y"]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_gradual_pruning_starts_from_the_weights_of_the_original(tmp_path: Path) -> None:
    original = balanced()
    wanted = levels("1x16", 0.25)
    train = samples(original, 128, 1, True)
    start = quantized(Prune(wanted)(original), train.slice(0, 32), tmp_path)
    recovered = Recover(3, "top1", levels=wanted, largest_batch=16)(start, original, train, train)
    assert recovered is not start
    for name, array in weights(with_masters(recovered)).items():
        if name in wanted:
            assert 0.2 < (array != 0).any(axis=3).mean() < 0.27


def test_the_seed_decides_and_a_checkpoint_takes_it_up(tmp_path: Path) -> None:
    original = balanced()
    train = samples(original, 64, 1, True)
    start = quantized(Prune(levels("1x1", 0.5))(original), train.slice(0, 32), tmp_path)
    whole = Recover(2, "top1")(start, original, train, train)

    def stop(_label: str, done: int, _total: int, _note: str) -> None:
        if done == 17:
            raise KeyboardInterrupt

    recover = Recover(2, "top1", checkpoint=tmp_path / "state")
    with pytest.raises(KeyboardInterrupt):
        recover(start, original, train, train, stop)
    again = recover(start, original, train, train)
    for name, integers in stored(whole).items():
        np.testing.assert_array_equal(stored(again)[name], integers)


def test_an_integer_model_teaches_itself(tmp_path: Path) -> None:
    """What arrived int8 is the teacher: the outputs before their last quantization are compared."""
    original = balanced(softmax=True)
    train = samples(original, 128, 1, True)
    teacher = quantized(original, train.slice(0, 32), tmp_path, activations=QuantType.QInt8)
    loss = distillation_for(teacher, "top1", student=teacher)
    assert loss.probabilities and loss.classes and loss.features
    watched = Watched(teacher, loss.features)
    found = to_torch(teacher)({"x": torch.from_numpy(train.inputs["x"][:8])}, also=watched.names)
    raw = watched(found)["y"]
    assert raw.shape == found["y"].shape and (raw != found["y"]).any()
    np.testing.assert_allclose(raw.sum(dim=1).detach().numpy(), 1, rtol=1e-5)
    masks = zeros_as_masks(teacher)
    student = Student(teacher, [{"x": torch.from_numpy(train.inputs["x"][:32])}])
    assert set(masks) <= set(student.module.weights)


def test_the_less_was_lost_the_lower_the_rate(tmp_path: Path) -> None:
    rates = [gentler(distance) for distance in (0.0, 1e-5, 2e-3, 0.02, 0.2, 3.0)]
    assert rates == sorted(rates) and rates[0] == 0.1 and rates[-2:] == [1.0, 1.0]
    original = balanced()
    rows = samples(original, 64, 1, False)
    batch = {"x": torch.from_numpy(rows.inputs["x"])}
    loss, teacher = distillation_for(original, "mse"), to_torch(original)
    dense, pruned = (
        quantized(model, rows.slice(0, 32), tmp_path) for model in (original, Prune(levels("1x16", 0.25))(original))
    )
    with torch.no_grad():
        near, far = (loss.apart(to_torch(model)(batch), teacher(batch)) for model in (dense, pruned))
    assert near == pytest.approx(error(dense, original, rows), rel=0.05)
    assert gentler(near) < 0.6 < gentler(far)


def test_a_little_that_was_lost_is_not_made_more(tmp_path: Path) -> None:
    """Dense and merely quantized: what training gives on rows that it does not see is no worse than before."""
    original = balanced()
    train, judged = samples(original, 256, 1, False), samples(original, 128, 3, False)
    start = quantized(original, train.slice(0, 32), tmp_path)
    recovered = Recover(2, largest_batch=16)(start, original, train, samples(original, 64, 2, False))
    assert error(recovered, original, judged) <= 1.05 * error(start, original, judged)


def test_statistics_leave_a_quantized_model_as_it_is(tmp_path: Path) -> None:
    original = balanced()
    train = samples(original, 64, 1, False)
    start = quantized(Prune(levels("1x1", 0.5))(original), train.slice(0, 32), tmp_path)
    corrected = CorrectStatistics(train)(start, original)
    expected, found = Session(start).run_rows(train)["y"], Session(corrected).run_rows(train)["y"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("file", "card"),
    [("ic_resnet8_int8", "cifar10_raw"), ("kws_dscnn_int8", "kws"), ("vww_mbv1_025_int8", "vww")],
)
def test_imported_integer_models_are_recovered(data_dir: Path, file: str, card: str) -> None:
    model = load(data_dir / "models" / "mlperf_tiny" / f"{file}.tflite")
    rows = load_card(data_dir / "cards" / f"{card}.toml").load("test", input_specs(model), 40)
    pruned = ir.from_proto(ir.to_proto(model))
    held = dequantizers(pruned)
    name = next(name for name, node in held.items() if node.inputs[0].const_value.size > 3000)  # type: ignore[union-attr]
    integers = held[name].inputs[0].const_value.numpy().copy()  # type: ignore[union-attr]
    integers.reshape(-1)[::2] = 0
    held[name].inputs[0].const_value = ir.tensor(integers, name=name)  # type: ignore[union-attr]
    lines: list[str] = []
    unlabelled = dataclasses.replace(rows, labels=None)
    recovered = Recover(1, largest_batch=8)(
        pruned, model, unlabelled, unlabelled.slice(0, 8), lambda *line: lines.append(line[3])
    )
    assert lines and Session(recovered).run_rows(rows.slice(0, 1))
    assert not stored(recovered)[name].reshape(-1)[::2].any()
