"""Weights packed for the pixels kernel: per output channel, the positions that have a weight."""

from __future__ import annotations

import numpy as np


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
