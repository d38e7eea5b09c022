"""Gradients of a model's log-likelihood, in its weights and at the outputs of its layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional

from edgeprune.data.samples import Samples
from edgeprune.ir.ports import input_specs
from edgeprune.ir.trainable import TrainableModel, to_torch
from edgeprune.ir.weights import WeightedLayer, arrange_weight, weighted_layers
from edgeprune.passes.output_loss import OutputKind, output_kind

Tensor = torch.Tensor

_SMALLEST = 1e-9
BATCH = 16
"""Rows that go through the model together."""


@dataclass(frozen=True)
class Likelihood:
    """How likely the model's outputs make what is so.

    Outputs that are classes are a distribution over them. Any other output is the mean of a normal distribution whose
    variance is the output's mean square over the rows, `scale`, so that what counts is relative.
    """

    kind: OutputKind
    scale: Mapping[str, float]

    def loss(self, found: Mapping[str, Tensor], labels: Tensor | None, generator: torch.Generator) -> Tensor:
        """Minus the log-likelihood, summed over rows, of `labels`, or where there are none of a draw from the model."""
        if self.kind.classes:
            return self._classified(found[self.kind.outputs[0]], labels, generator)
        terms = [self._measured(found[name], self.scale[name], generator) for name in self.kind.outputs]
        return torch.stack(terms).sum()

    def _classified(self, output: Tensor, labels: Tensor | None, generator: torch.Generator) -> Tensor:
        scores = output.clamp_min(_SMALLEST).log() if self.kind.probabilities else output
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
        self._drawn = drawn or not self._likelihood.kind.labelled
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
        """For every `size` rows the mean gradient over them, [groups, taps, in, out] by layer name."""
        layers, weights = self._trained()
        for loss, _, count in self.losses(size):
            found = torch.autograd.grad(loss / count, weights, allow_unused=True)
            yield _by_name(layers, found)

    def with_curvature(self, size: int = BATCH) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """As `by_weight`, with the product of the Hessian and the weights, both by layer name."""
        layers, weights = self._trained()
        for loss, _, count in self.losses(size):
            first = torch.autograd.grad(loss / count, weights, create_graph=True, allow_unused=True)
            along = [(g * w.detach()).sum() for g, w in zip(first, weights, strict=True) if g is not None]
            second = torch.autograd.grad(torch.stack(along).sum(), weights, allow_unused=True)
            yield _by_name(layers, first), _by_name(layers, second)

    def _trained(self) -> tuple[list[WeightedLayer], list[torch.nn.Parameter]]:
        """The layers whose weights are parameters of the module, and these."""
        named = self.module.weights
        layers = [layer for layer in self._layers if str(layer.weight.name) in named]
        return layers, [named[str(layer.weight.name)] for layer in layers]

    def output_squares(self, size: int = BATCH // 2) -> dict[str, np.ndarray]:
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
    kind = output_kind(model, samples)
    if kind.classes:
        return Likelihood(kind, {})
    inputs = {name: np.ascontiguousarray(array[: 4 * BATCH]) for name, array in samples.inputs.items()}
    with torch.no_grad():
        found = module({name: torch.from_numpy(array) for name, array in inputs.items()})
    return Likelihood(kind, {name: max(float(found[name].square().mean()), _SMALLEST) for name in kind.outputs})


def _by_name(layers: Sequence[WeightedLayer], tensors: Sequence[Tensor | None]) -> dict[str, np.ndarray]:
    """Tensors in the shapes of ONNX weights as arrays [groups, taps, in, out]; zeros where there is none."""
    found = {}
    for layer, tensor in zip(layers, tensors, strict=True):
        array = np.zeros(_shape(layer), np.float32) if tensor is None else tensor.detach().contiguous().numpy()
        found[layer.name] = arrange_weight(layer, array)
    return found


def _shape(layer: WeightedLayer) -> tuple[int, ...]:
    assert layer.weight.const_value is not None
    return tuple(int(size) for size in layer.weight.const_value.shape.numpy())


def _channel_means(layer: WeightedLayer, gradient: Tensor) -> np.ndarray:
    """The squares of gradients [rows, *output shape], mean over positions, summed over rows: [channels]."""
    axis = gradient.ndim - 1 if layer.kind == "linear" else gradient.ndim + 1 - len(_shape(layer))
    others = [index for index in range(1, gradient.ndim) if index != axis]
    squares = gradient.detach().double().square()
    means = squares.mean(dim=others) if others else squares
    return np.asarray(means.sum(dim=0).numpy())
