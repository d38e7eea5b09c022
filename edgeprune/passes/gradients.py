"""Gradients of a model's log-likelihood, in its weights and at the outputs of its layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional

from edgeprune.data.samples import Samples
from edgeprune.ir.ports import input_specs
from edgeprune.ir.trainable import TrainableModel, to_torch
from edgeprune.ir.weights import WeightedLayer, arrange_weight, weighted_layers

Tensor = torch.Tensor

_SMALLEST = 1e-9
BATCH = 16
"""Rows that go through the model together."""


@dataclass(frozen=True)
class Likelihood:
    """How likely the model's outputs make what is so.

    A classifier is one whose first output ends in a Softmax, or for which there is a class number for every row: its
    outputs are a distribution over classes. Any other output is the mean of a normal distribution whose variance is
    the output's mean square over the rows, so that what counts is relative.
    """

    outputs: tuple[str, ...]
    classes: bool
    probabilities: bool
    labelled: bool
    scale: Mapping[str, float]

    def loss(self, found: Mapping[str, Tensor], labels: Tensor | None, generator: torch.Generator) -> Tensor:
        """Minus the log-likelihood, summed over rows, of `labels`, or where there are none of a draw from the model."""
        if self.classes:
            return self._classified(found[self.outputs[0]], labels, generator)
        terms = [self._measured(found[name], self.scale[name], generator) for name in self.outputs]
        return torch.stack(terms).sum()

    def _classified(self, output: Tensor, labels: Tensor | None, generator: torch.Generator) -> Tensor:
        scores = output.clamp_min(_SMALLEST).log() if self.probabilities else output
        logits = functional.log_softmax(scores.flatten(0, -2), dim=1)
        if labels is None:
            labels = torch.multinomial(logits.detach().exp(), 1, generator=generator)[:, 0]
        return functional.nll_loss(logits, labels, reduction="sum")

    def _measured(self, output: Tensor, scale: float, generator: torch.Generator) -> Tensor:
        mean = output.detach()
        drawn = mean + scale**0.5 * torch.randn(mean.shape, generator=generator)
        return (output - drawn).square().sum() / (2 * scale)


class LossGradients:
    """The gradients of `model`'s log-likelihood on the rows of `samples`.

    With `drawn` labels, labels are drawn from the model's own outputs although there are given ones: the squares of
    their gradients are the Fisher information.
    """

    def __init__(self, model: ir.Model, samples: Samples, *, rows: int, drawn: bool, seed: int) -> None:
        self.module = to_torch(model)
        self._samples = samples.slice(0, min(rows, samples.count))
        self._layers = weighted_layers(model)
        self._generator = torch.Generator().manual_seed(seed)
        self._likelihood = likelihood_of(model, self._samples, self.module)
        self._drawn = drawn or not self._likelihood.labelled
        self._dtypes = {spec.name: spec.dtype for spec in input_specs(model)}

    @property
    def count(self) -> int:
        """The number of rows."""
        return self._samples.count

    def losses(
        self, size: int = BATCH, also: Collection[str] = (), weights: Mapping[str, Tensor] | None = None
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], int]]:
        """For every `size` rows the loss summed over them, the values named in `also`, and how many rows there were."""
        for begin in range(0, self.count, size):
            part = self._samples.slice(begin, begin + size)
            inputs = {name: torch.from_numpy(np.ascontiguousarray(part.inputs[name])) for name in self._dtypes}
            found = self.module(inputs, weights, also=also)
            labels = None if self._drawn or part.labels is None else torch.from_numpy(part.labels.astype(np.int64))
            yield self._likelihood.loss(found, labels, self._generator), found, part.count

    def by_weight(self, size: int = BATCH) -> Iterator[dict[str, np.ndarray]]:
        """For every `size` rows the gradient summed over them, [groups, taps, in, out] by layer name."""
        named = self.module.weights
        read = [layer for layer in self._layers if str(layer.weight.name) in named]
        parameters = [named[str(layer.weight.name)] for layer in read]
        for loss, _, _ in self.losses(size):
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            yield {layer.name: arranged(layer, tensor) for layer, tensor in zip(read, found, strict=True)}

    def output_squares(self, size: int = BATCH) -> dict[str, np.ndarray]:
        """The mean squared gradient at every output channel of a layer, over rows and positions: [channels] by name."""
        names = {layer.name: str(layer.node.outputs[0].name) for layer in self._layers}
        sums: dict[str, np.ndarray] = {}
        for loss, values, _ in self.losses(size, also=set(names.values())):
            found = torch.autograd.grad(loss, [values[name] for name in names.values()], allow_unused=True)
            for layer, tensor in zip(self._layers, found, strict=True):
                if tensor is not None:
                    sums[layer.name] = sums.get(layer.name, 0.0) + _channel_means(layer, tensor)
        return {name: total / self.count for name, total in sums.items()}


def likelihood_of(model: ir.Model, samples: Samples, module: TrainableModel) -> Likelihood:
    """What the outputs of `model` are, told by how it ends and by the labels of `samples`."""
    values = [value for value in model.graph.outputs if value.dtype is not None and value.dtype.is_floating_point()]
    producer = values[0].producer()
    probabilities = producer is not None and producer.op_type == "Softmax"
    names = tuple(str(value.name) for value in values)
    part = samples.slice(0, 64)
    with torch.no_grad():
        found = module({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in part.inputs.items()})
    labelled = _labelled(samples.labels, found[names[0]])
    scale = {name: max(float(found[name].square().mean()), _SMALLEST) for name in names}
    return Likelihood(names, probabilities or labelled, probabilities, labelled, scale)


def _labelled(labels: np.ndarray | None, output: Tensor) -> bool:
    """Whether `labels` hold one class number of `output` [rows, ..., classes] for every row."""
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu" or output.flatten(1).ndim != 2:
        return False
    return output.flatten(1).shape[1] == output.shape[-1] > int(labels.max(initial=0)) and int(labels.min()) >= 0


def arranged(layer: WeightedLayer, gradient: Tensor | None) -> np.ndarray:
    """A gradient in the shape of the ONNX weight as [groups, taps, in, out]; zeros where there is none."""
    assert layer.weight.const_value is not None
    shape = tuple(layer.weight.const_value.shape.numpy())
    array = np.zeros(shape, np.float32) if gradient is None else gradient.detach().contiguous().numpy()
    return arrange_weight(layer, array)


def _channel_means(layer: WeightedLayer, gradient: Tensor) -> np.ndarray:
    """The squares of gradients [rows, *output shape], mean over positions, summed over rows: [channels]."""
    axis = gradient.ndim - 1 if layer.kind == "linear" else 2
    others = [index for index in range(1, gradient.ndim) if index != axis]
    squares = gradient.detach().double().square()
    means = squares.mean(dim=others) if others else squares
    return np.asarray(means.sum(dim=0).numpy())
