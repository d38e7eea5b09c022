"""int8 addition in integers alone, as TFLite defines it: both inputs on a common, finer grid, then to the output's.

Source: the TFLite 8-bit quantization specification (ADD), in its single-rounding form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import Format, Kernel, Machine, View
from edgeprune.kernels.fixed_point.arithmetic import Multiplier, multiplier_of, rescaled
from edgeprune.kernels.fixed_point.rescaling import (
    bounded,
    elements,
    int32_of,
    intrinsic,
    one_line,
    rescaled_by,
    whole,
    word,
)
from edgeprune.kernels.script import Memory

_FINER = 20
"""Bits below the inputs' grids that their sum keeps."""
_REACH = 255
_GROUP = 4
_PAIRED = ("smlad", "mve")
_UPPER_BYTES = 0xFF00FF00


@dataclass(frozen=True)
class Addition:
    """The factors of left + `sign` * right: inputs to the common grid, sum to the output's, bounds of the result."""

    left: Multiplier
    right: Multiplier
    output: Multiplier
    zeros: tuple[int, int, int]
    sign: int
    low: int
    high: int

    @classmethod
    def of(cls, left: Format, right: Format, y: Format, low: int, high: int, sign: int = 1) -> Addition:
        """From the formats of the inputs and the output; scales are single-precision numbers."""
        scales = [float(np.float32(format.scale)) for format in (left, right, y)]
        twice = 2.0 * max(scales[0], scales[1])
        return cls(
            multiplier_of(scales[0] / twice),
            multiplier_of(scales[1] / twice),
            multiplier_of(twice / ((1 << _FINER) * scales[2])),
            (left.zero, right.zero, y.zero),
            sign,
            low,
            high,
        )

    def apply(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The int8 results of int8 arrays."""
        finer = [
            rescaled((array.astype(np.int64) - zero) << _FINER, factor.value, factor.shift).astype(np.int64)
            for array, zero, factor in zip((left, right), self.zeros[:2], (self.left, self.right), strict=True)
        ]
        total = finer[0] + self.sign * finer[1]
        result = rescaled(total, self.output.value, self.output.shift) + self.zeros[2]
        return np.clip(result, self.low, self.high).astype(np.int8)

    def finished(self, left: Any, right: Any) -> Any:
        """The int32 expression of a result from both inputs on the common grid."""
        total = left + right if self.sign > 0 else left - right
        result = rescaled_by(total, self.output, 2 * _REACH << (_FINER - 1), self.zeros[2])
        return bounded(result, self.low, self.high)


def build_fixed_addition(left: View, right: View, y: View, low: int, high: int, machine: Machine) -> Kernel:
    """The kernel of y = left + right, within [low, high] in stored units, all in one line; y may lie on an input.

    A unit is four elements. Raises ValueError where sizes differ or elements do not lie together.
    """
    return _built(left, right, y, Addition.of(left.format, right.format, y.format, low, high), machine)


def build_fixed_subtraction(left: View, right: View, y: View, low: int, high: int, machine: Machine) -> Kernel:
    """As `build_fixed_addition`, of left - right."""
    return _built(left, right, y, Addition.of(left.format, right.format, y.format, low, high, -1), machine)


def _built(left: View, right: View, y: View, addition: Addition, machine: Machine) -> Kernel:
    if not all(one_line(view) and elements(view) == elements(y) for view in (left, right, y)):
        raise ValueError("an addition of integers needs inputs and output of one size, each in one line")
    func = _function(elements(y), (left.offset, right.offset, y.offset), addition, machine.dot in _PAIRED)
    distances = tuple(view.offset - y.offset for view in (left, right))
    return Kernel(func, -(-elements(y) // _GROUP), label="fixed addition", overlaps=distances)


@lru_cache(maxsize=256)
def _function(size: int, offsets: tuple[int, int, int], addition: Addition, paired: bool) -> Any:
    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        whole_groups, rest = divmod(size, _GROUP)

        def group(unit: Any, count: int) -> None:
            places = [unit * _GROUP + offset for offset in offsets]
            four = _paired_group if paired and count == _GROUP else _group
            for number, value in enumerate(four(addition, memories, places, count)):
                memories[2].store(places[2] + number, tirx.Cast("int8", value))

        with script.serial(begin, tirx.min(end, whole(whole_groups)) if rest else end) as unit:
            group(unit, _GROUP)
        if rest:
            with script.script.If(end > whole_groups), script.script.Then():
                group(whole(whole_groups), rest)

    return script.kernel_function(["int8", "int8", "int8"], body)


def _group(addition: Addition, memories: list[Memory], places: list[Any], count: int) -> list[Any]:
    """`count` results, one after the other."""

    def finer(number: int, factor: Multiplier, element: int) -> Any:
        value = tirx.Cast("int32", memories[number].load(places[number] + element))
        return script.let(_finer(value - whole(addition.zeros[number]), factor))

    return [
        script.let(addition.finished(finer(0, addition.left, each), finer(1, addition.right, each)))
        for each in range(count)
    ]


def _finer(value: Any, factor: Multiplier) -> Any:
    """An input, its zero taken off, on the common grid."""
    return rescaled_by(value << _FINER, factor, _REACH << _FINER)


def _paired_group(addition: Addition, memories: list[Memory], places: list[Any], count: int) -> list[Any]:
    """Four results with the instructions for pairs of int16; results in order."""
    sides = [
        _finer_four(word(memories[number], places[number]), addition.zeros[number], factor)
        for number, factor in ((0, addition.left), (1, addition.right))
    ]
    return [script.let(addition.finished(*pair)) for pair in zip(*sides, strict=True)]


def _finer_four(loaded: Any, zero: int, factor: Multiplier) -> list[Any]:
    """Four inputs on the common grid.

    (x - zero) * 2**7 fits int16, and a product of 32 by 16 bits gives its upper 32 bits at once.
    """
    if factor.shift < -29 or factor.value == 0:
        return [whole(0)] * _GROUP
    zeros = int32_of((zero & 0xFF) << 8 | (zero & 0xFF) << 24)
    mask = int32_of(_UPPER_BYTES)
    odd = script.let(intrinsic("shsub16", loaded & mask, zeros))
    even = script.let(intrinsic("shsub16", (loaded << 8) & mask, zeros))
    half, shift = whole(1 << (1 - factor.shift)), 2 - factor.shift
    return [
        script.let(intrinsic(name, whole(factor.value), pair, half) >> shift)
        for name, pair in (("smlawb", even), ("smlawb", odd), ("smlawt", even), ("smlawt", odd))
    ]
