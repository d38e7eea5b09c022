"""Weights that a TFLite file stores sparse (traversal order, block map, dense and compressed axes), written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Axis:
    """One level of the traversal: `size` entries each, or compressed: entry p has indices[segments[p]:segments[p+1]]"""

    size: int
    segments: np.ndarray | None = None
    indices: np.ndarray | None = None


def densify(
    values: np.ndarray, shape: Sequence[int], order: Sequence[int], block_map: Sequence[int], axes: Sequence[Axis]
) -> np.ndarray:
    """The dense array of `shape` whose stored entries are `values`; the rest is zero.

    Level i walks axis order[i] of the shape followed by the axes inside a block, which `block_map` gives in turn.
    Raises ValueError where the parts do not fit each other.
    """
    rank = len(shape)
    if sorted(order) != list(range(rank + len(block_map))) or len(axes) != len(order):
        raise ValueError("the traversal order of a sparse tensor does not fit its shape")
    if any(not 0 <= axis < rank for axis in block_map):
        raise ValueError("the block map of a sparse tensor does not fit its shape")
    blocks = _block_sizes(rank, order, block_map, axes)
    places = [np.zeros(1, np.int64) for _ in shape]
    count = 1
    for axis, level in zip(order, axes, strict=True):
        parents, coordinates = _children(level, count, math.prod(shape))
        count = len(parents)
        places = [place[parents] for place in places]
        target = axis if axis < rank else block_map[axis - rank]
        places[target] = places[target] + coordinates * (blocks[target] if axis < rank else 1)
    if count != values.size:
        raise ValueError(f"a sparse tensor has {values.size} values for {count} places")
    if any(np.any(place >= size) for place, size in zip(places, shape, strict=True)):
        raise ValueError("a sparse tensor has a value outside its shape")
    dense = np.zeros(tuple(shape), values.dtype)
    dense[tuple(places)] = values
    return dense


def _block_sizes(rank: int, order: Sequence[int], block_map: Sequence[int], axes: Sequence[Axis]) -> list[int]:
    sizes = [1] * rank
    for axis, level in zip(order, axes, strict=True):
        if axis >= rank:
            if level.segments is not None or level.size < 1:
                raise ValueError("the inside of a block must be dense")
            sizes[block_map[axis - rank]] *= level.size
    return sizes


def _children(level: Axis, count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """For every entry of a level the number of its parent and its coordinate along the level's axis."""
    if level.segments is None or level.indices is None:
        if level.size < 1 or count * level.size > limit:
            raise ValueError("a dense axis of a sparse tensor does not fit its shape")
        return np.repeat(np.arange(count), level.size), np.tile(np.arange(level.size), count)
    lengths = np.diff(level.segments)
    if len(lengths) != count or np.any(lengths < 0) or level.segments[0] != 0:
        raise ValueError("the segments of a sparse tensor do not fit its shape")
    if level.segments[-1] != len(level.indices) or np.any(level.indices < 0) or len(level.indices) > limit:
        raise ValueError("the indices of a sparse tensor do not fit its segments")
    return np.repeat(np.arange(count), lengths), level.indices
