"""Puts channels in an order in which blocks of them lose less, without changing what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.groups import UnitSlice, find_groups
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers
from edgeprune.mask import mask_from_scores
from edgeprune.passes.select_units import SelectUnits
from edgeprune.pattern import Pattern
from edgeprune.progress import Progress, silent

SWAPS = 20
"""Swaps for each unit after which the search for an order ends."""

JUDGED_DENSITY = 0.3
"""An order is judged by what the pattern would keep at this density, unless it has its own."""


@dataclass(frozen=True)
class Permute:
    """Reorders interchangeable channels so that `pattern` keeps more of the squared weights.

    Channels that the same inputs matter to come to share blocks: within blocks the products of their squared weights
    are made large, by swaps of the two channels that gain most (Pool and Yu 2021, "Channel permutations for N:M
    sparsity", with blocks as clusters, after Ji et al. 2018, "TETRIS"). Under `n:m` along the reduction they are
    made small instead, so that no group has to give up more than others. A group is left as it is where that keeps
    no more.
    """

    pattern: Pattern

    def __call__(self, model: ir.Model, progress: Progress = silent) -> ir.Model:
        """The reordered model; `model` itself where no order is better."""
        if self.pattern.structure != "block":
            return model
        layers = {layer.name: layer for layer in weighted_layers(model) if layer.kind != "depthwise"}
        groups = [group for group in find_groups(model).groups if group.interchangeable and group.kind == "channel"]
        orders = {}
        for index, group in enumerate(groups):
            progress("ordering channels", index, len(groups), group.name)
            sides = [side for part in group.slices for side in _sides(part, layers, group.size, self.pattern)]
            order = _order(group.size, sides, self.pattern) if sides else None
            if order is not None:
                orders[group.name] = order
        progress("ordering channels", len(groups), len(groups), "")
        return SelectUnits(orders)(model) if orders else model


@dataclass(frozen=True)
class _Side:
    """One layer that makes or reads the units: `scores` [rows, units], in blocks of `block` units.

    `spread` says that the heaviest should be apart, not together.
    """

    scores: np.ndarray
    block: int
    spread: bool


def _sides(part: UnitSlice, layers: Mapping[str, WeightedLayer], size: int, pattern: Pattern) -> list[_Side]:
    """What the blocks of one layer see of a group, where its units fill an axis of the weight one by one."""
    layer = layers.get(part.node)
    if layer is None or part.index != 1 or layer.groups != 1 or not np.array_equal(part.units, np.arange(size)):
        return []
    squares = read_weight(layer)[0].astype(np.float64) ** 2
    squares /= max(float(np.linalg.norm(squares)), float(np.finfo(np.float64).tiny))
    _, inputs, outputs = squares.shape
    if part.role == "out":
        rows = _block_sums(squares, pattern.block_k, axis=1).reshape(-1, outputs)
        return [_Side(rows, pattern.block_n, spread=False)] if 1 < pattern.block_n < outputs else []
    columns = _block_sums(squares, pattern.block_n, axis=2)
    rows = columns.transpose(0, 2, 1).reshape(-1, inputs)
    if pattern.group is not None:
        return [_Side(rows, pattern.group * pattern.block_k, spread=True)]
    return [_Side(rows, pattern.block_k, spread=False)] if 1 < pattern.block_k < inputs else []


def _block_sums(array: np.ndarray, block: int, axis: int) -> np.ndarray:
    if block == 1:
        return array
    return np.add.reduceat(array, np.arange(0, array.shape[axis], block), axis=axis)


def _order(size: int, sides: list[_Side], pattern: Pattern) -> np.ndarray | None:
    """The best order found; None where it keeps no more than the one there is."""
    affinity, block = np.zeros((size, size)), min(side.block for side in sides)
    for side in sides:
        affinity += (-1.0 if side.spread else 1.0) * (side.scores.T @ side.scores)
    order = cluster(affinity, block)
    same = np.arange(size)
    gain = sum(_kept(side, order, pattern) - _kept(side, same, pattern) for side in sides)
    return order if gain > 1e-6 * len(sides) else None


def _kept(side: _Side, order: np.ndarray, pattern: Pattern) -> float:
    """The share of the scores that the pattern keeps with units in `order`."""
    scores = side.scores[:, order]
    if side.spread:
        assert pattern.keep is not None and pattern.group is not None
        shaped = Pattern(side.block // pattern.group, 1, pattern.keep, pattern.group)
        mask = mask_from_scores(scores.T[None, None], shaped)[0, 0].T
    else:
        mask = mask_from_scores(scores[None, None], Pattern(1, side.block), pattern.density or JUDGED_DENSITY)[0, 0]
    return float(scores[mask].sum() / max(scores.sum(), np.finfo(np.float64).tiny))


def cluster(affinity: np.ndarray, block: int) -> np.ndarray:
    """An order of units in which blocks of `block` neighbours have a large sum of `affinity` [units, units].

    Starts from the order there is and makes the best swap of two units between blocks until none gains. (Kernighan
    and Lin 1970.)
    """
    size = len(affinity)
    owner = np.arange(size) // block
    blocks = int(owner[-1]) + 1
    towards = np.zeros((size, blocks))
    for index in range(blocks):
        towards[:, index] = affinity[:, owner == index].sum(axis=1)
    places = np.arange(size)
    own = np.diagonal(affinity)
    floor = 1e-9 * max(float(np.abs(affinity).sum()), float(np.finfo(np.float64).tiny))
    for _ in range(SWAPS * size):
        leaving = towards[places, owner] - own
        gains = towards[:, owner] - leaving[:, None]
        gains = gains + gains.T - 2 * affinity
        gains[owner[:, None] == owner[None, :]] = -np.inf
        first, second = np.unravel_index(int(np.argmax(gains)), gains.shape)
        if gains[first, second] <= floor:
            break
        a, b = owner[first], owner[second]
        towards[:, a] += affinity[:, second] - affinity[:, first]
        towards[:, b] += affinity[:, first] - affinity[:, second]
        owner[first], owner[second] = b, a
    return np.argsort(owner, kind="stable")
