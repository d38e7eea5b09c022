"""How good a model in training is on the validate rows, and whether that is good enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.data import Samples
from edgeprune.ir.execute import Session
from edgeprune.ir.trainable import TrainableModel
from edgeprune.metric import better, evaluate, needs_labels
from edgeprune.passes.recover_processes import Processes

Tensor = torch.Tensor
Tensors = dict[str, Tensor]
Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Outputs by name, rows first, of the rows with these numbers."""

_SHARES = ("top1", "top5")
_PERFECT = {"mse": 0.0}


class Judge:
    """Scores models on `rows` by `metric`; by fidelity to `teacher` where the rows have no labels.

    What their outputs are worth is told by `score` instead where there is one.
    """

    def __init__(
        self,
        metric: str,
        rows: Samples,
        teacher: TrainableModel,
        batch: int,
        processes: Processes,
        score: Callable[[Mapping[str, np.ndarray]], float] | None = None,
    ) -> None:
        self.metric = metric if rows.labels is not None else "fidelity"
        self._rows, self._batch, self._processes, self._score = rows, batch, processes, score
        self._reference = None if needs_labels(self.metric) or score else self._outputs(self._batches(teacher, None))

    def value(self, module: TrainableModel, weights: Tensors | None = None) -> float:
        """The metric of `module`, with `weights` by name in place of its own."""
        return self._value(self._batches(module, weights))

    def value_of(self, model: ir.Model, threads: int) -> float:
        """The metric of `model` on ONNX Runtime, `threads` rows at a time."""
        session = Session(model)
        return self._value(lambda rows: session.run_rows(_part(self._rows, rows), threads))

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` is better `than` another."""
        return value < than if better(self.metric) == "lower" else value > than

    def as_good(self, value: float, as_much: float) -> bool:
        """Whether `value` is within half a standard error, of a share of rows, of what is `as_much`: chance alone."""
        if self.metric not in _SHARES:
            return False
        return as_much - value <= 0.5 * (as_much * (1.0 - as_much) / max(1, self._rows.count)) ** 0.5

    def suffices(self, value: float, wanted: float | None) -> bool:
        """Whether `value` is at least as good as `wanted`, or as good as can be."""
        reached = _PERFECT.get(self.metric, 1.0) if wanted is None else wanted
        return value == reached or self.is_better(value, reached)

    def _value(self, run: Run) -> float:
        outputs = self._outputs(run)
        if self._score is not None:
            return self._score(outputs)
        return evaluate(self.metric, outputs, self._rows.labels, self._reference).value

    def _batches(self, module: TrainableModel, weights: Tensors | None) -> Run:
        """How to run rows on `module`, a batch at a time."""

        @torch.no_grad()
        def run(places: np.ndarray) -> dict[str, np.ndarray]:
            batches = [places[start : start + self._batch] for start in range(0, len(places), self._batch)]
            parts = [module(batch_of(self._rows, rows, self._processes.device), weights) for rows in batches]
            return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}

        return run

    def _outputs(self, run: Run) -> dict[str, np.ndarray]:
        """Outputs by name, rows first; each process computes a part where there are rows enough."""
        every = np.arange(self._rows.count)
        several = len(every) >= self._processes.count
        outputs = run(self._processes.part(every) if several else every)
        return self._processes.joined(outputs) if several else outputs


def _part(samples: Samples, rows: np.ndarray) -> Samples:
    return replace(samples, inputs={name: array[rows] for name, array in samples.inputs.items()}, labels=None)


def batch_of(samples: Samples, rows: np.ndarray, device: torch.device) -> Tensors:
    """The inputs of `rows` by name, on `device`."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(array[rows])).to(device) for name, array in samples.inputs.items()
    }
