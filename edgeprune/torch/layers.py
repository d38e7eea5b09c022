"""The modules of a network that lose weights, and their weights in the order [groups, taps, in, out]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from edgeprune.errors import EdgepruneError
from edgeprune.search.levels import PROTECTED_SHARE

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_WRAPPINGS = ("module", "_orig_mod")


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer by its name in the network."""

    name: str
    module: nn.Module
    groups: int

    @property
    def weight(self) -> nn.Parameter:
        """The weight as the module holds it."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def grid(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the weight's shape as [groups, taps, in, out], as `edgeprune.ir.weights` orders it."""
        if tensor.dim() == 2:
            return tensor.t()[None, None]
        outputs, inputs = tensor.shape[:2]
        return tensor.reshape(self.groups, outputs // self.groups, inputs, -1).permute(0, 3, 2, 1)

    def ungrid(self, grid: torch.Tensor) -> torch.Tensor:
        """A tensor [groups, taps, in, out] in the weight's shape."""
        if self.weight.dim() == 2:
            return grid[0, 0].t().contiguous()
        return grid.permute(0, 3, 2, 1).reshape(self.weight.shape)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel, DataParallel and torch.compile."""
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = next(inner for key in _WRAPPINGS if isinstance(inner := getattr(model, key, None), nn.Module))
    return model


def prunable_layers(model: nn.Module, protect_ends: bool = True) -> list[Layer]:
    """The convolutions and linear layers of `model` in the order of its modules, not depthwise ones.

    A weight that several modules share counts once; one that is computed (by a parametrization) is left alone. The
    first and the last are left out where `protect_ends`, where they hold less than a tenth of the weights, and where
    others are left. Raises EdgepruneError (layer-missing, model-uninitialised, weights-not-finite).
    """
    found = [layer for layer in _weighted(model) if not _depthwise(layer)]
    layers = _ends_left_out(found) if protect_ends else found
    if not layers:
        raise EdgepruneError(
            "layer-missing",
            "the model has no layer that can be pruned",
            where=type(model).__name__,
            hint="there must be a Conv1d, Conv2d, Conv3d (not depthwise) or Linear with a weight of its own",
        )
    for layer in layers:
        check_finite(layer)
    return layers


def check_finite(layer: Layer) -> None:
    """Raise EdgepruneError (weights-not-finite) where the weight holds NaN or an infinity."""
    if not bool(torch.isfinite(layer.weight).all()):
        raise EdgepruneError(
            "weights-not-finite",
            f"the weight of '{layer.name}' holds NaN or infinite values",
            where=f"layer {layer.name}",
            hint="training has diverged: load the last state that was good, and lower the learning rate",
        )


def _weighted(model: nn.Module) -> list[Layer]:
    found: dict[int, Layer] = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if not isinstance(module, _WEIGHTED) or weight is None:
            continue
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise EdgepruneError(
                "model-uninitialised",
                f"the weight of '{name}' has no shape yet",
                where=f"layer {name}",
                hint="run the model once, so that its lazy layers take their shapes",
            )
        found.setdefault(id(weight), Layer(name, module, getattr(module, "groups", 1)))
    return list(found.values())


def _ends_left_out(layers: list[Layer]) -> list[Layer]:
    if len(layers) < 3:
        return layers
    least = PROTECTED_SHARE * sum(layer.weight.numel() for layer in layers)
    ends = (layers[0], layers[-1])
    return [layer for layer in layers if layer not in ends or layer.weight.numel() >= least]


def _depthwise(layer: Layer) -> bool:
    return layer.groups > 1 and layer.weight.shape[1] == 1
