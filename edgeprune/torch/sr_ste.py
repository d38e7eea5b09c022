"""SR-STE: the network runs on masked weights, all weights learn, and those outside the mask decay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from edgeprune.errors import EdgepruneError
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Schedule

_LATENT = "latent"


@dataclass(frozen=True)
class SRSTE(Schedule):
    """Sparse-refined straight-through estimation, for `n:m` and for any other pattern.

    The optimizer moves all weights W along g + decay * (1 - mask) * W, where g is the gradient at the masked weights;
    masks are chosen by magnitude after every step (Zhou et al. 2021, "Learning N:M fine-grained structured sparse
    neural networks from scratch", equation 9). The paper's decay is 2e-4 over a hundred epochs; in few steps only a
    greater one keeps masks from moving to the end. All weights are in the state of the Pruner; the model itself holds
    the masked ones whenever a step is over.
    """

    name: ClassVar[str] = "sr-ste"

    decay: float = 0.02

    def check(self, network: MaskedNetwork) -> None:
        """Raise EdgepruneError (optimizer-missing) where there is no optimizer to hook."""
        if network.optimizer is None:
            raise EdgepruneError(
                "optimizer-missing",
                "schedule 'sr-ste' changes what the optimizer sees, and was given none",
                where="optimizer",
                hint="write Pruner(model, optimizer=optimizer, ...)",
                exit_code=2,
            )

    def attach(self, network: MaskedNetwork) -> list[RemovableHandle]:
        """Before the optimizer's step all weights are put back, after it they are noted."""
        assert network.optimizer is not None

        def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            self._uncover(network, getattr(optimizer, "grad_scale", None))

        def after(*_: Any) -> None:
            for layer in network.layers:
                network.memory[_LATENT][layer.name].copy_(layer.weight.detach())

        return [
            network.optimizer.register_step_pre_hook(before),
            network.optimizer.register_step_post_hook(after),
        ]

    def begin(self, network: MaskedNetwork) -> None:
        """Note all weights, and mask."""
        network.memory[_LATENT] = {layer.name: layer.weight.detach().clone() for layer in network.layers}
        network.hold(network.choose())

    def update(self, network: MaskedNetwork, done: int) -> None:
        """Choose the masks from all weights."""
        latent = network.memory[_LATENT]
        masks = network.choose({name: weight.float() ** 2 for name, weight in latent.items()})
        with torch.no_grad():
            for layer in network.layers:
                layer.weight.copy_(latent[layer.name])
        network.masks = masks
        network.apply()

    def end(self, network: MaskedNetwork, done: int) -> None:
        """Forget what the masks leave out."""
        network.memory.clear()

    @torch.no_grad()
    def _uncover(self, network: MaskedNetwork, scale: Tensor | None) -> None:
        latent: Mapping[str, Tensor] = network.memory[_LATENT]
        for layer in network.layers:
            layer.weight.copy_(latent[layer.name])
            if layer.weight.grad is not None:
                outside = latent[layer.name].masked_fill(network.masks[layer.name], 0)
                pull = self.decay * outside
                layer.weight.grad.add_(pull if scale is None else pull * scale.to(pull.device))
