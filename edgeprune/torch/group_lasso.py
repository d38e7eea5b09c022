"""Group lasso: whole blocks are shrunk towards zero, then those that gave way are cut."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edgeprune.torch.masks import block_sizes, block_sums, expand_blocks
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Schedule

_THRESHOLD = "threshold"


@dataclass(frozen=True)
class GroupLasso(Schedule):
    """A proximal step after each of the optimizer's, up to the share `until` of the training; then the cut.

    It takes t from the norm of every block, which ends at zero (Yuan & Lin 2006, "Model selection and estimation in
    regression with grouped variables"; Wen et al. 2016, "Learning structured sparsity in deep neural networks"). t is
    such that a block of the layer's mean norm, which no gradient holds up, is gone after the share 1 / `strength` of
    these steps, whatever the optimizer and its rate; it goes with the square root of the block's size.
    """

    name: ClassVar[str] = "group-lasso"

    strength: float = 1.0
    until: float = 0.5

    def begin(self, network: MaskedNetwork) -> None:
        """Set each layer's t, for a block of one weight."""
        steps = self._last(network.steps)
        means = {}
        for layer in network.layers:
            norms, sizes = _norms(layer.grid(layer.weight.detach()), network)
            means[layer.name] = (norms / sizes.sqrt()).mean().cpu() * self.strength / steps
        network.memory[_THRESHOLD] = means

    @torch.no_grad()
    def update(self, network: MaskedNetwork, done: int) -> None:
        """Shrink, or cut where the last of these steps is done."""
        if done > self._last(network.steps) or not network.sparsity:
            return
        for layer in network.layers:
            weight = layer.grid(layer.weight)
            norms, sizes = _norms(weight, network)
            taken = network.memory[_THRESHOLD][layer.name].to(norms.device) * sizes.sqrt()
            factors = (1 - taken / norms.clamp_min(torch.finfo(torch.float32).tiny)).clamp_min(0)
            spread = expand_blocks(factors, network.pattern, weight).to(weight.dtype)
            layer.weight.mul_(layer.ungrid(spread))
        if done == self._last(network.steps):
            network.hold(network.choose())

    def end(self, network: MaskedNetwork, done: int) -> None:
        """Cut where it was not cut yet."""
        if done < self._last(network.steps):
            network.hold(network.choose())

    def _last(self, steps: int) -> int:
        return max(1, math.ceil(self.until * steps))


def _norms(weight: Tensor, network: MaskedNetwork) -> tuple[Tensor, Tensor]:
    """The Euclidean norm and the size of every block of a weight [groups, taps, in, out]."""
    return block_sums(weight.float() ** 2, network.pattern).sqrt(), block_sizes(weight, network.pattern)
