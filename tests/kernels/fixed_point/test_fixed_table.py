"""Functions of int8 as tables, against LiteRT and exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import floor, frexp

import numpy as np
import pytest
from forms import Writer, check, int8, litert, machine, row_view
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeprune.kernels.abi import Activation, Format
from edgeprune.kernels.fixed_point.arithmetic import multiplier_of, rescaled
from edgeprune.kernels.fixed_point.exponential import FUNCTIONS, halved
from edgeprune.kernels.fixed_point.table import build_fixed_table, fixed_table

ALL = np.arange(-128, 128).astype(np.int8)
SIGMOID, TANH = int8(1 / 256, -128), int8(1 / 128, 0)
SCALES = st.floats(1e-3, 2.0).map(lambda value: float(np.float32(value)))
ZEROS = st.integers(-128, 127)


def litert_function(name: str, x: Format, y: Format, options: str = "", fields: object = None) -> np.ndarray:
    writer = Writer()
    source, target = (writer.tensor((256,), "INT8", (format.scale, format.zero)) for format in (x, y))
    writer.node(name, [source], [target], options, fields)  # type: ignore[arg-type]
    return litert(writer.finish([source], [target]), [ALL])


@pytest.mark.parametrize(("name", "y", "bits"), [("Sigmoid", SIGMOID, 8), ("Tanh", TANH, 7)])
@settings(max_examples=15)
@given(SCALES, ZEROS)
def test_logistic_and_tanh_as_litert_and_its_fixed_point(
    name: str, y: Format, bits: int, scale: float, zero: int
) -> None:
    x = int8(scale, zero)
    found = fixed_table(Activation(name), x, y)
    np.testing.assert_array_equal(found, litert_function({"Sigmoid": "LOGISTIC", "Tanh": "TANH"}[name], x, y))
    factor = multiplier_of(scale * (1 << 27))
    radius = floor(15 * (1 << 27) / 2.0**factor.shift)
    centred = ALL.astype(np.int64) - zero
    inner = np.abs(centred) < radius
    raw = rescaled(np.where(inner, centred, 0), factor.value, factor.shift).astype(np.int64)
    results = np.clip(halved(FUNCTIONS[name](raw, 4), 31 - bits) + y.zero, -128, 127)
    np.testing.assert_array_equal(found, np.where(inner, results, np.where(centred < 0, -128, 127)))


@settings(max_examples=15)
@given(SCALES, ZEROS, st.floats(1.0, 4.0), ZEROS)
def test_hard_swish_and_gelu_almost_as_litert(x_scale: float, x_zero: int, coarser: float, y_zero: int) -> None:
    x, y = int8(x_scale, x_zero), int8(x_scale * coarser, y_zero)
    pairs = (("HARD_SWISH", "HardSwish", ""), ("GELU", "Gelu", "GeluOptions"))
    for name, own, options in pairs:
        found = fixed_table(Activation(own), x, y).astype(int)
        assert np.abs(found - litert_function(name, x, y, options)).max() <= 1


@settings(max_examples=15)
@given(SCALES, ZEROS, SCALES, ZEROS)
@example(0.003, 127, 0.07, -5)
def test_a_change_of_grid_is_rounded_once(x_scale: float, x_zero: int, y_scale: float, y_zero: int) -> None:
    x, y = int8(x_scale, x_zero), int8(y_scale, y_zero)
    found = fixed_table(None, x, y)
    fraction, shift = frexp(x_scale / y_scale)
    factor = Fraction(round(fraction * 2**31)) * Fraction(2) ** (shift - 31)
    exact = [floor((int(value) - x_zero) * factor + Fraction(1, 2)) + y_zero for value in ALL]
    np.testing.assert_array_equal(found, np.clip(exact, -128, 127))
    assert np.abs(found.astype(int) - litert_function("QUANTIZE", x, y)).max() <= 1
    relu = np.maximum(found, y.zero)
    np.testing.assert_array_equal(fixed_table(Activation("Relu"), x, y), relu)
    np.testing.assert_array_equal(fixed_table(Activation("Clip", 0.0, 6.0), x, y), litert_clip(relu, y))


def litert_clip(values: np.ndarray, y: Format) -> np.ndarray:
    return np.minimum(values, min(127, y.zero + floor(Fraction(6) / Fraction(y.scale) + Fraction(1, 2))))


@pytest.mark.parametrize(("alpha", "most"), [(0.1, 0.0), (0.3, 0.05)])
def test_leaky_relu_differs_from_litert_only_where_it_rounds_twice(alpha: float, most: float) -> None:
    x, y = int8(0.05, 3), int8(0.07, -5)
    reference = litert_function("LEAKY_RELU", x, y, "LeakyReluOptions", {"alpha": alpha}).astype(int)
    found = fixed_table(Activation("LeakyRelu", alpha), x, y).astype(int)
    assert np.abs(found - reference).max() <= 1 and (found != reference).mean() <= most


def test_what_has_no_value_is_zero() -> None:
    found = fixed_table(Activation("Log"), int8(0.1, 0), int8(0.1, 7))
    assert found[0] == 7 and found[128] == -128


@pytest.mark.parametrize("size", [1, 3, 4, 7, 1000])
def test_kernels(size: int) -> None:
    generator = np.random.default_rng(size)
    table, x = generator.integers(-128, 128, 256).astype(np.int8), generator.integers(-128, 128, size).astype(np.int8)
    view = row_view(size, int8())
    check(lambda m: build_fixed_table(view, view, table, m), [x], table[x.astype(int) + 128])


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="an input and an output of one size, each in one line"):
        build_fixed_table(row_view(3, int8()), row_view(4, int8()), np.zeros(256, np.int8), machine("mla"))
