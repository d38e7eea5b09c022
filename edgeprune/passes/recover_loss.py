"""What recovery training minimises: the distance to the original outputs, and to labels where there are some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir
import torch
from torch.nn import functional

from edgeprune.ir.trainable_stored import with_masters
from edgeprune.ir.weights import weighted_layers

Tensor = torch.Tensor
Tensors = Mapping[str, Tensor]
Total = Callable[[Tensor], Tensor]
"""The sum of a tensor over all processes that work on one batch."""

_CLASSES = ("top1", "top5")
_SMALLEST = 1e-9
_LABELS_FOR_ERRORS = 3.0
"""The share of labels in the loss for each share of the training rows that the teacher has wrong."""


def _alone(tensor: Tensor) -> Tensor:
    return tensor


class _Distance(torch.autograd.Function):
    """The squared distance of two tensors times a factor, in few passes over memory."""

    @staticmethod
    def forward(context: Any, outputs: Tensor, teacher: Tensor, factor: Tensor) -> Tensor:
        difference = outputs - teacher
        context.save_for_backward(difference, factor)
        return torch.linalg.vector_norm(difference).square() * factor

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        difference, factor = context.saved_tensors
        return difference.mul_(2 * factor * gradients[0]), None, None


@dataclass(frozen=True)
class _Part:
    """What one process holds of a batch of `rows` rows."""

    rows: int
    total: Total

    def distance(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """This part of the squared distance, relative to the mean square of the whole batch at the teacher."""
        count = max(1, teacher.numel() // max(1, len(teacher)) * self.rows)
        square = self.total(torch.linalg.vector_norm(teacher).square()) / count
        distance: Tensor = _Distance.apply(outputs, teacher, 1 / (square.clamp_min(_SMALLEST) * count))
        return distance


@dataclass(frozen=True)
class Distillation:
    """Loss of a student's outputs under the original's, the teacher's.

    Outputs are compared by squared difference, relative to the teacher's mean square, `probabilities` by that of their
    logarithms, and so are the values named in `features`, inside the network (Romero et al., 2015), with
    `feature_weight`. With `classes`, probabilities are compared by cross entropy at `temperature` (Hinton et al.,
    2015), for the logarithms of small ones are mostly noise, and labels are the share `label_share` of the loss of the
    first output.
    """

    outputs: tuple[str, ...]
    features: tuple[str, ...]
    classes: bool
    probabilities: bool
    temperature: float = 4.0
    label_share: float = 0.3

    def __call__(
        self, found: Tensors, teacher: Tensors, labels: Tensor | None, rows: int | None = None, total: Total = _alone
    ) -> Tensor:
        """The scalar loss; both hold the outputs and the features, rows first.

        Where they are a part of a batch of `rows` rows, this is their part of the loss: the parts add up.
        """
        part = _Part(rows or len(next(iter(teacher.values()))), total)
        terms = [self._output(name, found, teacher, labels, part) for name in self.outputs]
        loss = torch.stack(terms).mean()
        if not self.features:
            return loss
        apart = torch.stack([part.distance(found[name], teacher[name]) for name in self.features]).mean()
        return loss + self.feature_weight * apart

    def apart(self, found: Tensors, teacher: Tensors) -> float:
        """The squared distance of the outputs, relative to the teacher's, in the mean over them."""
        part = _Part(len(next(iter(teacher.values()))), _alone)
        return float(torch.stack([part.distance(found[name], teacher[name]) for name in self.outputs]).mean())

    def trusting(self, errors: float) -> Distillation:
        """The loss under a teacher that has the share `errors` of the training rows wrong.

        Labels count the less the fewer it has: of rows that it knows by heart they say no more than it does, but draw
        the student away from how it tells other rows apart.
        """
        return replace(self, label_share=min(self.label_share, _LABELS_FOR_ERRORS * errors))

    @property
    def feature_weight(self) -> float:
        """What the features count beside the outputs; cross entropy is larger by the scores' square."""
        return 100.0 if self.classes and self.probabilities else 20.0

    def _output(self, name: str, found: Tensors, teacher: Tensors, labels: Tensor | None, part: _Part) -> Tensor:
        if self.classes and name == self.outputs[0]:
            return self._ranked(found[name], teacher[name], labels, part)
        if self.probabilities and name == self.outputs[0]:
            return part.distance(self._logits(found[name]), self._logits(teacher[name]))
        return part.distance(found[name], teacher[name])

    def _ranked(self, outputs: Tensor, teacher: Tensor, labels: Tensor | None, part: _Part) -> Tensor:
        scores, wanted = (self._logits(tensor).flatten(1) for tensor in (outputs, teacher))
        distance = self._divergence(scores, wanted) / part.rows if self.probabilities else part.distance(scores, wanted)
        if labels is None or not self.label_share:
            return distance
        right = functional.cross_entropy(scores, labels, reduction="sum") / part.rows
        return (1 - self.label_share) * distance + self.label_share * right

    def _divergence(self, scores: Tensor, wanted: Tensor) -> Tensor:
        """The sum over the rows."""
        student = functional.log_softmax(scores / self.temperature, dim=1)
        target = functional.log_softmax(wanted / self.temperature, dim=1)
        return functional.kl_div(student, target, reduction="sum", log_target=True) * self.temperature**2

    def _logits(self, tensor: Tensor) -> Tensor:
        return tensor.clamp_min(_SMALLEST).log() if self.probabilities else tensor


