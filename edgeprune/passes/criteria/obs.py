"""Weights go one by one, each time the one that costs least, and all others make up for it (exact OBS)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from scipy.linalg.blas import dgemm

from edgeprune.data.samples import Samples
from edgeprune.passes.criteria.criterion import Choice, MaskProblem
from edgeprune.passes.criteria.curvature import single_saliencies
from edgeprune.passes.criteria.sparsegpt import SparseGpt

OPERATIONS = 5e9
"""Layers whose removals would take more multiplications than this are swept once instead (SparseGPT)."""

SHRINK = 0.8
"""The inverse is made smaller once less than this share of its inputs is left."""


@dataclass(frozen=True)
class Obs:
    """Optimal brain surgery, exact and greedy, block by block (Frantar and Alistarh 2022, "Optimal brain compression").

    Columns that share their blocks are one problem; the removals of all of them are merged by their cost.
    """

    operations: float = OPERATIONS
    up_front: bool = False

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """What the layer's output changes by when one weight goes and the others make up for it."""
        return single_saliencies(model, samples, seed)

    def choose(self, problem: MaskProblem) -> Choice:
        """The mask that is left when enough has gone."""
        if operations(problem) > self.operations:
            return Choice(SparseGpt().choose(problem).mask, "too large for exact OBS: swept once (SparseGPT)")
        return Choice(remove_one_by_one(problem))


