"""int8 functions of one variable as tables of 256 results; among them the change from one grid to another.

Functions are those of TFLite's int8 kernels: a table of single-precision results, each rounded half away from zero
(as its lookup tables are made), except where its reference has a fixed-point definition of its own: the change of
grid and LeakyRelu, which are two multipliers, in single rounding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder

from edgeprune.kernels import script
from edgeprune.kernels.abi import Activation, Format, Kernel, Machine, View
from edgeprune.kernels.activation import reference
from edgeprune.kernels.fixed_point.arithmetic import Multiplier, multiplier_of, rescaled
from edgeprune.kernels.fixed_point.rescaling import elements, one_line, whole
from edgeprune.kernels.script import Memory

_STORED = np.arange(-128, 128)
_GROUP = 4


def fixed_table(function: Activation | None, x: Format, y: Format) -> np.ndarray:
    """The int8 [256] that `function` (None: no more than a change of grid) gives of the stored values -128 to 127."""
    scales = np.float32(x.scale), np.float32(y.scale)
    if function is None or function.name in ("Identity", "Relu", "Clip"):
        return np.clip(_rescaled_table(x, y, scales), *_bounds(function, y)).astype(np.int8)
    if function.name == "LeakyRelu":
        return np.clip(_leaky_table(function.alpha, x, y, scales), y.low, y.high).astype(np.int8)
    reals = scales[0] * (_STORED - x.zero).astype(np.float32)
    steps = reference(function, reals) * (np.float32(1) / scales[1])
    rounded = np.copysign(np.floor(np.abs(steps.astype(np.float64)) + 0.5), steps)
    finite = np.nan_to_num(rounded, nan=0.0, posinf=1e6, neginf=-1e6)
    return np.clip(finite + y.zero, y.low, y.high).astype(np.int8)


def _factor(numerator: np.float32, denominator: np.float32, times: np.float32) -> Multiplier:
    """TFLite computes these in double precision of single-precision scales, the slope in single precision first."""
    return multiplier_of(float(numerator * times) / float(denominator))


def _rescaled_table(x: Format, y: Format, scales: tuple[np.float32, np.float32]) -> np.ndarray:
    factor = _factor(*scales, np.float32(1))
    return _saturated(_STORED - x.zero, factor) + y.zero


def _leaky_table(alpha: float, x: Format, y: Format, scales: tuple[np.float32, np.float32]) -> np.ndarray:
    centred = _STORED - x.zero
    slope = np.float32(abs(alpha))
    below = _saturated(centred, _factor(*scales, slope)) * (-1 if alpha < 0 else 1)
    return np.where(centred >= 0, _saturated(centred, _factor(*scales, np.float32(1))), below) + y.zero


def _saturated(values: np.ndarray, factor: Multiplier) -> np.ndarray:
    """`values` times `factor`, rounded once, as int64."""
    if factor.shift > 16:
        return np.sign(values) * (1 << 20)
    return rescaled(values.astype(np.int64), factor.value, factor.shift).astype(np.int64)


def _bounds(function: Activation | None, y: Format) -> tuple[int, int]:
    """The least and largest stored result."""
    if function is None or function.name == "Identity":
        return y.low, y.high
    ends = (0.0, np.inf) if function.name == "Relu" else (function.alpha, function.beta)
    low, high = (_nearest(end, y) for end in ends)
    return min(max(y.low, low), y.high), max(min(y.high, high), y.low)


def _nearest(real: float, format: Format) -> int:
    steps = np.clip(np.float64(real) / np.float64(np.float32(format.scale)), -1e6, 1e6)
    return format.zero + int(np.copysign(np.floor(np.abs(steps) + 0.5), steps))


def build_fixed_table(x: View, y: View, table: np.ndarray, machine: Machine) -> Kernel:
    """The kernel of y = `table` of x, int8 [256] by the stored value plus 128; y may take the place of x.

    A unit is four elements. Raises ValueError where sizes differ or elements do not lie together.
    """
    if not (one_line(x) and one_line(y)) or elements(x) != elements(y) or table.shape != (256,):
        raise ValueError("a table of integers needs an input and an output of one size, each in one line")
    units = -(-elements(x) // _GROUP)
    by_byte = np.roll(table.astype(np.int8), 128)
    func = _function(elements(x), x.offset, y.offset)
    return Kernel(func, units, (by_byte,), "fixed table", overlaps=(x.offset - y.offset,))


@lru_cache(maxsize=256)
def _function(size: int, first: int, to: int) -> Any:
    """The function over (x, table by the byte stored, y)."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        x, table, y = memories
        groups, rest = divmod(size, _GROUP)

        def group(unit: Any, count: int) -> None:
            stored = [x.load(first + unit * _GROUP + number) for number in range(count)]
            places = [tirx.Cast("int32", tirx.Cast("uint8", value)) for value in stored]
            values = [script.let(table.load(place)) for place in places]
            for number, value in enumerate(values):
                y.store(to + unit * _GROUP + number, value)

        with script.serial(begin, tirx.min(end, whole(groups)) if rest else end) as unit:
            group(unit, _GROUP)
        if rest:
            with builder.If(end > groups), builder.Then():
                group(whole(groups), rest)

    return script.kernel_function(["int8", "int8", "int8"], body)
