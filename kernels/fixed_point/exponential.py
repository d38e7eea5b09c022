"""Exponentials and reciprocals in fixed point, as TFLite's int8 softmax, logistic and tanh are made of them.

Numbers are raw integers of `width` bits, 32 or 16: value times 2**(width - 1 - integer bits). Source: the gemmlowp
fixed-point functions that TFLite's reference kernels are defined by; arrays are int64 that hold such values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_WIDTH = 32
_STEPS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp of -1/4, -1/2, -1, -2, -4, -8, -16 with no integer bits."""
_EXP_EIGHTH = 1895147668
_THIRD = 715827883
RATIO_48_OVER_17, MINUS_32_OVER_17 = 1515870810, -1010580540


def narrowed(value: int, width: int) -> int:
    """A constant of 32 bits as one of `width` bits, to the nearest."""
    return value if width == _WIDTH else (value + (1 << (_WIDTH - 1 - width))) >> (_WIDTH - width)


def exp_steps(integer_bits: int, width: int = _WIDTH) -> list[tuple[int, int]]:
    """For each power of two below 2**`integer_bits`: its bit in a number, exp of minus it with no integer bits."""
    fraction = width - 1 - integer_bits
    powers = zip(range(-2, integer_bits), _STEPS, strict=False)
    return [(fraction + exponent, narrowed(factor, width)) for exponent, factor in powers]


def exp_constants(width: int) -> tuple[int, int]:
    """exp of -1/8, and a third, with no integer bits."""
    return narrowed(_EXP_EIGHTH, width), narrowed(_THIRD, width)


def reciprocal_constants(width: int) -> tuple[int, int]:
    """48/17 and -32/17 with two integer bits."""
    return narrowed(RATIO_48_OVER_17, width), narrowed(MINUS_32_OVER_17, width)


def product(left: np.ndarray, right: np.ndarray | int, width: int = _WIDTH) -> np.ndarray:
    """The product as a fraction of 2**(width - 1), to the nearest, halves upward."""
    return np.minimum((left * right + (1 << (width - 2))) >> (width - 1), _largest(width))


def halved(value: np.ndarray, times: int | np.ndarray) -> np.ndarray:
    """`value` over 2**times, to the nearest, halves away from zero."""
    mask = (np.int64(1) << times) - 1
    threshold = (mask >> 1) + (value < 0)
    return (value >> times) + ((value & mask) > threshold)


def doubled(value: np.ndarray, times: int, width: int = _WIDTH) -> np.ndarray:
    """`value` times 2**times, kept to `width` bits."""
    return np.clip(value << times, -1 - _largest(width), _largest(width))


def exp_of_negative(value: np.ndarray, integer_bits: int, width: int = _WIDTH) -> np.ndarray:
    """exp of values <= 0 with that many integer bits, at most 5; the result has none."""
    quarter = 1 << (width - 1 - integer_bits - 2)
    below = (value & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(below << integer_bits, width)
    whole = below - value
    for bit, factor in exp_steps(integer_bits, width):
        result = np.where(whole & (1 << bit), product(result, factor, width), result)
    return np.where(value == 0, _largest(width), result)


def _exp_of_last_quarter(value: np.ndarray, width: int) -> np.ndarray:
    """exp on [-1/4, 0), no integer bits, by its series around -1/8."""
    eighth, third = exp_constants(width)
    x = value + (1 << (width - 4))
    square = product(x, x, width)
    cube, fourth = product(square, x, width), product(square, square, width)
    tail = halved(product(halved(fourth, 2) + cube, third, width) + square, 1)
    return eighth + product(x + tail, eighth, width)


def one_over_one_plus(value: np.ndarray, width: int = _WIDTH) -> np.ndarray:
    """1 / (1 + value) for values in [0, 1], no integer bits, by Newton's steps."""
    return doubled(_reciprocal(value, width), 1, width)


def _reciprocal(value: np.ndarray, width: int) -> np.ndarray:
    """2 / (1 + value), two integer bits; halved by reading it with one."""
    ratio, slope = reciprocal_constants(width)
    half = (value + _largest(width) + 1) >> 1
    x = ratio + product(half, slope, width)
    for _ in range(3):
        x = x + doubled(product(x, (1 << (width - 3)) - product(half, x, width), width), 2, width)
    return x


def logistic(value: np.ndarray, integer_bits: int, width: int = _WIDTH) -> np.ndarray:
    """1 / (1 + exp(-value)), no integer bits."""
    positive = one_over_one_plus(exp_of_negative(-np.abs(value), integer_bits, width), width)
    signed = np.where(value > 0, positive, _largest(width) - positive)
    return np.where(value == 0, 1 << (width - 2), signed)


def tanh(value: np.ndarray, integer_bits: int, width: int = _WIDTH) -> np.ndarray:
    """tanh, no integer bits."""
    positive = _one_minus_over_one_plus(exp_of_negative(-np.abs(value), integer_bits + 1, width), width)
    return np.where(value == 0, 0, np.where(value > 0, positive, -positive))


def _one_minus_over_one_plus(value: np.ndarray, width: int) -> np.ndarray:
    """(1 - value) / (1 + value) for values in [0, 1], no integer bits."""
    return doubled(_reciprocal(value, width) - (1 << (width - 3)), 2, width)


def _largest(width: int) -> int:
    return (1 << (width - 1)) - 1


FUNCTIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"Sigmoid": logistic, "Tanh": tanh}
