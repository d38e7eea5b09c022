"""Data movement: layout change, channel gather and concatenation, nearest upsampling, strided slices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import Format, Kernel, Machine, View
from edgeprune.kernels.elementwise.axes import Axis, vectors
from edgeprune.kernels.elementwise.copy import Copy
from edgeprune.kernels.elementwise.runs import Run, channel_runs
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.script import Memory

MOST_COPIES = 4
MOST_RUNS = 64


@dataclass(frozen=True)
class Move:
    """y[n, c, i, j] = x[n, channels[c], oy + (i * sy) // uy, ox + (j * sx) // ux].

    `channels` None is the identity; -1 writes zeros. `step` is (sy, sx), `repeat` (uy, ux), `origin` (oy, ox).
    `y` does not overlap `x`. Both views have one format.
    """

    x: View
    y: View
    channels: tuple[int, ...] | None = None
    step: tuple[int, int] = (1, 1)
    repeat: tuple[int, int] = (1, 1)
    origin: tuple[int, int] = (0, 0)

    def source(self, axis: int, index: Any) -> Any:
        """The row (`axis` 0) or column (1) of x that row or column `index` of y shows."""
        step, repeat = self.step[axis], self.repeat[axis]
        return self.origin[axis] + (index * step if repeat == 1 else index * step // repeat)


def build_move(problem: Move, machine: Machine) -> Kernel:
    """The kernel of `problem` over (x, [channel table], y).

    Raises ValueError where the formats of the views differ.
    """
    if problem.x.format != problem.y.format:
        raise ValueError("a move needs one format")
    problem = _unscaled(problem)
    y, lanes = problem.y, machine.lanes * 4 // problem.y.format.itemsize
    copies = _copies(problem)
    if copies is not None:
        func, units = _copy_function(tuple(copies), lanes)
        return Kernel(func, units, label="move")
    runs = channel_runs(problem.channels or tuple(range(y.channels)))
    if problem.x.channel_stride == y.channel_stride == 1 and len(runs) <= MOST_RUNS:
        return Kernel(_pixel_function(problem, lanes), y.batch * y.height, label="move channels")
    table = np.array(problem.channels or range(y.channels), np.int32)
    func = _plane_function(_without_channels(problem), lanes)
    return Kernel(func, y.batch * y.channels, (table,), label="move planes")


def _unscaled(problem: Move) -> Move:
    """The same move for every scale, so that equal ones share a function; zeros matter where they are written."""
    held = problem.y.format
    if not held.quantized:
        return problem
    format = Format(held.dtype, zero=held.zero if problem.channels and min(problem.channels) < 0 else 0)
    return replace(problem, x=replace(problem.x, format=format), y=replace(problem.y, format=format))


def _without_channels(problem: Move) -> Move:
    return Move(problem.x, problem.y, None, problem.step, problem.repeat, problem.origin)


def _copies(problem: Move) -> list[Copy] | None:
    """The problem as a few copies by strides, or None where they would be many or do not exist."""
    rows = _axes(problem, 0, problem.y.height, (problem.y.row_stride, problem.x.row_stride))
    columns = _axes(problem, 1, problem.y.width, (problem.y.pixel_stride, problem.x.pixel_stride))
    if rows is None or columns is None:
        return None
    runs = channel_runs(problem.channels or tuple(range(problem.y.channels)))
    within_pixels = problem.x.channel_stride == problem.y.channel_stride == 1
    if len(runs) > (1 if within_pixels else MOST_COPIES) or any(run.ways > 1 for run in runs):
        return None
    images = Axis(problem.y.batch, (problem.y.batch_stride, problem.x.batch_stride))
    corner = element(problem.x, 0, 0, *problem.origin)
    copies = []
    for run in runs:
        channels = Axis(run.length, (problem.y.channel_stride, problem.x.channel_stride * run.step))
        y_start = problem.y.offset + run.first * problem.y.channel_stride
        x_start = corner + run.source * problem.x.channel_stride
        axes = (images, channels, *rows, *columns)
        copies.append(Copy(axes, y_start, x_start, run.empty, problem.y.format))
    return copies


def _axes(problem: Move, axis: int, extent: int, strides: tuple[int, int]) -> list[Axis] | None:
    common = gcd(problem.step[axis], problem.repeat[axis])
    step, repeat = problem.step[axis] // common, problem.repeat[axis] // common
    if repeat == 1:
        return [Axis(extent, (strides[0], strides[1] * step))]
    if step > 1 or extent % repeat:
        return None
    return [Axis(extent // repeat, (strides[0] * repeat, strides[1])), Axis(repeat, (strides[0], 0))]


@lru_cache(maxsize=512)
def _copy_function(copies: tuple[Copy, ...], lanes: int) -> tuple[Any, int]:
    emitters = [copy.emitter(lanes) for copy in copies]
    total = sum(emitter.units.count for emitter in emitters)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        first = 0
        for emitter in emitters:
            count = emitter.units.count
            low, high = (tirx.max(0, tirx.min(count, edge - first)) for edge in (begin, end))
            bounds = (begin, end) if len(emitters) == 1 else (script.let(low), script.let(high))
            emitter.emit(memories[1], memories[0], *bounds)
            first += count

    return script.kernel_function([copies[0].format.dtype] * 2, body), total


@lru_cache(maxsize=512)
def _pixel_function(problem: Move, lanes: int) -> Any:
    """Channels-last to channels-last, pixel by pixel; one unit is one row of y."""
    x, y = problem.x, problem.y
    runs = channel_runs(problem.channels or tuple(range(y.channels)))

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        with script.serial(begin, end) as unit, script.serial(0, y.width) as column:
            image, row = unit // y.height, unit % y.height
            to = script.let(element(y, image, 0, row, column))
            source = script.let(element(x, image, 0, problem.source(0, row), problem.source(1, column)))
            for run in runs:
                _copy_run(memories, run, (to, source), lanes, y.format)

    return script.kernel_function([y.format.dtype] * 2, body)


def _copy_run(memories: list[Memory], run: Run, places: tuple[Any, Any], lanes: int, format: Format) -> None:
    to, source = places
    if run.ways == 2:
        _interleave(memories, run, to, source, lanes)
        return
    for first, width in vectors(run.length, lanes):
        value = memories[0].load(source + (first * run.step + run.source), width, run.step)
        memories[1].store(to + (first + run.first), script.zeros(format, width) if run.empty else value, width)


def _interleave(memories: list[Memory], run: Run, to: Any, source: Any, lanes: int) -> None:
    """Channels from two places in turns, `run.apart` channels between them."""
    for first, width in vectors(run.length // 2, lanes):
        start = source + (first + run.source)
        pair = [script.let(memories[0].load(start + way * run.apart, width)) for way in (0, 1)]
        for half in (0, 1):
            order = [(half * width + lane) // 2 + (half * width + lane) % 2 * width for lane in range(width)]
            value = script.shuffle(pair, order) if width > 1 else pair[half]
            memories[1].store(to + (2 * first + run.first + half * width), value, width)


@lru_cache(maxsize=512)
def _plane_function(problem: Move, lanes: int) -> Any:
    """Any layouts, the source of each channel from a table; one unit is one channel of one image."""
    x, y = problem.x, problem.y
    even = problem.repeat[1] == 1
    stride = x.pixel_stride * problem.step[1]

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        with script.serial(begin, end) as unit:
            image, channel = unit // y.channels, unit % y.channels
            wanted = script.let(memories[1].load(channel))

            def run(empty: bool) -> None:
                with script.serial(0, y.height) as row:
                    to = script.let(element(y, image, channel, row, 0))
                    source = script.let(element(x, image, wanted, problem.source(0, row), problem.origin[1]))
                    for column, width in vectors(y.width, lanes if even or empty else 1):
                        along = (
                            column * stride if even else column * problem.step[1] // problem.repeat[1] * x.pixel_stride
                        )
                        nothing = script.zeros(y.format, width)
                        value = nothing if empty else memories[0].load(source + along, width, stride)
                        memories[2].store(to + column * y.pixel_stride, value, width, y.pixel_stride)

            script.either(wanted < 0, lambda: run(True), lambda: run(False))

    return script.kernel_function([x.format.dtype, script.INTEGER, y.format.dtype], body)
