"""Loop nests over tensors of one shape: axes with one stride a tensor, merged where memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.abi import View

ENOUGH_UNITS = 8
CHUNK = 4096


@dataclass(frozen=True)
class Axis:
    """One loop: how often it runs and how many elements each tensor advances, the written tensor first."""

    extent: int
    strides: tuple[int, ...]


def view_axes(views: Sequence[View]) -> list[Axis]:
    """The axes batch, channel, row and column of the first view, with the strides of all of them."""
    first = views[0]
    extents = (first.batch, first.channels, first.height, first.width)
    names = ("batch_stride", "channel_stride", "row_stride", "pixel_stride")
    return [
        Axis(extent, tuple(getattr(view, name) for view in views)) for extent, name in zip(extents, names, strict=True)
    ]


def ordered(axes: Sequence[Axis]) -> list[Axis]:
    """The axes that do repeat, as the written tensor lies in memory: widest stride first; at least one."""
    repeated = [axis for axis in axes if axis.extent > 1]
    if not repeated:
        return [Axis(1, (1,) * len(axes[0].strides))]
    return sorted(repeated, key=lambda axis: -axis.strides[0])


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """Neighbouring loops as one wherever every tensor goes on evenly."""
    result = [axes[0]]
    for axis in axes[1:]:
        if all(outer == inner * axis.extent for outer, inner in zip(result[-1].strides, axis.strides, strict=True)):
            result[-1] = Axis(result[-1].extent * axis.extent, axis.strides)
        else:
            result.append(axis)
    return result


def split_units(axes: Sequence[Axis]) -> tuple[list[Axis], list[Axis]]:
    """Outer axes whose repetitions are units of work, and the axes that one unit runs through; never the last one."""
    outer: list[Axis] = []
    for axis in axes[:-1]:
        if prod(a.extent for a in outer) >= ENOUGH_UNITS:
            break
        outer.append(axis)
    return outer, list(axes[len(outer) :])


def unit_places(outer: Sequence[Axis], unit: Any, starts: Sequence[Any]) -> list[Any]:
    """Where each tensor stands in unit number `unit`, counted from `starts`."""
    places = list(starts)
    for axis in reversed(outer):
        index = script.let(unit % axis.extent)
        unit = unit // axis.extent
        places = advanced(places, axis, index)
    return [script.let(place) for place in places]


def advanced(places: Sequence[Any], axis: Axis, index: Any) -> list[Any]:
    """Where each tensor stands `index` steps along `axis` from `places`."""
    return [place + index * stride for place, stride in zip(places, axis.strides, strict=True)]


def nest(axes: Sequence[Axis], places: Sequence[Any]) -> tuple[ExitStack, list[Any]]:
    """Open the loops of `axes`: the stack that closes them, and where each tensor stands inside."""
    stack, places = ExitStack(), list(places)
    for axis in axes:
        index = stack.enter_context(script.serial(0, axis.extent))
        places = advanced(places, axis, index)
    return stack, places


def vectors(extent: int, lanes: int) -> Iterator[tuple[Any, int]]:
    """Emit loops that cover `extent` exactly: yields (first element, lanes) once a loop body."""
    for start, count, width in script.vector_pieces(extent, lanes):
        if count == 1:
            yield start, width
            continue
        with script.serial(0, count) as index:
            yield start + index * width, width


@dataclass(frozen=True)
class Units:
    """How a merged nest is cut into units: `outer` repetitions times `chunks` pieces of the last axis."""

    outer: list[Axis]
    inner: list[Axis]
    chunk: int
    chunks: int

    @classmethod
    def of(cls, axes: Sequence[Axis], chunk: int = CHUNK) -> Units:
        """Cut `axes`; a long last axis is cut into chunks where nothing else gives work to several threads."""
        outer, inner = split_units(axes)
        alone = len(inner) == 1 and prod(axis.extent for axis in outer) < ENOUGH_UNITS
        return cls(outer, inner, chunk, -(-inner[-1].extent // chunk) if alone else 1)

    @property
    def count(self) -> int:
        """Units of work."""
        return prod(axis.extent for axis in self.outer) * self.chunks

    def emit(self, begin: Any, end: Any, starts: Sequence[Any], run: Callable[[list[Any], int], None]) -> None:
        """Emit the loops; `run(places, extent)` emits the work along the last axis from `places` on."""
        last = self.inner[-1]
        with script.serial(begin, end) as unit:
            places = unit_places(self.outer, unit // self.chunks, starts)
            if self.chunks == 1:
                stack, places = nest(self.inner[:-1], places)
                with stack:
                    run(places, last.extent)
                return
            chunk = script.let(unit % self.chunks)
            places = [script.let(place) for place in advanced(places, last, chunk * self.chunk)]
            script.either(
                chunk < last.extent // self.chunk,
                lambda: run(places, self.chunk),
                lambda: run(places, last.extent % self.chunk),
            )
