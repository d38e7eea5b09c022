"""RigL: drop the smallest weights, grow those with the largest gradients, keep their number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edgeprune.errors import EdgepruneError
from edgeprune.torch.layers import Layer
from edgeprune.torch.levels import Rule
from edgeprune.torch.masks import block_scores, expand_blocks, highest
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Schedule


@dataclass(frozen=True)
class RigL(Schedule):
    """Sparse from the start; the masks move while the network trains.

    Every `every` steps (None: 80 times in all), up to the share `until` of the training, each layer drops the share
    alpha / 2 * (1 + cos(pi * t / end)) of its live blocks with the smallest mean squared weights, and grows as many
    with the largest mean squared gradients, from zero (Evci et al. 2020, "Rigging the lottery", algorithm 1).
    """

    name: ClassVar[str] = "rigl"
    rule: ClassVar[Rule] = "erk"

    alpha: float = 0.3
    until: float = 0.75
    every: int | None = None
    random_start: bool = False

    def check(self, network: MaskedNetwork) -> None:
        """Raise EdgepruneError (option-conflict) for an `n:m` pattern, whose balance moving masks do not keep."""
        if network.pattern.group is not None:
            raise EdgepruneError(
                "option-conflict",
                f"schedule 'rigl' does not keep the balance of {network.pattern}",
                where="pattern",
                hint="take schedule='sr-ste' for n:m patterns, or a pattern of blocks such as 1x16",
                exit_code=2,
            )

    def begin(self, network: MaskedNetwork) -> None:
        """Masks by magnitude, or at random as in the paper, which starts from an untrained network."""
        network.hold(network.choose(random_scores(network) if self.random_start else None))

    def dropped(self, done: int, steps: int) -> float:
        """The share of live blocks that is dropped after `done` of `steps` steps."""
        last = max(1.0, self.until * steps)
        return self.alpha / 2 * (1 + math.cos(math.pi * done / last)) if done < last else 0.0

    def update(self, network: MaskedNetwork, done: int) -> None:
        """Drop and grow where it is time to; gradients that are not finite grow nothing."""
        every = self.every or max(1, int(self.until * network.steps) // 80)
        share = self.dropped(done, network.steps)
        if done % every or not share:
            return
        gradients = {layer.name: _gradient(layer) for layer in network.layers}
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values()):
            network.hold({layer.name: _moved(network, layer, gradients[layer.name], share) for layer in network.layers})


def random_scores(network: MaskedNetwork) -> dict[str, Tensor]:
    """Uniform scores from the network's seed, by layer name, in the weights' shapes; the same on every device."""
    generator = torch.Generator().manual_seed(network.seed)
    return {
        layer.name: torch.rand(layer.weight.shape, generator=generator).to(layer.weight.device)
        for layer in network.layers
    }


def _moved(network: MaskedNetwork, layer: Layer, gradient: Tensor, share: float) -> Tensor:
    pattern = network.pattern
    weight = layer.grid(layer.weight.detach().float())
    live = block_scores(layer.grid(network.masks[layer.name]).float(), pattern) > 0
    count = int(live.sum())
    moving = min(round(share * count), live.numel() - count, count - 1)
    if moving < 1:
        return network.masks[layer.name]
    sizes = block_scores(weight**2, pattern).masked_fill(~live, -torch.inf)
    stay = highest(sizes, count - moving)
    wish = block_scores(layer.grid(gradient) ** 2, pattern).masked_fill(stay, -torch.inf)
    return layer.ungrid(expand_blocks(stay | highest(wish, moving), pattern, weight))


def _gradient(layer: Layer) -> Tensor:
    if layer.weight.grad is None:
        raise EdgepruneError(
            "gradient-missing",
            f"there is no gradient of '{layer.name}' to grow weights by",
            where=f"layer {layer.name}",
            hint="call pruner.step() after optimizer.step() and before optimizer.zero_grad()",
        )
    return layer.weight.grad.detach().float()
