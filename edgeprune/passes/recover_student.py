"""The model in training: masked weights, and batch norm put back around the convolutions it was folded into."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir
import torch
from torch.nn import functional

from edgeprune.ir.quantization import is_quantized
from edgeprune.ir.trainable import to_torch, write_back
from edgeprune.passes.recover_folds import folds_of, with_biases
from edgeprune.passes.recover_processes import Processes

Tensor = torch.Tensor
Tensors = dict[str, Tensor]

_EPSILON = 1e-5
_FEWEST_ROWS = 16
"""Rows in a batch from which on its statistics speak for all rows."""
_FEWEST_VALUES = 64
"""Values a channel needs in one batch for its mean and variance to say something."""


class Student:
    """A trainable copy of `model` that computes exactly what `model` does before its first step.

    Front ends fold batch norm into the weights. Pruned networks train far better with it, so in batches that are
    large enough each convolution gets one back, its scale and shift set to undo what it does; `plain_weights` folds
    them in again: of a weight that is stored as integers only the scale changes then. `masks` (by initializer name)
    multiply the weights. Where several `processes` hold parts of one
    batch, batch norm takes its statistics from all of them.
    """

    def __init__(self, model: ir.Model, batches: list[Tensors], processes: Processes | None = None) -> None:
        self.model = with_biases(model)
        self._processes = Processes() if processes is None else processes
        self.quantized = is_quantized(self.model)
        self.module = to_torch(self.model).to(self._processes.device)
        self.masks: Tensors = {}
        self._batches = batches
        rows = len(next(iter(batches[0].values())))
        self._folds = folds_of(self.model) if rows >= _FEWEST_ROWS else {}
        means, variances = self._statistics({}, normalised=False)
        self._folds = {name: fold for name, fold in self._folds.items() if name in means}
        self._scales = {name: (variances[name] + _EPSILON).sqrt().requires_grad_() for name in self._folds}
        self._shifts = {name: means[name].clone().requires_grad_() for name in self._folds}

    @property
    def parameters(self) -> Tensors:
        """What is trained: weights by initializer name, scales and shifts by the name of what they act on."""
        idle = {fold.bias for fold in self._folds.values()}
        weights: Tensors = {name: tensor for name, tensor in self.module.weights.items() if name not in idle}
        scales = {f"{name}:scale": tensor for name, tensor in self._scales.items()}
        return {**weights, **scales, **{f"{name}:shift": tensor for name, tensor in self._shifts.items()}}

    @property
    def sizes(self) -> dict[str, float]:
        """What a step of each scale and shift is relative to: the root mean square of the scale."""
        sizes = {name: float(tensor.detach().square().mean().sqrt()) for name, tensor in self._scales.items()}
        return {f"{name}:{kind}": size for name, size in sizes.items() for kind in ("scale", "shift")}

    def masked(self) -> Tensors:
        """The weights times their masks, by initializer name."""
        weights = self.module.weights
        return {name: weights[name] * mask for name, mask in self.masks.items()}

    def __call__(self, inputs: Tensors, masked: Tensors, also: Collection[str] = ()) -> Tensors:
        """Outputs, and the values named in `also`, in training: each batch norm takes its statistics from `inputs`."""
        several = self._processes.count > 1
        return self.module(inputs, masked, self._normalise_together if several else self._normalise, also)

    @torch.no_grad()
    def plain_weights(self) -> Tensors:
        """The weights of the model without batch norm, statistics taken over the batches given at the start.

        Scales that weights and biases are stored with are among them, where they change.
        """
        masked = self.masked()
        weights: Tensors = {name: tensor.detach().clone() for name, tensor in {**self.module.weights, **masked}.items()}
        means, variances = self._statistics(masked, normalised=True)
        for name, fold in self._folds.items():
            factor = self._scales[name] / (variances[name] + _EPSILON).sqrt()
            column = (-1,) + (1,) * (weights[fold.weight].ndim - 1)
            weights[fold.weight] = weights[fold.weight] * factor.reshape(column) + 0.0
            weights[fold.bias] = self._shifts[name] + (weights[fold.bias] - means[name]) * factor
            weights.update(fold.folded_scales(factor))
        return weights

    def write(self, weights: Tensors) -> ir.Model:
        """The model with `weights`."""
        return write_back(self.module, self.model, weights)

    def _normalise(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self._scales:
            return tensor
        return functional.batch_norm(
            tensor, None, None, self._scales[name], self._shifts[name], training=True, eps=_EPSILON
        )

    def _normalise_together(self, name: str, tensor: Tensor) -> Tensor:
        """Batch norm over the rows of all processes."""
        if name not in self._scales:
            return tensor
        axes, column = [axis for axis in range(tensor.ndim) if axis != 1], (1, -1) + (1,) * (tensor.ndim - 2)
        total = self._processes.total_with_gradient
        count = self._processes.total(torch.tensor(float(tensor.numel() // tensor.shape[1]), device=tensor.device))
        centred = tensor - (total(tensor.sum(dim=axes)) / count).reshape(column)
        variance = total(centred.square().sum(dim=axes)) / count
        factor = self._scales[name] * torch.rsqrt(variance + _EPSILON)
        return centred * factor.reshape(column) + self._shifts[name].reshape(column)

    @torch.no_grad()
    def _statistics(self, masked: Tensors, normalised: bool) -> tuple[Tensors, Tensors]:
        """Mean and variance of each channel of every convolution, by its output's name."""
        means: dict[str, list[Tensor]] = {}
        variances: dict[str, list[Tensor]] = {}

        def gather(name: str, tensor: Tensor) -> Tensor:
            if name in self._folds and tensor.numel() // tensor.shape[1] >= _FEWEST_VALUES:
                axes = [axis for axis in range(tensor.ndim) if axis != 1]
                variance, mean = torch.var_mean(tensor, dim=axes, correction=0)
                means.setdefault(name, []).append(mean)
                variances.setdefault(name, []).append(variance)
            return self._normalise(name, tensor) if normalised else tensor

        for batch in self._batches:
            self.module(batch, masked, gather)
        return _averages(means), _averages(variances)


def _averages(parts: Mapping[str, list[Tensor]]) -> Tensors:
    return {name: torch.stack(each).mean(dim=0) for name, each in parts.items()}
