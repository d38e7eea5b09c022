"""Exponentials and reciprocals in 32-bit fixed point, as TFLite's int8 softmax, logistic and tanh are made of them.

Numbers are raw int32: value times 2**(31 - integer bits). Source: the gemmlowp fixed-point functions that TFLite's
reference kernels are defined by; arrays are int64 that hold int32 values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_LARGEST = 2**31 - 1
_STEPS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp of -1/4, -1/2, -1, -2, -4, -8, -16 with no integer bits."""
_EXP_EIGHTH = 1895147668
_THIRD = 715827883
RATIO_48_OVER_17, MINUS_32_OVER_17 = 1515870810, -1010580540


def product(left: np.ndarray, right: np.ndarray | int) -> np.ndarray:
    """The product as a fraction of 2**31, to the nearest, halves upward."""
    return np.minimum((left * right + (1 << 30)) >> 31, _LARGEST)


def halved(value: np.ndarray, times: int | np.ndarray) -> np.ndarray:
    """`value` over 2**times, to the nearest, halves away from zero."""
    mask = (np.int64(1) << times) - 1
    threshold = (mask >> 1) + (value < 0)
    return (value >> times) + ((value & mask) > threshold)


def doubled(value: np.ndarray, times: int) -> np.ndarray:
    """`value` times 2**times, kept to int32."""
    return np.clip(value << times, -(2**31), _LARGEST)


def exp_of_negative(value: np.ndarray, integer_bits: int) -> np.ndarray:
    """exp of values <= 0 with that many integer bits, at most 5; the result has none."""
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    below = (value & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(below << integer_bits)
    whole = below - value
    for exponent, factor in zip(range(-2, integer_bits), _STEPS, strict=False):
        result = np.where(whole & (1 << (fraction + exponent)), product(result, factor), result)
    return np.where(value == 0, _LARGEST, result)


def _exp_of_last_quarter(value: np.ndarray) -> np.ndarray:
    """exp on [-1/4, 0), no integer bits, by its series around -1/8."""
    x = value + (1 << 28)
    square = product(x, x)
    cube, fourth = product(square, x), product(square, square)
    tail = halved(product(halved(fourth, 2) + cube, _THIRD) + square, 1)
    return _EXP_EIGHTH + product(x + tail, _EXP_EIGHTH)


def one_over_one_plus(value: np.ndarray) -> np.ndarray:
    """1 / (1 + value) for values in [0, 1], no integer bits, by Newton's steps."""
    return doubled(_reciprocal(value), 1)


def _reciprocal(value: np.ndarray) -> np.ndarray:
    """2 / (1 + value), two integer bits; halved by reading it with one."""
    half = (value + _LARGEST + 1) >> 1
    x = RATIO_48_OVER_17 + product(half, MINUS_32_OVER_17)
    for _ in range(3):
        x = x + doubled(product(x, (1 << 29) - product(half, x)), 2)
    return x


def logistic(value: np.ndarray, integer_bits: int) -> np.ndarray:
    """1 / (1 + exp(-value)), no integer bits."""
    positive = one_over_one_plus(exp_of_negative(-np.abs(value), integer_bits))
    return np.where(value == 0, 1 << 30, np.where(value > 0, positive, _LARGEST - positive))


def tanh(value: np.ndarray, integer_bits: int) -> np.ndarray:
    """tanh, no integer bits."""
    positive = _one_minus_over_one_plus(exp_of_negative(-np.abs(value), integer_bits + 1))
    return np.where(value == 0, 0, np.where(value > 0, positive, -positive))


def _one_minus_over_one_plus(value: np.ndarray) -> np.ndarray:
    """(1 - value) / (1 + value) for values in [0, 1], no integer bits."""
    return doubled(_reciprocal(value) - (1 << 29), 2)


FUNCTIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"Sigmoid": logistic, "Tanh": tanh}
