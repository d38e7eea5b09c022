"""How much each layer keeps: the rules that share one sparsity out over the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.search.levels import FLOOR
from edgeprune.torch.layers import Layer

Rule = Literal["uniform", "erk", "global", "raw"]
"""uniform: the same share everywhere; erk: by shape; global: one threshold over scores relative to their layer's
mean; raw: one threshold over the scores as they are."""


def check_rule(rule: str) -> Rule:
    """`rule` where it is one; raises EdgepruneError (option-unknown) where it is not."""
    for known in get_args(Rule):
        if rule == known:
            return known
    what, hint = f"'{rule}' is not a rule for levels", nearest(rule, get_args(Rule))
    raise EdgepruneError("option-unknown", what, where="levels", hint=hint, exit_code=2)


def erk_densities(layers: Sequence[Layer], density: float) -> dict[str, float]:
    """Densities proportional to (in + out + kernel sides) / (in * out * kernel area), `density` of all weights.

    Layers that would keep more than they have stay dense (Evci et al. 2020, "Rigging the lottery", section 3).
    """
    sizes = {layer.name: layer.weight.numel() for layer in layers}
    raw = {layer.name: sum(layer.weight.shape) / layer.weight.numel() for layer in layers}
    dense: set[str] = set()
    while True:
        others = [name for name in sizes if name not in dense]
        left = density * sum(sizes.values()) - sum(sizes[name] for name in dense)
        factor = left / sum(raw[name] * sizes[name] for name in others) if others else 0.0
        over = [name for name in others if raw[name] * factor > 1]
        if not over:
            return {name: 1.0 if name in dense else raw[name] * factor for name in sizes}
        dense.add(max(over, key=lambda name: raw[name]))


def threshold_densities(
    blocks: Mapping[str, Tensor], weights: Mapping[str, int], sparsity: float, rule: Literal["global", "raw"]
) -> dict[str, float]:
    """The density of each layer when the lowest blocks of all layers are removed, the share `sparsity` of the weights.

    `blocks` holds block scores and `weights` the number of weights by layer. Under "global" scores are divided by
    their layer's mean and no layer falls below FLOOR times the network's density; under "raw" a layer may lose all
    but one block.
    """
    floor = FLOOR * (1 - sparsity) if rule == "global" else 0.0
    lowest = [_removable(scores.reshape(-1), max(1, round(floor * scores.numel())), rule) for scores in blocks.values()]
    owner = torch.repeat_interleave(torch.arange(len(lowest)), torch.tensor([len(part) for part in lowest]))
    order = torch.argsort(torch.cat(lowest), stable=True)
    sizes = torch.tensor([weights[name] / blocks[name].numel() for name in blocks], dtype=torch.float64)
    gone = torch.cumsum(sizes[owner[order]], 0)
    count = int(torch.searchsorted(gone, sparsity * sum(weights[name] for name in blocks) + 1e-6, right=True))
    removed = torch.bincount(owner[order[:count]], minlength=len(lowest)).tolist()
    return {name: 1 - gone / blocks[name].numel() for name, gone in zip(blocks, removed, strict=True)}


def _removable(scores: Tensor, floor: int, rule: Literal["global", "raw"]) -> Tensor:
    """The scores of the blocks that may go, lowest first; `floor` of the blocks stay."""
    given = scores.cpu().double()
    if rule == "global":
        given = given / max(float(given.abs().mean()), torch.finfo(torch.float64).tiny)
    return torch.sort(given).values[: len(given) - floor]
