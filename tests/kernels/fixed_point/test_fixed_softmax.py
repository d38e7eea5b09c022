"""Softmax in integers against LiteRT's reference, bit for bit, and against real numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from forms import Writer, check, int8, litert, machine
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.kernels.abi import Format, View
from edgeprune.kernels.fixed_point.softmax import build_fixed_softmax, fixed_softmax

RESULT = int8(1 / 256, -128)


def rows(height: int, size: int, format: Format) -> View:
    return View(1, size, 1, height, 0, 0, 1, 0, size, format)


def litert_softmax(x: np.ndarray, format: Format) -> np.ndarray:
    writer = Writer()
    source = writer.tensor(x.shape, "INT8", (format.scale, format.zero))
    target = writer.tensor(x.shape, "INT8", (1 / 256, -128))
    writer.node("SOFTMAX", [source], [target], "SoftmaxOptions", {"beta": 1.0})
    return litert(writer.finish([source], [target]), [x])


def some(seed: int, shape: tuple[int, int]) -> np.ndarray:
    generator = np.random.default_rng(seed)
    spread = generator.integers(1, 129, (shape[0], 1))
    return np.clip(generator.normal(0, spread, shape).round(), -128, 127).astype(np.int8)


@pytest.mark.parametrize("scale", [0.004, 0.0539, 0.17, 1.0, 40.0])
@pytest.mark.parametrize("size", [2, 10, 12, 400])
def test_as_litert(scale: float, size: int) -> None:
    x = some(size, (60, size))
    np.testing.assert_array_equal(fixed_softmax(x, int8(scale, 11)), litert_softmax(x, int8(scale, 11)))


@settings(max_examples=20)
@given(st.floats(1e-4, 30.0), st.integers(0, 99), st.integers(1, 300))
def test_any_scale_as_litert(scale: float, seed: int, size: int) -> None:
    x = some(seed, (20, size))
    np.testing.assert_array_equal(fixed_softmax(x, int8(scale)), litert_softmax(x, int8(scale)))


def test_it_is_a_softmax() -> None:
    x = some(3, (200, 10))
    reals = np.exp(x * 0.05 - (x * 0.05).max(axis=1, keepdims=True))
    reals /= reals.sum(axis=1, keepdims=True)
    found = (fixed_softmax(x, int8(0.05)).astype(float) + 128) / 256
    assert np.abs(found - np.minimum(reals, 255 / 256)).max() < 0.6 / 256


@pytest.mark.parametrize(("height", "size", "scale"), [(1, 12, 0.11), (7, 2, 0.004), (3, 33, 3.0), (1, 1, 0.1)])
def test_kernels(height: int, size: int, scale: float) -> None:
    x, format = some(size, (height, size)), int8(scale, -3)
    x[0] = 5
    views = rows(height, size, format), rows(height, size, RESULT)
    check(lambda m: build_fixed_softmax(views[0], views[1], m), [x], fixed_softmax(x, format))


def test_what_it_does_not_take_is_refused() -> None:
    good = rows(2, 5, int8())
    with pytest.raises(ValueError, match="scale 1/256 and zero -128"):
        build_fixed_softmax(good, good, machine("mla"))
    with pytest.raises(ValueError, match="rows of less than 4096 elements, not 4096"):
        build_fixed_softmax(rows(1, 4096, int8()), rows(1, 4096, RESULT), machine("mla"))
    with pytest.raises(ValueError, match="two matrices of one size whose rows lie together"):
        build_fixed_softmax(replace(good, channel_stride=2), rows(2, 5, RESULT), machine("mla"))
