"""Fixed-point factors against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.kernels.fixed_point.arithmetic import Multiplier, Requantize, multiplier_of, rescaled


@given(st.floats(2.0**-31, 1000.0))
def test_a_factor_is_the_nearest_of_31_bits(real: float) -> None:
    found = multiplier_of(real)
    assert 1 << 30 <= found.value < 1 << 31
    exact = Fraction(found.value) * Fraction(2) ** (found.shift - 31)
    assert abs(exact - Fraction(real)) <= Fraction(2) ** (found.shift - 32)


def test_factors_at_the_ends() -> None:
    assert multiplier_of(0.0) == Multiplier(0, 0)
    assert multiplier_of(2.0**-40) == Multiplier(0, 0)
    assert multiplier_of(1.0) == Multiplier(1 << 30, 1)
    assert multiplier_of(1.0 - 2.0**-40) == Multiplier(1 << 30, 1)
    assert multiplier_of(2.0**35) == Multiplier((1 << 31) - 1, 30)


@given(st.integers(-(2**24), 2**24), st.floats(2.0**-20, 1.9))
def test_sums_are_rounded_once_half_upward(total: int, real: float) -> None:
    factor = multiplier_of(real)
    exact = Fraction(total) * Fraction(factor.value) * Fraction(2) ** (factor.shift - 31)
    assert int(rescaled(np.array(total, np.int32), factor.value, factor.shift)) == floor(exact + Fraction(1, 2))


def test_results_keep_to_their_bounds() -> None:
    requantize = Requantize.of(np.array([1.0, 0.5]), zero=-3, low=-3, high=100)
    results = requantize.apply(np.array([[-10, 9], [200, 300], [7, -2]], np.int32))
    assert results.dtype == np.int8
    assert results.tolist() == [[-3, 2], [100, 100], [4, -3]]
