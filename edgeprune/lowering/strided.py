"""Where the elements of one IR value lie in a buffer, and the arithmetic of such places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import numpy as np

from edgeprune.kernels.abi import FLOAT32, Format, View


@dataclass(frozen=True)
class Strided:
    """An array inside `buffer`: element index i lies at `offset + sum(i * strides)`, counted in elements."""

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def is_dense(self) -> bool:
        """Whether the elements lie row-major, without gaps, from the start of the buffer."""
        return self.offset == 0 and _significant(self) == _significant(dense(self.buffer, self.shape))

    def places(self) -> np.ndarray:
        """The place of every element, an int64 array of the value's shape."""
        places = np.full(self.shape, self.offset, dtype=np.int64)
        for axis, (extent, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            places += (np.arange(extent) * stride).reshape(
                [-1 if other == axis else 1 for other in range(len(self.shape))]
            )
        return places


def dense(buffer: str, shape: tuple[int, ...]) -> Strided:
    """The row-major array of `shape` at the start of `buffer`."""
    strides = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Strided(buffer, shape, strides)


def fit(buffer: str, places: np.ndarray) -> Strided | None:
    """The strided array whose places are `places`, or None where no strides give them."""
    if places.size == 0:
        return None
    origin = int(places.flat[0])
    first = (0,) * places.ndim
    strides = []
    for axis, extent in enumerate(places.shape):
        second = tuple(1 if other == axis else 0 for other in range(places.ndim))
        strides.append(int(places[second]) - int(places[first]) if extent > 1 else 0)
    found = Strided(buffer, tuple(places.shape), tuple(strides), origin)
    return found if np.array_equal(found.places(), places) else None


def beside(place: Strided, neighbours: Strided) -> Strided:
    """`place` with the strides of `neighbours`, an image of the same rank, along rows and columns of one pixel.

    They say where the border lies, which the places of the pixels alone cannot.
    """
    strides = tuple(
        other if axis > 1 and extent == 1 else stride
        for axis, (extent, stride, other) in enumerate(zip(place.shape, place.strides, neighbours.strides, strict=True))
    )
    return replace(place, strides=strides)


def image_view(place: Strided, format: Format = FLOAT32) -> View:
    """`place` of shape [N, C, H, W], [N, C, W], [N, C] or [C], stored in `format`, as the kernels see images."""
    batch, channels, height, width = image_shape(place.shape)
    strides = image_shape(place.strides, missing=0)
    return View(
        batch=batch,
        channels=channels,
        height=height,
        width=width,
        offset=place.offset,
        batch_stride=strides[0],
        channel_stride=strides[1],
        row_stride=strides[2],
        pixel_stride=strides[3],
        format=format,
    )


def image_shape(shape: tuple[int, ...], missing: int = 1) -> tuple[int, int, int, int]:
    """[N, C, H, W] of an image of rank 4, 3 (one row), 2 or 1 (one pixel)."""
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if len(shape) == 3:
        return shape[0], shape[1], missing, shape[2]
    if len(shape) == 2:
        return shape[0], shape[1], missing, missing
    return missing, shape[0], missing, missing


def matrix_view(place: Strided, format: Format = FLOAT32) -> View | None:
    """`place` of shape [..., K] as an image of one row whose pixels are the rows, or None where rows lie unevenly."""
    shape, strides = place.shape, place.strides
    rows = prod(shape[:-1])
    outer = [(extent, stride) for extent, stride in zip(shape[:-1], strides[:-1], strict=True) if extent > 1]
    for (_, stride), (extent, inner) in pairwise(outer):
        if stride != extent * inner:
            return None
    row_stride = outer[-1][1] if outer else 0
    channel_stride = strides[-1] if shape[-1] > 1 else 1
    return View(1, shape[-1], 1, rows, place.offset, 0, channel_stride, 0, row_stride, format)


def copy_views(source: Strided, target: Strided) -> tuple[View, View] | None:
    """The same copy as two images, or None where it needs more than four loops."""
    if len(target.shape) == 4:
        return image_view(source), image_view(target)
    loops = [
        (extent, from_stride, to_stride)
        for extent, from_stride, to_stride in zip(target.shape, source.strides, target.strides, strict=True)
        if extent > 1
    ]
    loops.sort(key=lambda loop: -loop[2])
    merged: list[tuple[int, int, int]] = []
    for extent, from_stride, to_stride in loops:
        if merged and merged[-1][1] == extent * from_stride and merged[-1][2] == extent * to_stride:
            merged[-1] = (merged[-1][0] * extent, from_stride, to_stride)
        else:
            merged.append((extent, from_stride, to_stride))
    if len(merged) > 4:
        return None
    (n, ns, nt), (h, hs, ht), (w, ws, wt), (c, cs, ct) = [(1, 0, 0)] * (4 - len(merged)) + merged
    return View(n, c, h, w, source.offset, ns, cs, hs, ws), View(n, c, h, w, target.offset, nt, ct, ht, wt)


def _significant(place: Strided) -> tuple[tuple[int, int], ...]:
    return tuple((extent, stride) for extent, stride in zip(place.shape, place.strides, strict=True) if extent > 1)
