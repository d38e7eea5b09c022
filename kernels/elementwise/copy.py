"""Copies between two tensors whose elements correspond by strides: straight, repeated, or transposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.abi import FLOAT32, Format
from edgeprune.kernels.elementwise.axes import Axis, Units, advanced, merged, ordered, vectors
from edgeprune.kernels.elementwise.transpose import transposed
from edgeprune.kernels.script import Memory

WIDEST_BLOCK = 8
BLOCKS = 64


@dataclass(frozen=True)
class Copy:
    """y[y_start + i . y_strides] = x[x_start + i . x_strides] over the index i of `axes`; zero where `empty`.

    The strides of an axis are (y, x). Both are of `format`.
    """

    axes: tuple[Axis, ...]
    y_start: int
    x_start: int
    empty: bool = False
    format: Format = FLOAT32

    def emitter(self, lanes: int) -> Straight | Repeated | Transposed:
        """The way to emit this copy."""
        apart = ordered(self.axes)
        last = apart[-1]
        across = [axis for axis in apart[:-1] if axis.strides[1] == 1]
        if self.empty:
            return Straight(self, merged(apart), lanes)
        if last.strides[0] == 1 and last.strides[1] > 1 and across:
            return Transposed(self, across[0], last, min(lanes, WIDEST_BLOCK))
        if len(apart) > 1 and last.strides == (1, 0) and apart[-2].strides == (last.extent, 1):
            return Repeated(self, merged([*apart[:-2], Axis(1, (0, 0))]), apart[-2], last.extent, lanes)
        return Straight(self, merged(apart), lanes)


class Straight:
    """Vectors along the last axis."""

    def __init__(self, copy: Copy, axes: list[Axis], lanes: int) -> None:
        self.copy, self.axes, self.lanes = copy, axes, lanes
        self.units = Units.of(axes)

    def emit(self, y: Memory, x: Memory, begin: Any, end: Any) -> None:
        """Emit the units [begin, end)."""
        last = self.axes[-1]

        def run(places: list[Any], extent: int) -> None:
            for first, width in vectors(extent, self.lanes):
                to, source = advanced(places, last, first)
                empty = self.copy.empty
                value = script.zeros(self.copy.format, width) if empty else x.load(source, width, last.strides[1])
                y.store(to, value, width, last.strides[0])

        self.units.emit(begin, end, (self.copy.y_start, self.copy.x_start), run)


class Repeated:
    """Vectors along the last axis of x, every element written `times` times over."""

    def __init__(self, copy: Copy, outer: list[Axis], last: Axis, times: int, lanes: int) -> None:
        self.copy, self.last, self.times, self.lanes = copy, last, times, lanes
        self.units = Units.of([*(axis for axis in outer if axis.extent > 1), last])

    def emit(self, y: Memory, x: Memory, begin: Any, end: Any) -> None:
        """Emit the units [begin, end)."""

        def run(places: list[Any], extent: int) -> None:
            for first, width in vectors(extent, self.lanes):
                to, source = advanced(places, self.last, first)
                value = script.let(x.load(source, width))
                for part in range(self.times):
                    order = [(part * width + lane) // self.times for lane in range(width)]
                    copied = script.shuffle([value], order) if width > 1 else value
                    y.store(to + part * width, copied, width)

        self.units.emit(begin, end, (self.copy.y_start, self.copy.x_start), run)


class Transposed:
    """Square blocks: loaded along the axis that is contiguous in x, stored along the one that is in y."""

    def __init__(self, copy: Copy, across: Axis, along: Axis, side: int) -> None:
        self.copy, self.across, self.along, self.side = copy, across, along, side
        outer = [axis for axis in ordered(copy.axes) if axis not in (across, along)]
        self.inner, wide = (along, across) if along.strides[1] > across.strides[0] else (across, along)
        self.units = Units.of([*outer, wide], BLOCKS)

    def emit(self, y: Memory, x: Memory, begin: Any, end: Any) -> None:
        """Emit the units [begin, end)."""
        wide = self.units.inner[-1]

        def run(places: list[Any], extent: int) -> None:
            for first, width in vectors(extent, self.side):
                here = [script.let(place) for place in advanced(places, wide, first)]
                for second, height in vectors(self.inner.extent, self.side):
                    corner = [script.let(place) for place in advanced(here, self.inner, second)]
                    self._block(y, x, corner, (height, width) if self.inner is self.along else (width, height))

        self.units.emit(begin, end, (self.copy.y_start, self.copy.x_start), run)

    def _block(self, y: Memory, x: Memory, corner: Sequence[Any], extents: tuple[int, int]) -> None:
        """Copy `extents` (along, across), both powers of two, as squares of the smaller."""
        side = min(extents)
        for i in range(0, extents[0], side):
            for j in range(0, extents[1], side):
                to = corner[0] + (i + j * self.across.strides[0])
                source = corner[1] + (i * self.along.strides[1] + j)
                rows = [script.let(x.load(source + k * self.along.strides[1], side)) for k in range(side)]
                for k, column in enumerate(transposed(rows)):
                    y.store(to + k * self.across.strides[0], column, side)
