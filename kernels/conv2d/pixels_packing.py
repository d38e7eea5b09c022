"""Weights packed for the pixels kernel: per output channel, the positions that have a weight."""

from __future__ import annotations

import numpy as np

TURN = 4
"""Entries of one turn of the loop over those of several outputs."""


def pack_entries(weights: np.ndarray, offsets: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The non-zero `weights` [groups, taps, in, out] and their `offsets` [groups, taps, in], one list an output.

    Returns (values float32, offsets int32, table int32): the list of output channel o (over all groups) and block b of
    `block` input channels is [table[b*outputs + o], table[b*outputs + o + 1]), ordered by channel, then tap.
    """
    groups, _, inputs, outputs = weights.shape
    values, places, counts = [], [], []
    for first in range(0, inputs, block):
        for group in range(groups):
            part = weights[group, :, first : first + block].transpose(2, 1, 0).reshape(outputs, -1)
            where = offsets[group, :, first : first + block].T.ravel()
            kept = part != 0
            values.append(part[kept])
            places.append(np.broadcast_to(where, part.shape)[kept])
            counts.append(kept.sum(1))
    table = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    # A list may be empty, an array that is stored must not.
    packed = np.concatenate([*values, [0.0]]).astype(np.float32), np.concatenate([*places, [0]]).astype(np.int32)
    return *packed, table.astype(np.int32)


def pack_together(
    weights: np.ndarray, offsets: np.ndarray, together: int, reach: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `weights` [groups, taps, in, out] of every `together` outputs, where any is kept, and their `offsets`.

    Returns (values float32, steps int32, table int32): list b is [table[b], table[b + 1]), ordered by channel, then
    tap, with `together` values for each step. A step is in bytes: from an output pixel's own place, but within a whole
    turn from where the kernel is `reach` bytes after the entry before.
    """
    groups, _, _, outputs = weights.shape
    values, places, counts = [], [], []
    for group in range(groups):
        where = offsets[group].T.ravel().astype(np.int64) * 4
        for first in range(0, outputs, together):
            part = weights[group, :, :, first : first + together].transpose(1, 0, 2).reshape(-1, together)
            kept = np.flatnonzero(part.any(1))
            values.append(part[kept].ravel())
            places.append(_steps(where[kept], reach))
            counts.append(len(kept))
    table = np.concatenate([[0], np.cumsum(counts)])
    packed = np.concatenate([*values, [0.0]]).astype(np.float32), np.concatenate([*places, [0]]).astype(np.int32)
    return *packed, table.astype(np.int32)


def _steps(places: np.ndarray, reach: int) -> np.ndarray:
    steps = places.copy()
    steps[1:] -= places[:-1] + reach
    number = np.arange(len(places))
    absolute = (number % TURN == 0) | (number >= len(places) // TURN * TURN)
    return np.where(absolute, places, steps)
