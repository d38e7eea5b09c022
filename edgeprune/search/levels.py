"""How much each layer keeps where the level of the whole is given: by a threshold on scores, or by measured errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.weights import WeightedLayer, output_positions, read_weight, weighted_layers
from edgeprune.mask import block_scores
from edgeprune.pattern import Level, Pattern
from edgeprune.search.knapsack import Choice, solve

FLOOR = 0.3
"""Every layer keeps at least this share of the density that the whole network is asked for."""

PROTECTED_SHARE = 0.1
"""The first and the last layer stay dense if they hold less than this share of the weights and of the work."""


@dataclass(frozen=True)
class _Blocks:
    """One layer's blocks: normalised scores, lowest first, and the number of weights in one."""

    name: str
    scores: np.ndarray
    size: float


def prunable_layers(model: ir.Model) -> list[WeightedLayer]:
    """The layers that lose weights: convolutions and linear layers, not depthwise ones, nor those that share weights.

    The first and the last weighted layer are left out where that is cheap: where they hold less than a tenth of the
    weights and of the multiply-accumulates, and others are left.
    """
    layers = [layer for layer in weighted_layers(model) if layer.kind != "depthwise" and not layer.shared]
    if len(layers) < 3:
        return layers
    weights = np.array([float(read_weight(layer).size) for layer in layers])
    work = weights * [output_positions(layer) for layer in layers]
    share = np.maximum(weights / weights.sum(), work / work.sum())
    ends = {0, len(layers) - 1}
    return [layer for index, layer in enumerate(layers) if index not in ends or share[index] >= PROTECTED_SHARE]


def global_levels(
    model: ir.Model, pattern: Pattern, sparsity: float, scores: Mapping[str, np.ndarray] | None = None
) -> dict[str, Level]:
    """The level of every prunable layer; a layer that is not named stays dense.

    Of all weights of the prunable layers the share `sparsity` is removed. Block scores (squared weights, or
    `scores` by layer name, [groups, taps, in, out]) are divided by their layer's mean, which makes layers of any
    scale and width comparable, and by the square root of its share of the work, so that layers that cost little
    lose little; one threshold over all of them then decides, but no layer falls below FLOOR times the network's
    density. The share of removed work stays near that of removed weights. An `n:m` pattern has its own level, the
    same everywhere, and takes no sparsity.
    """
    layers = prunable_layers(model)
    if pattern.density is not None:
        return {layer.name: Level(pattern, pattern.density) for layer in layers}
    work = np.array([float(read_weight(layer).size) * output_positions(layer) for layer in layers])
    costs = np.sqrt(work / work.sum())
    given = [None if scores is None else scores[layer.name] for layer in layers]
    blocks = [_normalised(*parts, pattern) for parts in zip(layers, given, costs, strict=True)]
    kept = _above_threshold(blocks, sparsity)
    return {layer.name: Level(pattern, density) for layer, density in zip(layers, kept, strict=True)}


def least_error_levels(
    model: ir.Model, sparsity: float, levels: Mapping[str, Sequence[Level]], errors: Mapping[str, Sequence[float]]
) -> dict[str, Level]:
    """The levels with the least sum of `errors` at which at most 1 - `sparsity` of weights, and of work, is left.

    `levels` are those each prunable layer may get, by name, and `errors` go with them; a layer that has none keeps the
    share 1 - `sparsity` in its own first level's pattern. A layer that is not named in the result stays dense.
    """
    layers = {layer.name: layer for layer in prunable_layers(model) if layer.name in levels}
    weights = {name: float(read_weight(layer).size) for name, layer in layers.items()}
    work = {name: weights[name] * output_positions(layer) for name, layer in layers.items()}
    keep = 1 - sparsity
    choices = {}
    for name in layers:
        even = Level(levels[name][0].pattern, keep)
        pairs = list(zip(levels[name], errors[name], strict=True)) if name in errors else [(even, 0.0)]
        dense = [(None, 0.0)] if name in errors else []
        choices[name] = [
            Choice(level, {"error": error, "weights": weights[name] * share, "work": work[name] * share})
            for level, error in [*dense, *pairs]
            for share in [1.0 if level is None else level.density]
        ]
    limits = {"weights": keep * sum(weights.values()), "work": keep * sum(work.values())}
    found = solve(choices, "error", limits)
    assert found is not None, "every layer may get the level of the whole"
    return dict(found.levels)


def levels_around(sparsity: float, pattern: Pattern, densities: Sequence[float]) -> tuple[Level, ...]:
    """What a layer may keep where the whole keeps 1 - `sparsity`: that, and all `densities` above its floor."""
    kept = [density for density in densities if density > FLOOR * (1 - sparsity)]
    return tuple(Level(pattern, density) for density in sorted({1 - sparsity, *kept}, reverse=True))


def _normalised(layer: WeightedLayer, scores: np.ndarray | None, cost: float, pattern: Pattern) -> _Blocks:
    weight = read_weight(layer)
    blocks = np.sort(block_scores(weight**2 if scores is None else scores, pattern), axis=None)
    scale = max(float(blocks.mean()) * cost, float(np.finfo(np.float64).tiny))
    return _Blocks(layer.name, blocks / scale, weight.size / blocks.size)


def _above_threshold(blocks: list[_Blocks], sparsity: float) -> list[float]:
    """The density of each layer when the lowest blocks of all layers are removed, up to the floors."""
    floors = [max(1, round(FLOOR * (1 - sparsity) * len(layer.scores))) for layer in blocks]
    removable = [layer.scores[: len(layer.scores) - floor] for layer, floor in zip(blocks, floors, strict=True)]
    owner = np.repeat(np.arange(len(blocks)), [len(scores) for scores in removable])
    order = np.argsort(np.concatenate(removable), kind="stable") if removable else np.zeros(0, int)
    sizes = np.array([layer.size for layer in blocks])
    total = sum(layer.size * len(layer.scores) for layer in blocks)
    gone = np.cumsum(sizes[owner[order]])
    count = int(np.searchsorted(gone, sparsity * total + 1e-6, side="right"))
    removed = np.bincount(owner[order[:count]], minlength=len(blocks))
    return [1 - float(removed[index]) / len(layer.scores) for index, layer in enumerate(blocks)]
