"""int8 addition in integers alone, as TFLite defines it: both inputs on a common, finer grid, then to the output's.

Source: the TFLite 8-bit quantization specification (ADD), in its single-rounding form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder

from edgeprune.kernels import script
from edgeprune.kernels.abi import Format, Kernel, Machine, View
from edgeprune.kernels.fixed_point.addition_mve import NAME as VECTOR_SUM
from edgeprune.kernels.fixed_point.addition_mve import VectorSum
from edgeprune.kernels.fixed_point.arithmetic import Multiplier, multiplier_of, rescaled
from edgeprune.kernels.fixed_point.rescaling import (
    Held,
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
_HALF = Multiplier(1 << 30, 0)
_GROUP = 4
_MOVED = 7
"""Bits by which an input less its zero still fits int16."""
_LEAST_SHIFT = -29
"""Below it the product of an input is nothing on the common grid."""
_ORDER = ((0, "b"), (1, "b"), (0, "t"), (1, "t"))
"""Of each element of a word, its pair and its half there."""
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

    @property
    def vectors(self) -> VectorSum:
        """The same for vectors."""
        exact, factors = (0 if self.left == _HALF else 1), (self.left, self.right)
        return VectorSum(_FINER, exact, factors[1 - exact], self.output, self.zeros[:2], (1, self.sign), self.zeros[2],
                         self.low, self.high)  # fmt: skip

    def operand(self, side: int, stored: Any, held: Held) -> Any:
        """The int32 expression on the common grid of what is `stored` of input `side`."""
        factor, value = (self.left, self.right)[side], stored - self.zeros[side]
        if factor == _HALF:
            return value << (_FINER - 1)
        return rescaled_by(value << _FINER, factor, _REACH << _FINER, 0, held)

    def result(self, left: Any, right: Any, held: Held) -> Any:
        """The int32 expression of the stored sum or difference of two operands."""
        return self.finished(script.let(left + right if self.sign > 0 else left - right), held, False)

    def finished(self, total: Any, held: Held, shared: bool) -> Any:
        """The int32 expression of a result from the sum on the common grid, by code that is `shared` or not."""
        reach = 2 * _REACH << (_FINER - 1)
        return bounded(rescaled_by(total, self.output, reach, self.zeros[2], held, shared), self.low, self.high)


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
    offsets = (left.offset, right.offset, y.offset)
    distances = tuple(view.offset - y.offset for view in (left, right))
    vectors = addition.vectors
    if machine.dot == "mve" and vectors.possible:
        func, units = _vector_function(elements(y), offsets, vectors), -(-elements(y) // _GROUP)
        return Kernel(func, units, (), "fixed addition vectors", overlaps=distances)
    func, constants = _function(elements(y), offsets, addition, machine.dot in _PAIRED)
    return Kernel(func, -(-elements(y) // _GROUP), (constants,), "fixed addition", overlaps=distances)


@lru_cache(maxsize=256)
def _vector_function(size: int, offsets: tuple[int, int, int], vectors: VectorSum) -> Any:
    """The function over (left, right, y)."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        first = script.let(begin * _GROUP)
        count = tirx.min(end * _GROUP, whole(size)) - first
        places = [tirx.address_of(memories[i].buffer[first + offset]) for i, offset in enumerate(offsets)]
        with builder.attr(whole(0), "pragma_import_llvm", vectors.function()):
            builder.evaluate(tirx.call_extern("int32", VECTOR_SUM, *places, count))

    return script.kernel_function(["int8", "int8", "int8"], body)


@lru_cache(maxsize=256)
def _function(size: int, offsets: tuple[int, int, int], addition: Addition, paired: bool) -> tuple[Any, np.ndarray]:
    """The function over (left, right, constants, y), and its constants."""
    constants = np.zeros(0, np.int32)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        nonlocal constants
        groups, rest = divmod(size, _GROUP)
        held, y = Held(memories[2]), memories[3]

        def group(unit: Any, count: int) -> None:
            places = [unit * _GROUP + offset for offset in offsets]
            pairs = paired and count == _GROUP
            sums = _paired_sums if pairs else _sums
            totals = sums(addition, memories, places, count, held)
            values = [script.let(addition.finished(total, held, pairs)) for total in totals]
            for number, value in enumerate(values):
                y.store(places[2] + number, tirx.Cast("int8", value))

        with script.serial(begin, tirx.min(end, whole(groups)) if rest else end) as unit:
            group(unit, _GROUP)
        if rest:
            with builder.If(end > groups), builder.Then():
                group(whole(groups), rest)
        constants = held.array

    func = script.kernel_function(["int8", "int8", "int32", "int8"], body)
    return func, constants


def _sums(addition: Addition, memories: list[Memory], places: list[Any], count: int, held: Held) -> list[Any]:
    """`count` sums on the common grid, one after the other."""

    def finer(number: int, element: int) -> Any:
        return addition.operand(number, tirx.Cast("int32", memories[number].load(places[number] + element)), held)

    found = []
    for element in range(count):
        left, right = finer(0, element), finer(1, element)
        found.append(script.let(left + right if addition.sign > 0 else left - right))
    return found


def _paired_sums(addition: Addition, memories: list[Memory], places: list[Any], count: int, held: Held) -> list[Any]:
    """Four sums on the common grid with the instructions for pairs of int16; one input is halved, exactly."""
    exact = 0 if addition.left == _HALF else 1
    signs, factors = (1, addition.sign), (addition.left, addition.right)
    pairs = [_moved_pairs(word(memories[side], places[side]), addition.zeros[side], held) for side in (0, 1)]
    factor, sign, times = factors[1 - exact], signs[1 - exact], signs[exact] << (_FINER - 1 - _MOVED)
    totals = []
    for pair, half in _ORDER:
        other = pairs[1 - exact][pair]
        if factor == _HALF:
            start = intrinsic(f"smul{half}b", other, whole(sign << (_FINER - 1 - _MOVED)))
        elif factor.value == 0 or factor.shift < _LEAST_SHIFT:
            start = whole(0)
        else:
            rounded = intrinsic(f"smlaw{half}", held(factor.value), other, held(1 << (1 - factor.shift)))
            start = rounded >> (2 - factor.shift)
            start = start if sign > 0 else -start
        totals.append(script.let(intrinsic(f"smla{half}b", pairs[exact][pair], whole(times), start)))
    return totals


def _moved_pairs(loaded: Any, zero: int, held: Held) -> tuple[Any, Any]:
    """Elements 0 and 2, and 1 and 3, of a word, less `zero`, times 2**_MOVED: pairs of int16."""
    both = (zero & 0xFF) << 8 | (zero & 0xFF) << 24
    zeros = script.let(held(both - (both >> 31 << 32)))
    even = script.let(intrinsic("shsub16", (loaded << 8) & int32_of(_UPPER_BYTES), zeros))
    return even, script.let(intrinsic("shsub16", loaded & int32_of(_UPPER_BYTES), zeros))
