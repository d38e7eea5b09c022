"""Rescaling of a depthwise convolution, folded into its weights: one shift serves all channels.

The sum of channel c is wanted times value[c] * 2**(shift[c] - 31), rounded. Weights and bias times 2**k give the sum
times 2**k, exactly, so with a k of its own every channel is rescaled by the same shift: the high word of
sum * value, plus one constant that holds both the rounding and the output's zero, shifted right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.rescaling import bounded, high_word

_WIDEST = 2**15 - 1
_LARGEST = 2**31 - 1
_ROUND_SHIFTS = 4


@dataclass(frozen=True)
class Folded:
    """Weights int32 [channels, taps] and bias int32 [channels], scaled, for inputs as stored (their zero is folded in).

    `shift` is what remains to be done beyond the high word, the same for all; None where no such shift exists, and
    `shifts` int32 [channels] count from the low word's end.
    """

    weights: np.ndarray
    bias: np.ndarray
    values: np.ndarray
    shifts: np.ndarray
    shift: int | None


def fold(weights: np.ndarray, bias: np.ndarray | None, zero: int, requantize: Requantize) -> Folded:
    """Fold the input's `zero` into the bias and, where int16 weights and int32 sums allow it, shifts into the weights.

    Raises ValueError where a bias without any scaling leaves int32.
    """
    wide = weights.astype(np.int64)
    start = np.zeros(len(wide), np.int64) if bias is None else bias.astype(np.int64)
    start = start - zero * wide.sum(axis=1)
    if np.abs(start).max(initial=0) > _LARGEST:
        raise ValueError("a bias leaves int32 once the zero of the input is folded in")
    totals = 31 - requantize.shifts.astype(np.int64)
    shift = _common_shift(wide, start, np.where(requantize.values == 0, 33, totals))
    if shift is None:
        return Folded(wide.astype(np.int32), start.astype(np.int32), requantize.values, totals.astype(np.int32), None)
    factors = np.int64(1) << np.where(requantize.values == 0, 0, 32 + shift - totals)
    scaled, moved = wide * factors[:, None], start * factors
    return Folded(scaled.astype(np.int32), moved.astype(np.int32), requantize.values, totals.astype(np.int32), shift)


def _common_shift(weights: np.ndarray, bias: np.ndarray, totals: np.ndarray) -> int | None:
    """The shift beyond the high word that all channels can have; round numbers first, so that code is shared."""
    least = max(1, int(totals.max(initial=33)) - 32)
    candidates = [-(-least // _ROUND_SHIFTS) * _ROUND_SHIFTS, *range(least, least + _ROUND_SHIFTS)]
    largest, reach = np.abs(weights).max(axis=1, initial=0), np.abs(weights).sum(axis=1) * 128 + np.abs(bias)
    for shift in candidates:
        moves = 32 + shift - totals
        if moves.max(initial=0) < 31 and shift < 20:
            factors = np.int64(1) << np.maximum(moves, 0)
            if (largest * factors <= _WIDEST).all() and (reach * factors <= _LARGEST).all():
                return shift
    return None


def rounding(requantize: Requantize, shift: int) -> int:
    """What is added to the high word before it is shifted: half a step, and the output's zero."""
    return (1 << (shift - 1)) + (requantize.zero << shift)


def rescaled_value(total: Any, value: Any, last: Any, requantize: Requantize, shift: int | None) -> Any:
    """The int32 expression, within [low, high], of a folded sum; `last` is its rounding constant, or where `shift` is
    None its own shift."""
    if shift is None:
        return _wide(total, value, last, requantize)
    return bounded((high_word(total, value) + last) >> shift, requantize.low, requantize.high)


def _wide(total: Any, value: Any, shift: Any, requantize: Requantize) -> Any:
    """As TFLite defines it, in 64 bits."""
    one, wide = tirx.IntImm("int64", 1), tirx.Cast("int64", shift)
    product = tirx.Cast("int64", total) * tirx.Cast("int64", value) + (one << (wide - one))
    result = tirx.Cast("int32", product >> wide) + tirx.IntImm("int32", requantize.zero)
    return bounded(result, requantize.low, requantize.high)


def channel_words(folded: Folded) -> np.ndarray:
    """int32 [channels, 2] of bias and value, or [channels, 3] with the shift where each channel has its own."""
    columns = [folded.bias, folded.values]
    if folded.shift is None:
        columns.append(folded.shifts)
    return np.stack(columns, axis=1).astype(np.int32)


def finish(
    memory: script.Memory, index: Any, total: Any, value: Any, last: Any, requantize: Requantize, common: int | None
) -> None:
    """Write the int8 of one folded sum at `index`."""
    result = rescaled_value(total, value, last, requantize, common)
    memory.store(index, tirx.Cast("int8", result))
