"""int8 multiplication element by element in integers alone, as TFLite defines it.

Source: the TFLite 8-bit quantization specification (MUL), in its single-rounding form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.kernels.abi import Format
from edgeprune.kernels.fixed_point.arithmetic import Multiplier, multiplier_of, rescaled
from edgeprune.kernels.fixed_point.rescaling import Held, bounded, rescaled_by

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

    def operand(self, side: int, stored: Any, held: Held) -> Any:
        """The int32 expression of what is `stored` of input `side`, less its zero."""
        return stored - self.zeros[side]

    def result(self, left: Any, right: Any, held: Held) -> Any:
        """The int32 expression of the stored product of two operands."""
        return bounded(rescaled_by(left * right, self.factor, _REACH, self.zeros[2], held), self.low, self.high)
