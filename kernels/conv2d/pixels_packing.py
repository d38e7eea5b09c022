"""Weights packed for the pixels kernel: per output channel, the positions that have a weight."""

from __future__ import annotations

import numpy as np

from edgeprune.kernels.conv2d.pixels_loop import TURN, Loop


def pack_entries(weights: np.ndarray, offsets: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The non-zero `weights` [groups, taps, in, out] and their `offsets` [groups, taps, in], one list an output.

    Returns (values, offsets int32, table int32): the list of output channel o (over all groups) and block b of
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
    weights: np.ndarray, bias: np.ndarray | None, offsets: np.ndarray, loop: Loop, reach: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `weights` [groups, taps, in, out] of every `loop.together` outputs, where any is kept, and their `offsets`.

    Returns (values float32, steps int32, table int32): list b begins at steps[table[2*b]] and values[table[2*b + 1]],
    as `loop` reads it, where an entry's last load is `reach` bytes from its first.
    """
    groups, _, _, outputs = weights.shape
    biases = np.zeros(groups * outputs) if bias is None else np.asarray(bias)
    values: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    table = []
    for group in range(groups):
        where = offsets[group].T.ravel().astype(np.int64) * 4
        for first in range(0, outputs, loop.together):
            table += [sum(map(len, steps)), sum(map(len, values))]
            part = weights[group, :, :, first : first + loop.together].transpose(1, 0, 2).reshape(-1, loop.together)
            kept = np.flatnonzero(part.any(1))
            start = group * outputs + first
            values += [np.resize(biases[start : start + loop.together], loop.biases), *_filled(part[kept], loop)]
            steps.append(_steps(where[kept], loop, reach))
    # The loop reads on: what the entries after the last would be multiplied by, and where those would lie.
    values.append(np.zeros(loop.group * loop.together))
    steps.append(np.zeros(2))
    return (
        np.concatenate(values).astype(np.float32),
        np.concatenate(steps).astype(np.int32),
        np.array(table, np.int32),
    )


def _filled(weights: np.ndarray, loop: Loop) -> tuple[np.ndarray, np.ndarray]:
    """The weights of a list's entries after what fills up the group of the first."""
    return np.zeros(-len(weights) % loop.group * loop.together), weights.ravel()


def _steps(places: np.ndarray, loop: Loop, reach: int) -> np.ndarray:
    """Where a list enters the loop and how often it runs; the first place, then the bytes from each entry to the next.

    The last step leads back to the last place, which is read once more.
    """
    count = len(places)
    begin = -count % TURN
    if not count:
        return np.array([loop.places[TURN], 0, 0, 0])
    onward = np.append(places[1:], places[-1]) - places - reach
    ahead = loop.pieces == 1
    head = [loop.places[begin], (count + begin) // TURN, places[0], onward[0]]
    return np.array([*head, *[0] * (begin % 2), *onward[ahead:], *[0] * ahead])
