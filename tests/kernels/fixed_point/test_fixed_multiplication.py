"""Multiplication in integers against numpy, exact fractions and LiteRT's reference, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from forms import Writer, check, int8, litert
from test_fixed_addition import pairs

from edgeprune.kernels.abi import Format
from edgeprune.kernels.fixed_point.broadcast import Spread, build_fixed_broadcast
from edgeprune.kernels.fixed_point.multiplication import Multiplication

CASES = [
    (int8(0.05, -128), int8(0.004, -128), int8(0.07, -128)),
    (int8(0.11, 127), int8(0.0301, -3), int8(0.9, 12)),
    (int8(1.0, 0), int8(1.0, 0), int8(0.3, 0)),
    (int8(1e-6, 0), int8(1e-7, 4), int8(1.3, -5)),
]


@pytest.mark.parametrize("formats", CASES)
def test_every_pair(formats: tuple[Format, Format, Format]) -> None:
    arrays = pairs()
    multiplication = Multiplication.of(*formats, -128, 127)
    line = Spread(0, (1,))
    kernel = build_fixed_broadcast(multiplication, (arrays[0].size,), line, line, line, "product")
    check(lambda m: kernel, arrays, multiplication.apply(*arrays))


def test_it_is_the_product_of_what_the_integers_stand_for() -> None:
    left, right, y = CASES[1]
    arrays = pairs(1, 1000)
    found = Multiplication.of(left, right, y, -128, 127).apply(*arrays)
    scale = Fraction(left.scale) * Fraction(right.scale) / Fraction(y.scale)
    reals = (arrays[0] - Fraction(left.zero)) * (arrays[1] - Fraction(right.zero)) * scale
    exact = [min(127, max(-128, floor(real + Fraction(1, 2)) + y.zero)) for real in reals]
    assert np.abs(found.astype(int) - np.array(exact)).max() <= 1
    assert (found == np.array(exact)).mean() > 0.99


@pytest.mark.parametrize("formats", CASES[:3])
def test_litert_differs_only_where_it_rounds_twice(formats: tuple[Format, Format, Format]) -> None:
    arrays, writer = pairs(2, 30000), Writer()
    shape = (1, len(arrays[0]))
    left, right, y = (writer.tensor(shape, "INT8", (f.scale, f.zero)) for f in formats)
    writer.node("MUL", [left, right], [y], "MulOptions", {})
    reference = litert(writer.finish([left, right], [y]), [array.reshape(shape) for array in arrays])[0].astype(int)
    found = Multiplication.of(*formats, -128, 127).apply(*arrays).astype(int)
    assert np.abs(found - reference).max() <= 1
    assert (found != reference).mean() < 0.005
