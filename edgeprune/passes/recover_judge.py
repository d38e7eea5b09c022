"""How good a model in training is on the validate rows, and whether that is good enough."""

from __future__ import annotations

import numpy as np
import torch

from edgeprune.data import Samples
from edgeprune.ir.trainable import TrainableModel
from edgeprune.metric import better, evaluate, needs_labels
from edgeprune.passes.recover_processes import Processes

Tensor = torch.Tensor
Tensors = dict[str, Tensor]

_PERFECT = {"mse": 0.0}


class Judge:
    """Scores models on `rows` by `metric`; by fidelity to `teacher` where the rows have no labels."""

    def __init__(self, metric: str, rows: Samples, teacher: TrainableModel, batch: int, processes: Processes) -> None:
        self.metric = metric if rows.labels is not None else "fidelity"
        self._rows, self._batch, self._processes = rows, batch, processes
        self._reference = None if needs_labels(self.metric) else self._outputs(teacher, None)

    def value(self, module: TrainableModel, weights: Tensors | None = None) -> float:
        """The metric of `module`, with `weights` by name in place of its own."""
        return evaluate(self.metric, self._outputs(module, weights), self._rows.labels, self._reference).value

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` is better `than` another."""
        return value < than if better(self.metric) == "lower" else value > than

    def suffices(self, value: float, wanted: float | None) -> bool:
        """Whether `value` is at least as good as `wanted`, or as good as can be."""
        reached = _PERFECT.get(self.metric, 1.0) if wanted is None else wanted
        return value == reached or self.is_better(value, reached)

    @torch.no_grad()
    def _outputs(self, module: TrainableModel, weights: Tensors | None) -> dict[str, np.ndarray]:
        """Outputs by name, rows first; each process computes a part where there are rows enough."""
        every = np.arange(self._rows.count)
        several = len(every) >= self._processes.count
        places = self._processes.part(every) if several else every
        batches = [places[start : start + self._batch] for start in range(0, len(places), self._batch)]
        parts = [module(batch_of(self._rows, rows, self._processes.device), weights) for rows in batches]
        outputs = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        return self._processes.joined(outputs) if several else outputs


def batch_of(samples: Samples, rows: np.ndarray, device: torch.device) -> Tensors:
    """The inputs of `rows` by name, on `device`."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(array[rows])).to(device) for name, array in samples.inputs.items()
    }
