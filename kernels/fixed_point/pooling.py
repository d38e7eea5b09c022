"""int8 pooling in integers alone: maxima, averages on the input's grid, and means rescaled to another.

On one grid an average is TFLite's AVERAGE_POOL_2D: the sum of what is stored over the number of real cells, rounded
half away from zero; of unsigned integers, which are stored less 128, half upward. On two grids it is TFLite's MEAN:
the sum less its zeros, times one factor, rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import Format, Kernel, Machine
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.fixed_point.arithmetic import Multiplier, multiplier_of, rescaled
from edgeprune.kernels.fixed_point.rescaling import bounded, intrinsic, kept, rotated, whole, word
from edgeprune.kernels.pool.problem import Pool, Window
from edgeprune.kernels.script import Memory

_GROUP = 4
_PAIRED = ("smlad", "mve")
_PAIRED_CELLS = 255
_MOVED = 128
"""Cells of a window whose sums of int8 fit int16."""


def mean_factor(x: Format, y: Format, count: int) -> Multiplier:
    """What a sum of `count` inputs, less their zeros, is multiplied by: as TFLite's MEAN computes it."""
    factor = multiplier_of(float(np.float32(x.scale)) / float(np.float32(y.scale)))
    moved = min(count.bit_length() - 1, 32, 31 + factor.shift)
    return Multiplier((factor.value << moved) // count, factor.shift - moved)


def one_grid(problem: Pool) -> bool:
    """Whether input and output mean the same by a stored integer."""
    x, y = problem.x.format, problem.y.format
    return (x.scale, x.zero) == (y.scale, y.zero)


def fixed_pool(problem: Pool, x: np.ndarray, unsigned: bool = False) -> np.ndarray:
    """int8 [batch, height, width, channels] of `problem` from int8 `x` of the same layout."""
    y = problem.y
    results = np.zeros((y.batch, y.height, y.width, y.channels), np.int64)
    for row in range(y.height):
        for column in range(y.width):
            axes = [problem.window(axis, output) for axis, output in ((0, row), (1, column))]
            places = [
                [window.first + tap * problem.dilations[axis] for tap in range(window.low, window.high)]
                for axis, window in enumerate(axes)
            ]
            seen = x[:, places[0]][:, :, places[1]].astype(np.int64).reshape(x.shape[0], -1, y.channels)
            results[:, row, column] = _pooled(problem, seen, axes[0].count * axes[1].count, unsigned)
    return np.clip(results, y.format.low, y.format.high).astype(np.int8)


def _pooled(problem: Pool, seen: np.ndarray, count: int, unsigned: bool) -> np.ndarray:
    """Results, not yet bounded, of the cells [batch, cells, channels] of a window."""
    x, y = problem.x.format, problem.y.format
    if problem.kind == "max":
        largest = seen.max(axis=1)
        factor = mean_factor(x, y, 1)
        return largest if one_grid(problem) else rescaled(largest - x.zero, factor.value, factor.shift) + y.zero
    sums = seen.sum(axis=1) + (count - seen.shape[1]) * x.zero
    if one_grid(problem) and unsigned:
        return (sums + count // 2) // count
    if one_grid(problem):
        return np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    factor = mean_factor(x, y, count)
    return rescaled(sums - count * x.zero, factor.value, factor.shift).astype(np.int64) + y.zero


def build_fixed_pool(problem: Pool, machine: Machine, unsigned: bool = False) -> Kernel:
    """The kernel of `problem`, channels last, without a border around x. A unit is an output row.

    `unsigned`: what is stored stands for an integer that is 128 larger. Raises ValueError where an image is not
    channels-last, an epilogue is given, or a window lies outside the image.
    """
    x, y = problem.x, problem.y
    if x.channel_stride != 1 or y.channel_stride != 1 or problem.epilogue:
        raise ValueError("a pooling of integers needs two channels-last images")
    if any(window.high <= window.low for axis in (0, 1) for window in _windows(problem, axis)):
        raise ValueError("a pooling of integers has a window that lies wholly outside the image")
    func = _function(problem, machine.dot in _PAIRED, unsigned)
    table = _factors(problem) if _by_count(problem) else np.zeros((1, 2), np.int32)
    label = f"fixed {problem.kind} pool"
    return Kernel(func, y.batch * y.height, (table.ravel(),), label, overlaps=(_overlap(problem),))


def _windows(problem: Pool, axis: int) -> list[Window]:
    return [problem.window(axis, output) for output in range((problem.y.height, problem.y.width)[axis])]


def _by_count(problem: Pool) -> bool:
    return problem.kind == "average" and not one_grid(problem)


def _counts(problem: Pool) -> range:
    """From the fewest to the most cells that a window counts."""
    axes = [[window.count for window in _windows(problem, axis)] for axis in (0, 1)]
    return range(min(axes[0]) * min(axes[1]), max(axes[0]) * max(axes[1]) + 1)


def _factors(problem: Pool) -> np.ndarray:
    """int32 [counts, 2]: value and total shift of the factor of each number of cells."""
    found = [mean_factor(problem.x.format, problem.y.format, count) for count in _counts(problem)]
    return np.array([(factor.value, 31 - factor.shift) for factor in found], np.int32)


def _overlap(problem: Pool) -> int:
    """How far into x the output may begin: no result reaches what a later channel or pixel reads."""
    x, y = problem.x, problem.y
    rows, columns = (
        [window.first + window.low * problem.dilations[axis] for window in _windows(problem, axis)] for axis in (0, 1)
    )
    firsts = np.array([
        element(x, image, 0, row, column) for image in range(y.batch) for row in rows for column in columns
    ])  # fmt: skip
    places = np.array([
        element(y, image, 0, row, column)
        for image in range(y.batch) for row in range(y.height) for column in range(y.width)
    ])  # fmt: skip
    later = np.minimum.accumulate(firsts[::-1])[::-1]
    same = int((firsts - places).min())
    return min(same, int((later[1:] - places[:-1] - y.channels).min())) if firsts.size > 1 else same


@lru_cache(maxsize=256)
def _function(problem: Pool, paired: bool, unsigned: bool) -> Any:
    """The function over (x, factors, y)."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        maker = _Maker(problem, unsigned, *memories)
        x, y = problem.x, problem.y
        fours = x.channels // _GROUP if paired and maker.pairs else 0
        with script.serial(begin, end) as unit, script.serial(0, y.width) as column:
            at = (unit // y.height, tirx.truncmod(unit, y.height), column)
            windows = [problem.window(0, at[1]), problem.window(1, column)]
            if fours:
                with script.serial(0, fours) as four:
                    maker.four(at, windows, four * _GROUP)
            if fours * _GROUP < x.channels:
                with script.serial(fours * _GROUP, x.channels) as channel:
                    maker.one(at, windows, channel)

    return script.kernel_function(["int8", "int32", "int8"], body)


@dataclass(frozen=True)
class _Maker:
    problem: Pool
    unsigned: bool
    x: Memory
    factors: Memory
    y: Memory

    @property
    def pairs(self) -> bool:
        """Whether sums of int16 pairs serve."""
        return self.problem.kind == "average" and self.problem.kernel[0] * self.problem.kernel[1] <= _PAIRED_CELLS

    def one(self, at: Any, windows: list[Window], channel: Any) -> None:
        """One result of one channel."""
        held = script.local_array(1, "int32")
        average = self.problem.kind == "average"
        held.store(0, whole(0 if average else -128))

        def take(place: Any) -> None:
            value = tirx.Cast("int32", self.x.load(place))
            held.store(0, held.load(0) + value if average else tirx.max(held.load(0), value))

        self._visit(at, windows, channel, take)
        self._finish(at, windows, channel, kept(held.load(0)))

    def four(self, at: Any, windows: list[Window], channel: Any) -> None:
        """The averages of four channels: sums of channels 0 and 2, and of 1 and 3, as pairs of int16."""
        held = script.local_array(2, "int32")
        for pair in (0, 1):
            held.store(pair, whole(0))

        def take(place: Any) -> None:
            loaded = word(self.x, place)
            for pair in (0, 1):
                held.store(pair, intrinsic("sxtab16", held.load(pair), rotated(loaded, 8 * pair)))

        self._visit(at, windows, channel, take)
        for number in range(_GROUP):
            pair = held.load(number % 2)
            value = pair >> 16 if number > 1 else (pair << 16) >> 16
            self._finish(at, windows, channel + number, kept(value))

    def _visit(self, at: Any, windows: list[Window], channel: Any, take: Any) -> None:
        problem = self.problem
        (down, right), strides = problem.dilations, (problem.x.row_stride, problem.x.pixel_stride)
        base = kept(element(problem.x, at[0], channel, windows[0].first, windows[1].first))
        rows, columns = (script.serial(window.low, window.high) for window in windows)
        with rows as row, columns as column:
            take(base + row * (down * strides[0]) + column * (right * strides[1]))

    def _finish(self, at: Any, windows: list[Window], channel: Any, total: Any) -> None:
        problem = self.problem
        place = element(problem.y, at[0], channel, at[1], at[2])
        format = problem.y.format
        value = bounded(self._result(windows, total), format.low, format.high)
        self.y.store(place, tirx.Cast("int8", value))

    def _result(self, windows: list[Window], total: Any) -> Any:
        problem, zero = self.problem, self.problem.x.format.zero
        if problem.kind == "max":
            factor = mean_factor(problem.x.format, problem.y.format, 1)
            if one_grid(problem):
                return total
            return self._rescaled(total - zero, whole(factor.value), whole(31 - factor.shift))
        count = windows[0].count * windows[1].count
        inside = (windows[0].high - windows[0].low) * (windows[1].high - windows[1].low)
        if problem.count_include_pad:
            total = kept(total + (count - inside) * zero)
        if one_grid(problem):
            half = tirx.truncdiv(whole(count) if isinstance(count, int) else count, whole(2))
            if self.unsigned:
                return tirx.truncdiv(kept(total + count * _MOVED + half), count) - _MOVED
            return tirx.truncdiv(kept(tirx.Select(total > 0, total + half, total - half)), count)
        place = (count - _counts(problem).start) * 2
        return self._rescaled(total - count * zero, self.factors.load(place), self.factors.load(place + 1))

    def _rescaled(self, total: Any, value: Any, shift: Any) -> Any:
        one = tirx.IntImm("int64", 1)
        wide = tirx.Cast("int64", shift)
        product = tirx.Cast("int64", total) * tirx.Cast("int64", value)
        return tirx.Cast("int32", (product + (one << (wide - one))) >> wide) + whole(self.problem.y.format.zero)
