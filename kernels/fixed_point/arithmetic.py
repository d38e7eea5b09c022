"""Fixed-point rescaling of int32 sums: real multipliers as a 31-bit fraction and a shift, rounded once.

Source: the TFLite 8-bit quantization specification, in its single-rounding form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_FRACTION = 1 << 31
_MOST_LEFT = 30
_LEAST = -31


@dataclass(frozen=True)
class Multiplier:
    """A real factor: `value` in [2**30, 2**31) or 0, times 2**(shift - 31)."""

    value: int
    shift: int


def multiplier_of(real: float) -> Multiplier:
    """The fixed-point form of a real factor >= 0; one below 2**-32 becomes 0."""
    fraction, shift = math.frexp(real)
    value = math.floor(fraction * _FRACTION + 0.5)
    if value == _FRACTION:
        value, shift = value // 2, shift + 1
    if shift < _LEAST or value == 0:
        return Multiplier(0, 0)
    if shift > _MOST_LEFT:
        return Multiplier(_FRACTION - 1, _MOST_LEFT)
    return Multiplier(value, shift)


def rescaled(sums: np.ndarray, values: np.ndarray | int, shifts: np.ndarray | int) -> np.ndarray:
    """`sums` times their factors, to the nearest integer, half upward: int32 of the broadcast shape."""
    total = 31 - np.asarray(shifts, np.int64)
    half = np.int64(1) << (total - 1)
    return ((sums.astype(np.int64) * np.asarray(values, np.int64) + half) >> total).astype(np.int32)


@dataclass(frozen=True)
class Requantize:
    """How int32 sums [..., channels] become int8: rescaled per channel, shifted by `zero`, kept to [low, high].

    `values` and `shifts` are int32 [channels], as in `Multiplier`.
    """

    values: np.ndarray
    shifts: np.ndarray
    zero: int
    low: int = -128
    high: int = 127

    @classmethod
    def of(cls, factors: np.ndarray, zero: int, low: int = -128, high: int = 127) -> Requantize:
        """From real factors, float64 [channels]: input scale times weight scale over output scale."""
        found = [multiplier_of(float(factor)) for factor in factors]
        values = np.array([factor.value for factor in found], np.int32)
        return cls(values, np.array([factor.shift for factor in found], np.int32), zero, low, high)

    def apply(self, sums: np.ndarray) -> np.ndarray:
        """The int8 results of int32 `sums` [..., channels]."""
        return np.clip(rescaled(sums, self.values, self.shifts) + self.zero, self.low, self.high).astype(np.int8)
