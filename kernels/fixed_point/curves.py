"""Sigmoid and tanh of 16 bits as TensorIR, bit for bit those of `exponential` with `width` 16.

Source: gemmlowp's fixed-point functions, which TFLite's integer LSTM is defined by.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.fixed_point.exponential import exp_constants, exp_steps, reciprocal_constants
from edgeprune.kernels.fixed_point.gather import hidden, rolled
from edgeprune.kernels.fixed_point.rescaling import kept, whole

_WIDTH = 16
_LARGEST = (1 << (_WIDTH - 1)) - 1
_NEWTON_STEPS = 3
_EIGHTH, _THIRD = exp_constants(_WIDTH)
_RATIO, _SLOPE = reciprocal_constants(_WIDTH)


def sigmoid16(value: Any, integer_bits: int) -> Any:
    """1 / (1 + exp(-value)) of an int32 expression that holds 16 bits, with 15 bits of fraction."""
    value = kept(value)
    below = _reciprocal(_exp_of_negative(_negative_size(value), integer_bits)) << 1
    positive = kept(tirx.min(below, whole(_LARGEST)))
    signed = tirx.Select(value > 0, positive, whole(_LARGEST) - positive)
    return kept(tirx.Select(value == 0, whole(1 << (_WIDTH - 2)), signed))


def tanh16(value: Any, integer_bits: int) -> Any:
    """The same of tanh."""
    value = kept(value)
    above = _reciprocal(_exp_of_negative(_negative_size(value), integer_bits + 1)) - whole(1 << (_WIDTH - 3))
    positive = kept(tirx.min(above << 2, whole(_LARGEST)))
    return kept(tirx.Select(value == 0, whole(0), tirx.Select(value > 0, positive, whole(0) - positive)))


def half_away(value: Any, times: Any) -> Any:
    """An int32 expression over 2**times, to the nearest, halves away from zero; `times` above 0."""
    value = kept(value)
    return (value + (value >> 31) + (whole(1) << (times - 1))) >> times


def _negative_size(value: Any) -> Any:
    return kept(tirx.min(value, whole(0) - value))


def _product(left: Any, right: Any) -> Any:
    return (left * right + whole(1 << (_WIDTH - 2))) >> (_WIDTH - 1)


def _exp_of_negative(value: Any, integer_bits: int) -> Any:
    """exp of a value of 16 bits that is not positive."""
    quarter = 1 << (_WIDTH - 1 - integer_bits - 2)
    below = kept((value & (quarter - 1)) - quarter)
    x = kept((below << integer_bits) + (1 << (_WIDTH - 4)))
    square = kept(_product(x, x))
    cube, fourth = kept(_product(square, x)), kept(_product(square, square))
    tail = half_away(_product(half_away(fourth, 2) + cube, whole(_THIRD)) + square, 1)
    result = kept(whole(_EIGHTH) + _product(kept(x + tail), whole(_EIGHTH)))
    above = kept(below - value)
    for bit, factor in exp_steps(integer_bits, _WIDTH):
        result = kept(tirx.Select((above & (1 << bit)) != 0, _product(result, whole(factor)), result))
    return kept(tirx.Select(value == 0, whole(_LARGEST), result))


def _reciprocal(value: Any) -> Any:
    """2 / (1 + value) with two integer bits, by Newton's steps."""
    half = kept((value + (_LARGEST + 1)) >> 1)
    held = script.local_array(1, "int32")
    held.store(0, whole(_RATIO) + _product(half, whole(_SLOPE)))
    with rolled(_NEWTON_STEPS):
        x = kept(hidden(held.load(0)))
        rest = kept(whole(1 << (_WIDTH - 3)) - _product(half, x))
        held.store(0, x + (_product(x, rest) << 2))
    return kept(held.load(0))