def operations(problem: MaskProblem) -> float:
    """About how many multiplications the removal of everything takes."""
    groups, taps, inputs, outputs = problem.shape
    columns = groups * -(-outputs // problem.level.pattern.block_n)
    return columns * float(taps * inputs) ** 3 / 3


def remove_one_by_one(problem: MaskProblem) -> np.ndarray:
    """The mask [groups, F, out] that greedy removal from the best dense weights leaves."""
    width = min(problem.level.pattern.block_n, problem.shape[3])
    blocks, balance = _blocks(problem)
    quota = _quota(problem, balance)
    key = ("obs", problem.level.pattern)
    if key not in problem.quadratic.derived:
        problem.quadratic.derived[key] = _traces(problem, width, blocks, balance, quota)
    traces = problem.quadratic.derived[key]
    gone = [len(order) for order, _ in traces] if quota is not None else _merged(traces, problem.level.density)
    mask = np.ones(problem.start.shape, bool)
    across = -(-problem.shape[3] // width)
    for index, ((order, _), count) in enumerate(zip(traces, gone, strict=True)):
        group, column = divmod(index, across)
        for block in order[:count]:
            mask[group, blocks[block], column * width : (column + 1) * width] = False
    return mask


def _traces(
    problem: MaskProblem, width: int, blocks: list[np.ndarray], balance: np.ndarray, quota: np.ndarray | None
) -> list[tuple[list[int], list[float]]]:
    """The trace of every `width` columns of every group; the density makes no difference to it."""
    weights, inverse = problem.quadratic.best, problem.quadratic.inverse
    return [
        trace(inverse[group], weights[group, :, begin : begin + width], blocks, balance, quota)
        for group in range(problem.shape[0])
        for begin in range(0, problem.shape[3], width)
    ]


def trace(
    inverse: np.ndarray,
    weights: np.ndarray,
    blocks: Sequence[np.ndarray],
    balance: np.ndarray | None = None,
    quota: np.ndarray | None = None,
) -> tuple[list[int], list[float]]:
    """The order in which blocks of inputs leave columns that share them, and what each costs when it leaves.

    `inverse` [F, F] is H^-1 and `weights` [F, columns] are the best for H; `blocks` are indices of inputs. With
    `balance`, the balanced group of each block, only as many of a group leave as `quota` says.
    """
    state = _State(inverse.copy(), weights.copy(), [np.asarray(block) for block in blocks])
    left = None if quota is None else quota.copy()
    allowed = np.ones(len(blocks), bool) if balance is None or left is None else left[balance] > 0
    order, costs = [], []
    while allowed.any():
        loss = np.where(allowed, state.losses(), np.inf)
        block = int(np.argmin(loss))
        order.append(block)
        costs.append(float(loss[block]))
        state.remove(block)
        allowed[block] = False
        if balance is not None and left is not None:
            left[balance[block]] -= 1
            allowed &= left[balance] > 0
    return order, costs


class _State:
    """The weights, and the inverse of the moments, of the inputs that are still there.

    Inputs that went are dropped now and then, so that what is left is worked on alone.
    """

    def __init__(self, inverse: np.ndarray, weights: np.ndarray, blocks: Sequence[np.ndarray]) -> None:
        self._inverse, self._weights = inverse, weights
        self._sizes = np.array([len(block) for block in blocks])
        self._rows = np.full((len(blocks), int(self._sizes.max())), -1)
        for index, block in enumerate(blocks):
            self._rows[index, : len(block)] = block
        self._alive = np.ones(len(blocks), bool)

    def losses(self) -> np.ndarray:
        """The cost of removing each block, w_b' ((H^-1)_bb)^-1 w_b summed over columns; infinite where it went."""
        found = np.full(len(self._sizes), np.inf)
        for size in {int(self._sizes[0]), int(self._sizes[-1])}:
            same = np.flatnonzero((self._sizes == size) & self._alive)
            if len(same):
                found[same] = self._losses(self._rows[same, :size])
        return found

    def _losses(self, rows: np.ndarray) -> np.ndarray:
        """For blocks of one size, `rows` [blocks, size]."""
        held = self._weights[rows]
        if rows.shape[1] == 1:
            return np.asarray(np.square(held[:, 0]).sum(axis=1) / self._inverse[rows[:, 0], rows[:, 0]])
        corners = self._inverse[rows[:, :, None], rows[:, None, :]]
        return np.asarray((held * np.linalg.solve(corners, held)).sum(axis=(1, 2)))

    def remove(self, block: int) -> None:
        """Take a block out: all other inputs make up for it, and H^-1 becomes that of the others."""
        rows = self._rows[block, : self._sizes[block]]
        columns = self._inverse[:, rows]
        solved = np.linalg.solve(columns[rows], columns.T)
        self._weights -= solved.T @ self._weights[rows]
        self._inverse = dgemm(-1.0, columns, solved, beta=1.0, c=self._inverse.T, overwrite_c=1).T  # in place
        self._alive[block] = False
        if self._sizes[self._alive].sum() < SHRINK * len(self._weights):
            self._compact()

    def _compact(self) -> None:
        rows = self._rows[self._alive]
        kept = rows[rows >= 0]
        places = np.full(len(self._weights) + 1, -1)
        places[kept] = np.arange(len(kept))
        self._rows = np.where(self._alive[:, None], places[self._rows], -1)
        self._inverse = np.ascontiguousarray(self._inverse[np.ix_(kept, kept)])
        self._weights = np.ascontiguousarray(self._weights[kept])


def _blocks(problem: MaskProblem) -> tuple[list[np.ndarray], np.ndarray]:
    """The inputs of each block of the pattern, and the number of its balanced group (all 0 where there are none)."""
    _, taps, inputs, _ = problem.shape
    pattern = problem.level.pattern
    starts = range(0, inputs, min(pattern.block_k, inputs))
    blocks = [
        np.arange(tap * inputs + begin, tap * inputs + min(begin + pattern.block_k, inputs))
        for tap in range(taps)
        for begin in starts
    ]
    if pattern.group is None:
        return blocks, np.zeros(len(blocks), int)
    size = min(pattern.group, len(starts))
    within = np.arange(len(starts)) // size
    across = int(within[-1]) + 1
    return blocks, (np.arange(taps)[:, None] * across + within).reshape(-1)


def _quota(problem: MaskProblem, balance: np.ndarray) -> np.ndarray | None:
    """How many blocks leave each balanced group; None where the level counts over the whole layer."""
    pattern = problem.level.pattern
    if pattern.group is None or pattern.keep is None:
        return None
    lengths = np.bincount(balance)
    return np.asarray(lengths * (pattern.group - pattern.keep) // pattern.group)


def _merged(traces: Sequence[tuple[list[int], list[float]]], density: float) -> list[int]:
    """How many blocks leave each problem when of all next removals always the cheapest is made."""
    total = sum(len(order) for order, _ in traces)
    gone = [0] * len(traces)
    nexts = [(costs[0], index) for index, (_, costs) in enumerate(traces) if costs]
    heapq.heapify(nexts)
    for _ in range(total - max(1, round(density * total))):
        _, index = heapq.heappop(nexts)
        gone[index] += 1
        costs = traces[index][1]
        if gone[index] < len(costs):
            heapq.heappush(nexts, (costs[gone[index]], index))
    return gone
