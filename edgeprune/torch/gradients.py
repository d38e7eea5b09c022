"""Gradients of a user's loss at the weights, leaving the network as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from edgeprune.errors import EdgepruneError
from edgeprune.torch.layers import Layer
from edgeprune.torch.network import MaskedNetwork


def check_loss(network: MaskedNetwork, schedule: str) -> None:
    """Raise EdgepruneError (loss-missing) where the user gave no loss."""
    if network.loss is None:
        raise EdgepruneError(
            "loss-missing",
            f"schedule '{schedule}' needs the loss of a batch",
            where="loss",
            hint="write loss=lambda model: cross_entropy(model(images), labels), with a batch of yours",
            exit_code=2,
        )


def weight_gradients(network: MaskedNetwork, create_graph: bool = False) -> dict[str, Tensor]:
    """The gradient of the loss at every layer's weight, by layer name, inside `left_as_it_was`.

    Raises EdgepruneError (loss-unusable) where the loss is no finite scalar, or does not depend on a weight.
    """
    assert network.loss is not None
    value = network.loss(network.model)
    if not isinstance(value, Tensor) or value.numel() != 1 or not bool(torch.isfinite(value)):
        raise _unusable(f"the loss is {_described(value)}, not a finite scalar tensor")
    weights = [layer.weight for layer in network.layers]
    still = [layer for layer in network.layers if not (layer.weight.requires_grad and value.requires_grad)]
    if still:
        raise _unreached(still[0])
    found = torch.autograd.grad(value.reshape(()), weights, create_graph=create_graph, allow_unused=True)
    gradients = {}
    for layer, gradient in zip(network.layers, found, strict=True):
        if gradient is None:
            raise _unreached(layer)
        gradients[layer.name] = gradient
    return gradients


@contextmanager
def left_as_it_was(network: MaskedNetwork) -> Iterator[None]:
    """Compute with gradients; afterwards put back the running statistics and the random state that it changed."""
    buffers = {name: buffer.detach().clone() for name, buffer in network.model.named_buffers()}
    devices = sorted({layer.weight.device.index or 0 for layer in network.layers if layer.weight.is_cuda})
    with torch.enable_grad(), torch.random.fork_rng(devices=devices):
        yield
    with torch.no_grad():
        for name, buffer in network.model.named_buffers():
            buffer.copy_(buffers[name])


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"a tensor of shape {tuple(value.shape)}" if value.numel() != 1 else f"{float(value):g}"


def _unreached(layer: Layer) -> EdgepruneError:
    return _unusable(f"the loss does not depend on the weight of '{layer.name}'")


def _unusable(what: str) -> EdgepruneError:
    return EdgepruneError("loss-unusable", what, where="loss", hint="return the mean loss of a batch of model(inputs)")
