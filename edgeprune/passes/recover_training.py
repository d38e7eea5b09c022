"""One run of recovery training: its state, its steps, its judgements and its checkpoints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.data import Samples
from edgeprune.ir.trainable import to_torch
from edgeprune.passes.recover_augment import augment_for
from edgeprune.passes.recover_checkpoint import (
    State,
    fingerprint_of,
    generator_text,
    read_state,
    restore_generator,
    write_state,
)
from edgeprune.passes.recover_checks import explain_first_loss, require_labels
from edgeprune.passes.recover_judge import Judge, batch_of
from edgeprune.passes.recover_loss import Watched, distillation_for
from edgeprune.passes.recover_masks import Tightening, with_weights_of, zeros_as_masks
from edgeprune.passes.recover_optimiser import RelativeAdam, gentler, learning_rate, rate_for
from edgeprune.passes.recover_processes import Processes
from edgeprune.passes.recover_schedule import schedule_for
from edgeprune.passes.recover_student import Student
from edgeprune.progress import Progress

if TYPE_CHECKING:
    from edgeprune.passes.recover import Recover

Tensor = torch.Tensor
Tensors = dict[str, Tensor]

_LABEL = "recovering"
_STATISTICS_ROWS = 1024
_REFRESHES = 80
"""How often masks are chosen anew in a whole training, while they tighten."""
_SMALLEST_BATCH, _FEWEST_STEPS = 4, 16
_BATCHES_BEFORE = 4
"""Batches by which it is judged how much a quantized model has to learn."""
_SECONDS_BETWEEN_CHECKPOINTS = 120.0


class Training:
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
        self.pruned, self.original, self.train, self.validate = pruned, original, train, validate
        self.began, self.saved = options.clock(), options.clock()
        self.batch = min(options.largest_batch, max(_SMALLEST_BATCH, train.count // _FEWEST_STEPS), train.count)
        self.generator = np.random.default_rng(options.seed)
        self.done, self.stale, self.spent, self.fingerprint = 0, 0, 0.0, ""
        self.order = np.zeros(0, np.int64)
        self.best: Tensors | None = None

    def prepare(self, processes: Processes) -> None:
        """Build the teacher and the student, judge the pruned model, and take up a checkpoint."""
        options, train = self.options, self.train
        self.processes = processes
        self.batch = min(train.count, max(self.batch, processes.count))
        self.teacher = to_torch(self.original).to(processes.device)
        self.augment = augment_for(next(iter(train.inputs.values())).shape[1:]) if len(train.inputs) == 1 else None
        seen = train.slice(0, _STATISTICS_ROWS)
        places = [np.arange(first, first + self.batch) for first in range(0, seen.count - self.batch + 1, self.batch)]
        start = self.pruned if options.levels is None else with_weights_of(self.teacher, self.original, self.pruned)
        batches = [batch_of(seen, rows, processes.device) for rows in places]
        self.loss = distillation_for(self.original, options.metric, train.labels is not None, self.pruned)
        if self.loss.classes:
            self.loss = self.loss.trusting(self._errors(batches))
        self.judge = Judge(options.metric, self.validate, self.teacher, self.batch, processes, options.value)
        before = options.clock()
        self.student = Student(start, batches, processes)
        self.taught, self.learnt = (Watched(each, self.loss.features) for each in (self.original, self.student.model))
        self.highest = self.best_value = self.value = self._judged(None)
        self.gentleness = gentler(self._apart(batches)) if self.student.quantized else 1.0
        total = train.count // self.batch * options.epochs
        self.schedule = schedule_for(total, options.minutes, options.clock() - before)
        self.tightening = None if options.levels is None else Tightening(self.student.model, options.levels)
        self.student.masks = self._placed(zeros_as_masks(self.pruned)) if self.tightening is None else {}
        self.settled = self.tightening is None
        self.optimiser = RelativeAdam(self.student.parameters, self.student.sizes)
        self._take_up()

    def run(self) -> ir.Model:
        """Train, judge after every epoch, and give the best."""
        total, metric = self.schedule.steps, self.judge.metric
        ending = "no time to train" if self.schedule.over(self.done, self._elapsed()) else self._ending()
        while ending is None:
            ending = self._advance()
        note = f"{ending}: {metric} {self.best_value:.4f}" if ending else f"{metric} {self.best_value:.4f}"
        self.progress(_LABEL, total, total, note)
        if self.options.checkpoint is not None and self.processes.first:
            self.options.checkpoint.unlink(missing_ok=True)
        return self.pruned if self.best is None else self._written(self.best)

    def _advance(self) -> str | None:
        """One step, and after an epoch a judgement; why the training ends, None where it goes on."""
        steps = self.train.count // self.batch
        if self.done % steps == 0:
            self.order = self.generator.permutation(self.train.count)
        first = self.done % steps * self.batch
        loss = self._step(self.order[first : first + self.batch])
        note = f"loss {loss:.3f}, {self.judge.metric} {self.value:.4f}"
        self.progress(_LABEL, self.done, self.schedule.steps, note)
        if not math.isfinite(loss):
            if self.done == 0:
                raise explain_first_loss(self.original, self.pruned)
            return "diverged, the best so far is kept"
        self.done += 1
        epoch_over = self.done % steps == 0
        over = self.schedule.over(self.done, self._elapsed())
        if over or epoch_over:
            self._judge()
            over = over or self.schedule.over(self.done, self._elapsed())
        ending = "" if over else self._ending()
        if ending is None and self._due(epoch_over):
            self._save()
        return ending

    def _judge(self) -> None:
        """Keep the model where it is the best so far, or as good as one before it, whose rate was higher."""
        weights = self.student.plain_weights()
        self.value = self._judged(weights)
        if not self.settled:
            return
        self.stale += 1
        if self.judge.is_better(self.value, self.highest):
            self.best, self.best_value, self.highest, self.stale = weights, self.value, self.value, 0
        elif self.best is not None and self.judge.as_good(self.value, self.highest):
            self.best, self.best_value = weights, self.value

    def _judged(self, weights: Tensors | None) -> float:
        """The metric of the student with `weights`, None for the pruned model; integers as they will be written."""
        if self.student.quantized:
            model = self.pruned if weights is None else self.student.write(weights)
            return self.judge.value_of(model, self.options.threads)
        module = to_torch(self.pruned).to(self.processes.device) if weights is None else self.student.module
        return self.judge.value(module, weights)

    def _ending(self) -> str | None:
        """Why no further step is needed; None where one is."""
        if self.judge.suffices(self.best_value, self.options.good_enough):
            return "good enough"
        if self.options.patience is not None and self.stale >= self.options.patience:
            return f"no better for {self.stale} epochs"
        return None

    def _step(self, rows: np.ndarray) -> float:
        elapsed = self._elapsed()
        share = self.schedule.share(self.done, elapsed)
        self._tighten(share)
        own = self.processes.part(np.arange(len(rows)))
        inputs = batch_of(self.train, rows[own], self.processes.device)
        if self.augment is not None:
            drawn = self.augment.draw(len(rows), self.generator)[own]
            inputs = {name: self.augment(images, drawn) for name, images in inputs.items()}
        loss, gradients = self._gradients(inputs, self._labels(rows[own]), len(rows))
        peak = self.options.rate
        if peak is None:
            peak = rate_for(self.schedule.expected(self.done, elapsed), self.gentleness)
        self.optimiser.step(gradients, learning_rate(peak, share), self.student.masks)
        return loss

    @torch.no_grad()
    def _errors(self, batches: list[Tensors]) -> float:
        """The share of rows whose class the teacher has wrong."""
        scores = torch.cat([self.teacher(batch)[self.loss.outputs[0]].flatten(1) for batch in batches]).cpu().numpy()
        require_labels(self.train, scores.shape[1])
        assert self.train.labels is not None
        return float(np.mean(scores.argmax(axis=1) != self.train.labels[: len(scores)].reshape(-1)))

    @torch.no_grad()
    def _apart(self, batches: list[Tensors]) -> float:
        """How far the outputs of the model that training starts from are from the teacher's."""
        distances = []
        for batch in batches[:_BATCHES_BEFORE]:
            wanted = self.taught(self.teacher(batch, also=self.taught.names))
            found = self.learnt(self.student.module(batch, also=self.learnt.names))
            distances.append(self.loss.apart(found, wanted))
        return float(np.mean(distances))

    def _gradients(self, inputs: Tensors, labels: Tensor | None, rows: int) -> tuple[float, Tensors]:
        """The loss of a batch of `rows` rows of which this process has `inputs`, and its gradient by name."""
        with torch.no_grad():
            wanted = self.taught(self.teacher(inputs, also=self.taught.names))
        masked = {name: tensor.detach().requires_grad_() for name, tensor in self.student.masked().items()}
        trained = {**self.student.parameters, **masked}
        found = self.learnt(self.student(inputs, masked, self.learnt.names))
        loss = self.loss(found, wanted, labels, rows, self.processes.total)
        slopes = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        gradients = {name: tensor for name, tensor in zip(trained, slopes, strict=True) if tensor is not None}
        gradients = self.processes.totals(gradients)
        if self.settled:
            gradients.update({name: gradients[name] * mask for name, mask in self.student.masks.items()})
        return self.processes.total(loss.detach()).item(), gradients

    def _tighten(self, share: float) -> None:
        if self.tightening is None or self.settled or self.done % max(1, self.schedule.steps // _REFRESHES):
            return
        remaining = self.options.gradual.remaining(share)
        self.student.masks = self.tightening.masks(self.student.module.weights, remaining)
        self.settled = remaining == 0

    def _labels(self, rows: np.ndarray) -> Tensor | None:
        labels = self.train.labels
        if labels is None or not self.loss.classes:
            return None
        return torch.from_numpy(labels[rows].astype(np.int64).reshape(-1)).to(self.processes.device)

    def _elapsed(self) -> float:
        """Seconds of training so far, those before a kill included; the same in all processes where it decides."""
        if self.options.minutes is None:
            return 0.0
        return self.processes.same(self.spent + self.options.clock() - self.began)

    def _written(self, weights: Tensors) -> ir.Model:
        for name, mask in self.student.masks.items():
            assert not weights[name][mask == 0].any(), f"{name}: a weight that was pruned came back"
        return self.student.write(weights)

    def _due(self, epoch_over: bool) -> bool:
        if self.options.checkpoint is None or not self.processes.first:
            return False
        return epoch_over or self.options.clock() - self.saved >= _SECONDS_BETWEEN_CHECKPOINTS

    def _save(self) -> None:
        assert self.options.checkpoint is not None
        write_state(self.options.checkpoint, self.fingerprint, self._state())
        self.saved = self.options.clock()

    def _state(self) -> State:
        return {
            "done": self.done,
            "stale": self.stale,
            "settled": self.settled,
            "spent": self.spent + self.options.clock() - self.began,
            "value": self.value,
            "best value": self.best_value,
            "highest": self.highest,
            "best": self.best,
            "order": torch.from_numpy(self.order),
            "generator": generator_text(self.generator),
            "trained": {name: tensor.detach() for name, tensor in self.student.parameters.items()},
            "masks": self.student.masks,
            "optimiser": self.optimiser.state(),
        }

    def _take_up(self) -> None:
        """Go on from the checkpoint where it is one of this very training; else write the first."""
        path = self.options.checkpoint
        if path is None:
            return
        inputs = (self.train, self.validate)
        self.fingerprint = fingerprint_of((self.pruned, self.original), inputs, f"{self.options} {self.batch}")
        there = self.processes.first and path.exists()
        state = self.processes.shared(read_state(path, self.fingerprint) if there else None)
        if state is not None:
            self._restore(state)
            self.progress(_LABEL, self.done, self.schedule.steps, f"goes on after step {self.done}")
            return
        if there:
            self.progress(_LABEL, 0, self.schedule.steps, f"{path} belongs to another training and is replaced")
        if self.processes.first:
            self._save()

    @torch.no_grad()
    def _restore(self, state: State) -> None:
        self.done, self.stale, self.settled = state["done"], state["stale"], state["settled"]
        self.spent, self.value = state["spent"], state["value"]
        self.best, self.best_value, self.highest = state["best"], state["best value"], state["highest"]
        if self.best is not None:
            self.best = self._placed(self.best)
        self.order = state["order"].numpy()
        restore_generator(self.generator, state["generator"])
        for name, tensor in self.student.parameters.items():
            tensor.copy_(state["trained"][name])
        self.student.masks = self._placed(state["masks"])
        self.optimiser.restore(state["optimiser"])

    def _placed(self, tensors: Tensors) -> Tensors:
        return {name: tensor.to(self.processes.device) for name, tensor in tensors.items()}
