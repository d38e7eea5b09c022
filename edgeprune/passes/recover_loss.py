"""What recovery training minimises: the distance to the original outputs, and to labels where there are some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch.nn import functional

Tensor = torch.Tensor
Tensors = Mapping[str, Tensor]

_CLASSES = ("top1", "top5")
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Distillation:
    """Loss of a student's outputs under the original's, the teacher's.

    Where the metric ranks classes, the first output is compared by cross entropy at `temperature` (Hinton et al.,
    2015), and with labels by the share `label_share` of the loss. Other outputs are compared by squared difference,
    relative to the teacher's mean square.
    """

    first: str
    classes: bool
    probabilities: bool
    temperature: float = 4.0
    label_share: float = 0.3

    def __call__(self, outputs: Tensors, teacher: Tensors, labels: Tensor | None) -> Tensor:
        """The scalar loss; arrays are rows first."""
        terms = [
            self._ranked(outputs[name], teacher[name], labels)
            if name == self.first and self.classes
            else _squared(outputs[name], teacher[name])
            for name in outputs
            if outputs[name].is_floating_point()
        ]
        return torch.stack(terms).mean()

    def _ranked(self, outputs: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        scores, wanted = (self._logits(tensor).flatten(1) for tensor in (outputs, teacher))
        student = functional.log_softmax(scores / self.temperature, dim=1)
        target = functional.log_softmax(wanted / self.temperature, dim=1)
        distance = functional.kl_div(student, target, reduction="batchmean", log_target=True) * self.temperature**2
        if labels is None:
            return distance
        return (1 - self.label_share) * distance + self.label_share * functional.cross_entropy(scores, labels)

    def _logits(self, tensor: Tensor) -> Tensor:
        return tensor.clamp_min(_SMALLEST).log() if self.probabilities else tensor


def distillation_for(model: ir.Model, metric: str) -> Distillation:
    """The loss that suits the outputs of `model` under `metric`."""
    first = model.graph.outputs[0]
    producer = first.producer()
    ends_in_softmax = producer is not None and producer.op_type == "Softmax"
    return Distillation(str(first.name), metric in _CLASSES, ends_in_softmax)


def _squared(outputs: Tensor, teacher: Tensor) -> Tensor:
    return (outputs - teacher).square().mean() / teacher.square().mean().clamp_min(_SMALLEST)
