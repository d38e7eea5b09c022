"""Multiplication in integers against numpy, exact fractions and LiteRT's reference, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from forms import Writer, check, image_view, int8, litert, row_view
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fixed_addition import pairs

from edgeprune.kernels.abi import Format, Kernel
from edgeprune.kernels.fixed_point.multiplication import Multiplication, build_fixed_multiplication

CASES = [
    (int8(0.05, -128), int8(0.004, -128), int8(0.07, -128)),
    (int8(0.11, 127), int8(0.0301, -3), int8(0.9, 12)),
    (int8(1.0, 0), int8(1.0, 0), int8(0.3, 0)),
    (int8(1e-6, 0), int8(1e-7, 4), int8(1.3, -5)),
]


@pytest.mark.parametrize("formats", CASES)
def test_every_pair(formats: tuple[Format, Format, Format]) -> None:
    arrays = pairs()
    want = Multiplication.of(*formats, -128, 127).apply(*arrays)
    left, right, y = (row_view(arrays[0].size, format) for format in formats)
    check(lambda m: build_fixed_multiplication(left, right, y, -128, 127), arrays, want)


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


@settings(max_examples=3, derandomize=True)
@given(st.data())
def test_one_factor_for_each_channel_of_an_image(data: st.DataObject) -> None:
    size = st.integers(1, 5)
    batch, height, width, channels = (data.draw(size) for _ in range(4))
    zero = st.sampled_from([-128, -17, 0, 127])
    formats = [int8(data.draw(st.floats(0.001, 2)), data.draw(zero)) for _ in range(3)]
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    shapes = ((batch, height, width, channels), (batch, 1, 1, channels))
    left, right = (generator.integers(-128, 128, shape).astype(np.int8) for shape in shapes)
    want = Multiplication.of(*formats, -100, 90).apply(left, right)
    views = [image_view(shape, format) for shape, format in zip((*shapes, shapes[0]), formats, strict=True)]
    check(lambda m: _built(views, -100, 90), [left, right], want)


def test_it_may_take_the_place_of_an_input_of_its_size() -> None:
    image, pixel = image_view((1, 3, 2, 4), int8()), image_view((1, 1, 1, 4), int8())
    assert _built([image, pixel, image]).overlaps == (0, None)
    assert _built([image, image, image]).overlaps == (0, 0)
    for wrong in (image_view((1, 3, 1, 4), int8()), replace(image, channel_stride=2)):
        with pytest.raises(ValueError, match="inputs of one size or one pixel, channels last"):
            _built([image, wrong, image])


def _built(views: list, low: int = -128, high: int = 127) -> Kernel:  # type: ignore[type-arg]
    return build_fixed_multiplication(views[0], views[1], views[2], low, high)
