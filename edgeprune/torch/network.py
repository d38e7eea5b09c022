"""A network under masks: its layers, what they keep, and what a schedule remembers from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgeprune.pattern import Pattern
from edgeprune.torch.layers import Layer, check_finite
from edgeprune.torch.levels import Rule, erk_densities, threshold_densities
from edgeprune.torch.masks import block_scores, expand_blocks, keep_blocks

Loss = Callable[[nn.Module], Tensor]
"""From the network to the loss (a scalar) of a batch of the user's choice."""


@dataclass
class MaskedNetwork:
    """The layers that are pruned, with their masks.

    `masks` by layer name are boolean and have the weight's shape, True where it is kept; a layer without one is
    dense. `memory` is what the schedule keeps between steps, by a name of its own and by layer name; it is saved with
    the masks. `levels` is a rule, or the density of each layer.
    """

    model: nn.Module
    layers: tuple[Layer, ...]
    pattern: Pattern
    sparsity: float
    levels: Rule | Mapping[str, float]
    steps: int = 0
    optimizer: torch.optim.Optimizer | None = None
    loss: Loss | None = None
    example: tuple[Tensor, ...] | None = None
    seed: int = 0
    masks: dict[str, Tensor] = field(default_factory=dict)
    memory: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def squares(self) -> dict[str, Tensor]:
        """The squared weights by layer name, in the weights' shapes."""
        return {layer.name: layer.weight.detach().float() ** 2 for layer in self.layers}

    def choose(self, scores: Mapping[str, Tensor] | None = None, remaining: float = 0.0) -> dict[str, Tensor]:
        """The masks of the highest-scoring blocks, in the weights' shapes.

        `scores` by layer name have the weights' shapes (None: squared weights). `remaining` goes from 1, where all is
        kept, to 0, where the levels are reached. Raises EdgepruneError (weights-not-finite).
        """
        for layer in self.layers:
            check_finite(layer)
        given = self.squares() if scores is None else scores
        grids = {layer.name: layer.grid(given[layer.name]) for layer in self.layers}
        blocks = {name: block_scores(grid, self.pattern) for name, grid in grids.items()}
        densities = self._densities(blocks, remaining)
        masks = {}
        for layer in self.layers:
            kept = self._kept(blocks[layer.name], densities[layer.name], remaining)
            masks[layer.name] = layer.ungrid(expand_blocks(kept, self.pattern, grids[layer.name]))
        return masks

    @torch.no_grad()
    def hold(self, masks: Mapping[str, Tensor]) -> None:
        """Take `masks` in place of those before, and put zeros where they keep nothing."""
        before, self.masks = self.masks, dict(masks)
        for layer in self.layers:
            if layer.name in before:
                self._forget(layer, ~before[layer.name])
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Put zeros into the weights wherever the masks keep nothing."""
        for layer in self.layers:
            if layer.name in self.masks:
                layer.weight.masked_fill_(~self.masks[layer.name], 0)

    def _forget(self, layer: Layer, masked: Tensor) -> None:
        """Clear what the optimizer gathered while weights were masked, so that they return at rest."""
        if self.optimizer is None:
            return
        for tensor in self.optimizer.state.get(layer.weight, {}).values():
            if isinstance(tensor, Tensor) and tensor.shape == layer.weight.shape:
                tensor.masked_fill_(masked, 0)

    def _kept(self, blocks: Tensor, density: float, remaining: float) -> Tensor:
        kept = keep_blocks(blocks, self.pattern, density)
        if self.pattern.group is not None and remaining > 0:
            kept = kept | keep_blocks(blocks, Pattern(self.pattern.block_k, self.pattern.block_n), remaining)
        return kept

    def _densities(self, blocks: Mapping[str, Tensor], remaining: float) -> dict[str, float]:
        density = 1 - self.sparsity
        if self.pattern.group is None and (self.levels == "global" or self.levels == "raw"):
            sizes = {layer.name: layer.weight.numel() for layer in self.layers}
            return threshold_densities(blocks, sizes, self.sparsity * (1 - remaining), self.levels)
        if isinstance(self.levels, Mapping):
            final = dict(self.levels)
        elif self.levels == "erk":
            final = erk_densities(self.layers, density)
        else:
            final = dict.fromkeys(blocks, density)
        return {name: value + (1 - value) * remaining for name, value in final.items()}
