"""Addition and subtraction in integers against numpy and LiteRT's reference, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from forms import Writer, check, int8, litert, machine, row_view
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.kernels.abi import Format
from edgeprune.kernels.fixed_point.addition import Addition, build_fixed_addition, build_fixed_subtraction

ALL = np.arange(-128, 128)


def pairs(seed: int = 0, size: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of int8, or `size` of them."""
    left, right = (side.ravel().astype(np.int8) for side in np.meshgrid(ALL, ALL))
    chosen = np.random.default_rng(seed).permutation(left.size)[: size or left.size]
    return left[chosen], right[chosen]


def litert_sum(left: Format, right: Format, y: Format, arrays: tuple[np.ndarray, np.ndarray], name: str) -> np.ndarray:
    writer = Writer()
    shape = (1, len(arrays[0]))
    inputs = [writer.tensor(shape, "INT8", (f.scale, f.zero)) for f in (left, right)]
    output = writer.tensor(shape, "INT8", (y.scale, y.zero))
    writer.node(name, inputs, [output], f"{name.title()}Options", {})
    return litert(writer.finish(inputs, [output]), [array.reshape(shape) for array in arrays])[0]


CASES = [
    (int8(0.05, -128), int8(0.05, 3), int8(0.07, -128)),
    (int8(0.11, 127), int8(0.0301, -128), int8(0.05, 12)),
    (int8(0.0007, -4), int8(0.9, 5), int8(0.61, -128)),
    (int8(1.0, 0), int8(1e-7, 0), int8(1.3, 0)),
]


@pytest.mark.parametrize("formats", CASES)
def test_every_pair(formats: tuple[Format, Format, Format]) -> None:
    left, right, y = formats
    arrays = pairs()
    want = Addition.of(left, right, y, -128, 127).apply(*arrays)
    views = [row_view(arrays[0].size, format) for format in formats]
    check(lambda m: build_fixed_addition(views[0], views[1], views[2], -128, 127, m), arrays, want)


@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_the_sum_of_what_the_integers_stand_for(sign: int) -> None:
    left, right, y = CASES[0]
    arrays = pairs(1, 500)
    found = Addition.of(left, right, y, -128, 127, sign).apply(*arrays)
    reals = (arrays[0] - Fraction(left.zero)) * Fraction(left.scale) + sign * (
        arrays[1] - Fraction(right.zero)
    ) * Fraction(right.scale)
    exact = [min(127, max(-128, floor(real / Fraction(y.scale) + Fraction(1, 2)) + y.zero)) for real in reals]
    assert np.abs(found.astype(int) - np.array(exact)).max() <= 1
    assert (found == np.array(exact)).mean() > 0.99


@pytest.mark.parametrize(("name", "sign"), [("ADD", 1), ("SUB", -1)])
def test_litert_differs_only_where_it_rounds_twice(name: str, sign: int) -> None:
    left, right, y = CASES[1]
    arrays = pairs(2, 30000)
    found = Addition.of(left, right, y, -128, 127, sign).apply(*arrays).astype(int)
    reference = litert_sum(left, right, y, arrays, name).astype(int)
    assert np.abs(found - reference).max() <= 1
    assert (found != reference).mean() < 0.005


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 4099])
def test_any_size_within_bounds(size: int) -> None:
    left, right, y = int8(0.2, 7), int8(0.1, -9), int8(0.25, -3)
    arrays = pairs(3, size)
    want = Addition.of(left, right, y, -3, 90).apply(*arrays)
    views = [row_view(size, format) for format in (left, right, y)]
    check(lambda m: build_fixed_addition(views[0], views[1], views[2], -3, 90, m), arrays, want)


@settings(max_examples=3)
@given(st.data())
def test_any_formats(data: st.DataObject) -> None:
    scale = st.floats(1e-6, 1e3)
    zero = st.sampled_from([-128, -17, 0, 5, 127])
    formats = [int8(data.draw(scale), data.draw(zero)) for _ in range(3)]
    arrays = pairs(data.draw(st.integers(0, 99)), 2000)
    want = Addition.of(formats[0], formats[1], formats[2], -128, 127, -1).apply(*arrays)
    views = [row_view(2000, format) for format in formats]
    check(lambda m: build_fixed_subtraction(views[0], views[1], views[2], -128, 127, m), arrays, want)


def test_it_may_take_the_place_of_an_input_but_not_of_another_size() -> None:
    views = [row_view(10, int8()) for _ in range(3)]
    assert build_fixed_addition(views[0], views[1], views[2], -128, 127, machine("smlad")).overlaps == (0, 0)
    with pytest.raises(ValueError, match="inputs and output of one size, each in one line"):
        build_fixed_addition(views[0], row_view(9, int8()), views[2], -128, 127, machine("smlad"))
