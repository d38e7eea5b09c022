"""int8 multiplication element by element in integers alone, as TFLite defines it; one input may be a pixel an image.

Source: the TFLite 8-bit quantization specification (MUL), in its single-rounding form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import Format, Kernel, View
from edgeprune.kernels.fixed_point.arithmetic import Multiplier, multiplier_of, rescaled
from edgeprune.kernels.fixed_point.rescaling import Held, bounded, rescaled_by
from edgeprune.kernels.script import Memory

_REACH = 255 * 255


@dataclass(frozen=True)
class Multiplication:
    """The factor of the product of two inputs less their zeros, the output's zero, bounds of the result."""

    factor: Multiplier
    zeros: tuple[int, int, int]
    low: int
    high: int

    @classmethod
    def of(cls, left: Format, right: Format, y: Format, low: int, high: int) -> Multiplication:
        """From the formats of the inputs and the output; TFLite multiplies their scales in single precision."""
        scales = [np.float32(format.scale) for format in (left, right, y)]
        factor = multiplier_of(float(scales[0] * scales[1] / scales[2]))
        return cls(factor, (left.zero, right.zero, y.zero), low, high)

    def apply(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The int8 results of int8 arrays of shapes that broadcast."""
        product = (left.astype(np.int64) - self.zeros[0]) * (right.astype(np.int64) - self.zeros[1])
        result = rescaled(product, self.factor.value, self.factor.shift) + self.zeros[2]
        return np.clip(result, self.low, self.high).astype(np.int8)


def build_fixed_multiplication(left: View, right: View, y: View, low: int, high: int) -> Kernel:
    """The kernel of y = left * right, within [low, high] in stored units, channels last; y may lie on `left`.

    `right` is as large as `left`, or one pixel for each image. A unit is a row of pixels. Raises ValueError where
    sizes differ otherwise, or channels do not lie together.
    """
    views, size = (left, right, y), _size(y)
    single = (right.height, right.width) == (1, 1)
    fits = _size(left) == size and (_size(right) == size or (single and _size(right)[:2] == size[:2]))
    if not fits or any(view.channel_stride != 1 and view.channels > 1 for view in views):
        raise ValueError("a multiplication of integers needs inputs of one size or one pixel, channels last")
    func, constants = _function(views, Multiplication.of(left.format, right.format, y.format, low, high))
    distances = (_distance(left, y), None if _size(right) != size else _distance(right, y))
    return Kernel(func, y.batch * y.height, (constants,), "fixed multiplication", overlaps=distances)


def _size(view: View) -> tuple[int, int, int, int]:
    return view.batch, view.channels, view.height, view.width


def _distance(view: View, y: View) -> int | None:
    """How far after `view` the output may begin, where both are laid out alike."""
    strides = [(each.batch_stride, each.row_stride, each.pixel_stride) for each in (view, y)]
    return view.offset - y.offset if strides[0] == strides[1] else None


@lru_cache(maxsize=256)
def _function(views: tuple[View, View, View], multiplication: Multiplication) -> tuple[Any, np.ndarray]:
    """The function over (left, right, constants, y), and its constants."""
    constants, y = np.zeros(0, np.int32), views[2]

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        nonlocal constants
        held, places = Held(memories[2]), (memories[0], memories[1], memories[3])

        def value(number: int, at: Any) -> Any:
            return tirx.Cast("int32", places[number].load(at)) - multiplication.zeros[number]

        with script.serial(begin, end) as unit:
            image, row = script.let(tirx.truncdiv(unit, y.height)), script.let(tirx.truncmod(unit, y.height))
            with script.serial(0, y.width) as column:
                first = [script.let(_pixel(view, image, row, column)) for view in views]
                with script.serial(0, y.channels) as channel:
                    product = script.let(value(0, first[0] + channel) * value(1, first[1] + channel))
                    result = rescaled_by(product, multiplication.factor, _REACH, multiplication.zeros[2], held)
                    result = bounded(result, multiplication.low, multiplication.high)
                    places[2].store(first[2] + channel, tirx.Cast("int8", result))
        constants = held.array

    func = script.kernel_function(["int8", "int8", "int32", "int8"], body)
    return func, constants


def _pixel(view: View, image: Any, row: Any, column: Any) -> Any:
    """Where a pixel of `view` begins; its only one, where it has one for each image."""
    place = view.offset + image * view.batch_stride
    place = place + row * view.row_stride if view.height > 1 else place
    return place + column * view.pixel_stride if view.width > 1 else place
