"""How far the output of an int8 product may lie over its input, exactly: a tile is read before it is written."""

from __future__ import annotations

import numpy as np

from edgeprune.kernels.abi import View
from edgeprune.kernels.conv2d.problem import Conv2d


def product_overlap(problem: Conv2d, pixels: int, early: int = 0) -> int:
    """`Kernel.overlaps` of the input, for tiles of `pixels` that do one group after the other.

    A tile's first `early` channels are written while its input is still read.
    """
    x, y, groups = problem.x, problem.y, problem.groups
    tiles = -(-problem.pixels // pixels)
    starts = np.minimum(np.arange(tiles) * pixels, problem.pixels - pixels)
    first = _first_reads(problem)[starts[:, None] + np.arange(pixels)].min(axis=1)
    last = _places(y, np.arange(problem.pixels))[starts + pixels - 1]
    reads = (first[:, None] + np.arange(groups) * problem.group_inputs).ravel()
    writes = (last[:, None] + np.arange(1, groups + 1) * problem.group_outputs - 1).ravel()
    end = _places(x, np.array([x.batch * x.height * x.width - 1]))[0] + x.channels
    unread = np.append(np.minimum.accumulate(reads[::-1])[::-1][1:], np.iinfo(np.int64).max)
    room = np.where(unread >= end, end, unread - np.maximum.accumulate(writes) - 1)
    if early:
        before = last[:, None] + np.arange(groups) * problem.group_outputs + early - 1
        room = np.minimum(room, reads - before.ravel() - 1)
    return int(room.min())


def _first_reads(problem: Conv2d) -> np.ndarray:
    """The first element of x's buffer, of group 0, that each output pixel reads; beyond all where it reads none."""
    x, y = problem.x, problem.y
    found = []
    for axis, (outer, inner) in enumerate(((y.height, x.height), (y.width, x.width))):
        taps = np.arange(outer)[:, None] * problem.strides[axis] - problem.pads[axis]
        taps = taps + np.arange(problem.kernel[axis]) * problem.dilations[axis]
        found.append(np.where((taps >= 0) & (taps < inner), taps, inner).min(axis=1))
    rows, columns = np.meshgrid(*found, indexing="ij")
    places = x.offset + rows * x.row_stride + columns * x.pixel_stride
    places = np.where((rows == x.height) | (columns == x.width), np.iinfo(np.int64).max // 2, places)
    return np.add.outer(np.arange(y.batch) * x.batch_stride, places).ravel()


def _places(view: View, pixels: np.ndarray) -> np.ndarray:
    """Where channel 0 of each pixel lies."""
    image, inside = np.divmod(pixels, view.width * view.height)
    row, column = np.divmod(inside, view.width)
    return view.offset + image * view.batch_stride + row * view.row_stride + column * view.pixel_stride
