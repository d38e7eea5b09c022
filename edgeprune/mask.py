"""Which weights a pattern keeps: masks from scores, and how well given zeros fit a pattern.

Arrays are [groups, taps, in, out] as `edgeprune.ir.weights` reads them. Blocks run along `in` inside one tap and
along `out`; at ragged ends they are smaller.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgeprune.pattern import Pattern


def block_scores(scores: np.ndarray, pattern: Pattern) -> np.ndarray:
    """The mean score of every block: [groups, taps, ceil(in / block_k), ceil(out / block_n)]."""
    sums = _block_sums(scores, pattern)
    if (pattern.block_k, pattern.block_n) == (1, 1):
        return sums
    return sums / _block_sums(np.ones(scores.shape[-2:]), pattern)


def mask_from_scores(scores: np.ndarray, pattern: Pattern, density: float | None = None) -> np.ndarray:
    """The weights to keep, as a boolean array of the shape of `scores`: those of the highest-scoring blocks.

    A pattern with an open level keeps round(density * blocks) blocks of the layer, at least one (density None is 1);
    an `n:m` pattern keeps n of every m blocks along `in`, ceil(length * n / m) of a shorter last group, and takes no
    density. Of equal scores the first is kept.
    """
    blocks = block_scores(scores, pattern)
    kept = _balanced(blocks, pattern) if pattern.group is not None else _highest(blocks, density)
    return expand_blocks(kept, pattern, scores.shape[2], scores.shape[3])


def expand_blocks(blocks: np.ndarray, pattern: Pattern, inputs: int, outputs: int) -> np.ndarray:
    """Each block's value at each of its weights: [groups, taps, inputs, outputs]."""
    rows = np.repeat(blocks, min(pattern.block_k, inputs), axis=-2)[..., :inputs, :]
    return np.repeat(rows, min(pattern.block_n, outputs), axis=-1)[..., :outputs]


def stored_share(weights: np.ndarray, pattern: Pattern) -> float:
    """The share of weights that lie in a block with a nonzero in it: what a kernel for the pattern computes."""
    live = _block_sums(weights != 0, pattern) > 0
    return float(expand_blocks(live, pattern, weights.shape[2], weights.shape[3]).mean())


def fits(weights: np.ndarray, pattern: Pattern, slack: float = 0.05) -> bool:
    """Whether the zeros follow the pattern.

    All but the share `slack` of the zeros lie in blocks that are zero throughout, and under `n:m` no group of
    blocks holds more than it may keep. A weight without zeros fits only 1x1.
    """
    zeros = float((weights == 0).mean())
    if 1 - stored_share(weights, pattern) < (1 - slack) * zeros or (not zeros and pattern != Pattern()):
        return False
    if pattern.group is None:
        return True
    live = _block_sums(weights != 0, pattern) > 0
    return bool((live == (live & _balanced(live.astype(np.float32), pattern))).all())


def coarsest_fit(weights: np.ndarray, patterns: Iterable[Pattern]) -> Pattern | None:
    """The last of `patterns` (finest first) that the zeros fit; None where there is none."""
    found = None
    for pattern in patterns:
        found = pattern if fits(weights, pattern) else found
    return found


def _block_sums(array: np.ndarray, pattern: Pattern) -> np.ndarray:
    rows, columns = array.shape[-2:]
    if (pattern.block_k, pattern.block_n) == (1, 1):
        return np.asarray(array, np.float64)
    if rows % pattern.block_k == 0 and columns % pattern.block_n == 0:
        height, width = rows // pattern.block_k, columns // pattern.block_n
        parted = array.reshape(*array.shape[:-2], height, pattern.block_k, width, pattern.block_n)
        return np.asarray(parted.sum(axis=(-3, -1), dtype=np.float64))
    summed = np.add.reduceat(np.asarray(array, np.float64), np.arange(0, rows, pattern.block_k), axis=-2)
    return np.add.reduceat(summed, np.arange(0, columns, pattern.block_n), axis=-1)


def _highest(blocks: np.ndarray, density: float | None) -> np.ndarray:
    count = max(1, round((1.0 if density is None else density) * blocks.size))
    scores = blocks.reshape(-1)
    if count >= scores.size:
        return np.ones(blocks.shape, bool)
    threshold = np.partition(scores, scores.size - count)[scores.size - count]
    kept = scores > threshold
    kept[np.flatnonzero(scores == threshold)[: count - int(kept.sum())]] = True
    return kept.reshape(blocks.shape)


def _balanced(blocks: np.ndarray, pattern: Pattern) -> np.ndarray:
    """In every group along axis 2 the blocks that fewer than the count to keep precede in rank."""
    assert pattern.keep is not None and pattern.group is not None
    length = blocks.shape[2]
    size = min(pattern.group, length)
    kept = np.zeros(blocks.shape, bool)
    for place in range(size):
        here = blocks[:, :, place::size]
        rank = np.zeros(here.shape, np.int32)
        for other in range(size):
            there = blocks[:, :, other::size]
            common = min(here.shape[2], there.shape[2])
            ahead = np.greater_equal if other < place else np.greater
            if other != place:
                rank[:, :, :common] += ahead(there[:, :, :common], here[:, :, :common])
        lengths = np.minimum(size, length - np.arange(0, length, size)[: here.shape[2]])
        kept[:, :, place::size] = rank < -(-lengths * pattern.keep // pattern.group)[:, None]
    return kept