def distillation_for(
    model: ir.Model, metric: str, labelled: bool = True, student: ir.Model | None = None
) -> Distillation:
    """The loss that suits the outputs of `model` under `metric`.

    Only what the `student` has too, by name and shape, counts inside the network (None: it has all).
    """
    outputs = [value for value in model.graph.outputs if value.dtype is not None and value.dtype.is_floating_point()]
    producer = _before_quantization(model.graph.outputs[0]).producer()
    master = with_masters(model)
    features = _features(master)
    if student is not None:
        wanted, there = _shapes(master), _shapes(student)
        features = tuple(name for name in features if name in there and there[name] == wanted[name])
    return Distillation(
        outputs=tuple(str(value.name) for value in outputs),
        features=features,
        classes=labelled and metric in _CLASSES,
        probabilities=producer is not None and producer.op_type == "Softmax",
    )


def _shapes(model: ir.Model) -> dict[str, ir.Shape | None]:
    return {str(value.name): value.shape for node in model.graph for value in node.outputs}


class Watched:
    """What the loss compares of a `model`: its outputs, before the quantization that may be last of all, and features.

    A feature that is quantized counts as what its readers see. `names` are the values to watch.
    """

    def __init__(self, model: ir.Model, features: Iterable[str]) -> None:
        ends = {str(value.name): str(_before_quantization(value).name) for value in model.graph.outputs}
        values = {str(value.name): value for node in model.graph for value in node.outputs}
        inside = {name: str(_after_quantization(values[name]).name) for name in features}
        self.names = {*inside.values(), *(name for name in ends.values() if name in values)}
        self._seen = {name: seen for name, seen in (inside | ends).items() if seen != name}

    def __call__(self, found: Tensors) -> Tensors:
        """What was `found` by name, under the names of the outputs and of the features."""
        shapes = {name: found[name if name in found else seen].shape for name, seen in self._seen.items()}
        return {**found, **{name: found[seen].reshape(shapes[name]) for name, seen in self._seen.items()}}


def _before_quantization(value: ir.Value) -> ir.Value:
    """What a pair of QuantizeLinear and DequantizeLinear makes `value` from; `value` itself where there is none."""
    stored = _input_of(value, "DequantizeLinear")
    real = None if stored is None else _input_of(stored, "QuantizeLinear")
    return value if real is None or real.producer() is None else real


def _after_quantization(value: ir.Value) -> ir.Value:
    """What pairs of QuantizeLinear and DequantizeLinear make of `value`, where nothing else reads it."""
    stored = [reader.outputs[0] for reader in _readers(value, "QuantizeLinear")]
    ends = [end.outputs[0] for each in stored for end in _readers(each, "DequantizeLinear")]
    return ends[0] if ends else value


def _readers(value: ir.Value, op_type: str) -> list[ir.Node]:
    """The nodes that read `value`, where all are of `op_type` and it is no output."""
    nodes = [usage.node for usage in value.uses()]
    return nodes if not value.is_graph_output() and all(node.op_type == op_type for node in nodes) else []


def _input_of(value: ir.Value, op_type: str) -> ir.Value | None:
    node = value.producer()
    return node.inputs[0] if node is not None and node.op_type == op_type else None


def _features(model: ir.Model) -> tuple[str, ...]:
    """What weighted layers read and other nodes too, such as the results of residual blocks; else all they read."""
    read = dict.fromkeys(layer.node.inputs[0] for layer in weighted_layers(model))
    inside = [value for value in read if value is not None and value.producer() is not None]
    shared = [value for value in inside if len(value.uses()) > 1]
    return tuple(str(value.name) for value in shared or inside)
