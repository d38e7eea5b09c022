"""Recovery training: a pruned model learns from the original, and from labels where there are some."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.data import Samples
from edgeprune.ir.trainable import TrainableModel, to_torch, write_back
from edgeprune.ir.weights import weighted_layers
from edgeprune.metric import better, evaluate, needs_labels
from edgeprune.passes.recover_augment import augment_for
from edgeprune.passes.recover_loss import distillation_for
from edgeprune.passes.recover_masks import Gradual, Tightening, zeros_as_masks
from edgeprune.passes.recover_optimiser import RelativeAdam, learning_rate, rate_for
from edgeprune.passes.recover_student import Student
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent

Tensor = torch.Tensor
Tensors = dict[str, Tensor]

_LABEL = "recovering"
_STATISTICS_ROWS = 1024
_REFRESHES = 80
"""How often masks are chosen anew in a whole training, while they tighten."""
_SMALLEST_BATCH, _FEWEST_STEPS = 4, 16


@dataclass(frozen=True)
class Recover:
    """Train for `epochs` over the training rows; the model that is best on the validate rows is the result.

    Without `levels` the zeros of the pruned model are held. With `levels` (by node name) training starts from the
    original's weights and prunes to them step by step, as `gradual` says, then trains what is kept: weights that are
    masked go on learning until then, so that they can return (Lin et al., 2020). `rate` is the highest share of its
    size that a weight changes by in one step; where it is None the number of steps decides. The same seed and threads
    give the same weights.
    """

    epochs: int
    metric: str = "fidelity"
    levels: Mapping[str, Level] | None = None
    gradual: Gradual = field(default_factory=Gradual)
    seed: int = 0
    threads: int = 1
    largest_batch: int = 64
    rate: float | None = None

    def __call__(
        self, pruned: ir.Model, original: ir.Model, train: Samples, validate: Samples, progress: Progress = silent
    ) -> ir.Model:
        """A recovered copy of `pruned`; `pruned` itself where nothing that was trained is better on `validate`.

        Labels count where the metric ranks classes. Raises EdgepruneError (op-untrainable).
        """
        if self.epochs < 1 or train.count < 1:
            return pruned
        with _threads(self.threads):
            return _Training(self, pruned, original, train, validate, progress).run()


class _Training:
    """One run of `Recover`."""

    def __init__(
        self,
        options: Recover,
        pruned: ir.Model,
        original: ir.Model,
        train: Samples,
        validate: Samples,
        progress: Progress,
    ) -> None:
        self.options, self.progress = options, progress
        self.pruned, self.train, self.validate = pruned, train, validate
        self.batch = min(options.largest_batch, max(_SMALLEST_BATCH, train.count // _FEWEST_STEPS), train.count)
        self.generator = np.random.default_rng(options.seed)
        self.teacher = to_torch(original)
        self.metric = options.metric if validate.labels is not None else "fidelity"
        self.reference = None if needs_labels(self.metric) else _outputs(self.teacher, validate, self.batch)
        self.loss = distillation_for(original, options.metric)
        self.augment = augment_for(next(iter(train.inputs.values())).shape[1:]) if len(train.inputs) == 1 else None
        seen = train.slice(0, _STATISTICS_ROWS)
        places = [np.arange(first, first + self.batch) for first in range(0, seen.count - self.batch + 1, self.batch)]
        start = pruned if options.levels is None else _with_weights_of(self.teacher, pruned)
        self.student = Student(start, [_batch(seen, rows) for rows in places])
        self.tightening = None if options.levels is None else Tightening(self.student.model, options.levels)
        self.student.masks = zeros_as_masks(pruned) if self.tightening is None else {}
        self.settled = self.tightening is None

    def run(self) -> ir.Model:
        """Train, judge after every epoch, and give the best."""
        steps = self.train.count // self.batch
        total = steps * self.options.epochs
        best, best_value = self.pruned, self._value(to_torch(self.pruned), None)
        note = f"{self.metric} {best_value:.4f}"
        optimiser = RelativeAdam(self.student.parameters, self.student.sizes)
        for done in range(total):
            if done % steps == 0:
                order = self.generator.permutation(self.train.count)
            first = done % steps * self.batch
            loss = self._step(order[first : first + self.batch], optimiser, done, total)
            self.progress(_LABEL, done, total, f"loss {loss:.3f}, {note}")
            if not math.isfinite(loss):
                self.progress(
                    _LABEL, total, total, f"diverged, the best so far is kept: {self.metric} {best_value:.4f}"
                )
                return best
            if (done + 1) % steps == 0:
                weights = self.student.plain_weights()
                value = self._value(self.student.module, weights)
                note = f"{self.metric} {value:.4f}"
                if self.settled and self._is_better(value, best_value):
                    best, best_value = self._written(weights), value
        self.progress(_LABEL, total, total, f"{self.metric} {best_value:.4f}")
        return best

    def _step(self, rows: np.ndarray, optimiser: RelativeAdam, done: int, total: int) -> float:
        self._tighten(done, total)
        inputs = _batch(self.train, rows)
        if self.augment is not None:
            inputs = {name: self.augment(images, self.generator) for name, images in inputs.items()}
        with torch.no_grad():
            wanted = self.teacher(inputs, also=self.loss.features)
        masked = {name: tensor.detach().requires_grad_() for name, tensor in self.student.masked().items()}
        trained = {**self.student.parameters, **masked}
        loss = self.loss(self.student(inputs, masked, self.loss.features), wanted, self._labels(rows))
        found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        gradients = {name: tensor for name, tensor in zip(trained, found, strict=True) if tensor is not None}
        if self.settled:
            gradients.update({name: gradients[name] * mask for name, mask in self.student.masks.items()})
        peak = rate_for(total) if self.options.rate is None else self.options.rate
        optimiser.step(gradients, learning_rate(peak, done / total), self.student.masks)
        return loss.item()

    def _tighten(self, done: int, total: int) -> None:
        if self.tightening is None or self.settled or done % max(1, total // _REFRESHES):
            return
        remaining = self.options.gradual.remaining(done / total)
        self.student.masks = self.tightening.masks(self.student.module.weights, remaining)
        self.settled = remaining == 0

    def _labels(self, rows: np.ndarray) -> Tensor | None:
        labels = self.train.labels
        if labels is None or not self.loss.classes:
            return None
        return torch.from_numpy(labels[rows].astype(np.int64).reshape(-1))

    def _value(self, module: TrainableModel, weights: Tensors | None) -> float:
        outputs = _outputs(module, self.validate, self.batch, weights)
        return evaluate(self.metric, outputs, self.validate.labels, self.reference).value

    def _is_better(self, value: float, than: float) -> bool:
        return value < than if better(self.metric) == "lower" else value > than

    def _written(self, weights: Tensors) -> ir.Model:
        for name, mask in self.student.masks.items():
            assert not weights[name][mask == 0].any(), f"{name}: a weight that was pruned came back"
        return self.student.write(weights)


def _batch(samples: Samples, rows: np.ndarray) -> Tensors:
    return {name: torch.from_numpy(np.ascontiguousarray(array[rows])) for name, array in samples.inputs.items()}


@torch.no_grad()
def _outputs(
    module: TrainableModel, samples: Samples, batch: int, weights: Tensors | None = None
) -> dict[str, np.ndarray]:
    """Outputs by name, rows first, of the module without batch norm."""
    parts = [
        module(_batch(samples, np.arange(start, min(start + batch, samples.count))), weights)
        for start in range(0, samples.count, batch)
    ]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _with_weights_of(teacher: TrainableModel, model: ir.Model) -> ir.Model:
    """A copy of `model` with every weight of its layers as the teacher has it."""
    names = {str(value.name) for layer in weighted_layers(model) for value in (layer.weight, layer.bias) if value}
    return write_back(teacher, model, {name: teacher.weights[name] for name in names & set(teacher.weights)})


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
