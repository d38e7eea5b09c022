"""Integer arithmetic of two arrays that broadcast, in any memory order, against numpy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from forms import check, int8
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.kernels.fixed_point.addition import Addition
from edgeprune.kernels.fixed_point.broadcast import Spread, build_fixed_broadcast
from edgeprune.kernels.fixed_point.multiplication import Multiplication

FORMATS = (int8(0.2, 7), int8(0.1, -9), int8(0.25, -3))
ARITHMETICS = (
    Addition.of(*FORMATS, -128, 127),
    Addition.of(*FORMATS, -3, 90, -1),
    Addition.of(int8(0.1), int8(0.1), int8(0.2), -128, 127),
    Multiplication.of(*FORMATS, -100, 90),
)


def laid(array: np.ndarray, order: tuple[int, ...], offset: int) -> tuple[np.ndarray, Spread]:
    """The memory that holds `array` from `offset` on with its axes in `order`, and where its elements are."""
    moved = np.ascontiguousarray(array.transpose(order))
    strides = tuple(moved.strides[order.index(axis)] * (array.shape[axis] > 1) for axis in range(array.ndim))
    memory = np.full(offset + array.size, 77, np.int8)
    memory[offset:] = moved.reshape(-1)
    return memory, Spread(offset, strides)


@settings(max_examples=6, derandomize=True)
@given(st.data())
def test_any_shapes_in_any_order(data: st.DataObject) -> None:
    sizes = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    sides = []
    for _ in range(2):
        shape = tuple(size if data.draw(st.booleans()) else 1 for size in sizes)
        order = tuple(data.draw(st.permutations(range(len(sizes)))))
        array = generator.integers(-128, 128, shape).astype(np.int8)
        sides.append((array, *laid(array, order, data.draw(st.sampled_from([0, 3])))))
    arithmetic = data.draw(st.sampled_from(ARITHMETICS))
    (left, left_memory, left_spread), (right, right_memory, right_spread) = sides
    results = np.broadcast_to(arithmetic.apply(left, right), sizes)
    order = tuple(data.draw(st.permutations(range(len(sizes)))))
    want, spread = laid(results, order, 0)
    kernel = build_fixed_broadcast(arithmetic, sizes, left_spread, right_spread, spread, "sum")
    check(lambda m: kernel, [left_memory, right_memory], want)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_one_factor_for_each_channel_of_an_image(arithmetic: Addition | Multiplication) -> None:
    generator = np.random.default_rng(1)
    left, right = (generator.integers(-128, 128, shape).astype(np.int8) for shape in ((5, 3, 7), (7,)))
    kernel = build_fixed_broadcast(
        arithmetic, (5, 3, 7), Spread(0, (21, 7, 1)), Spread(0, (0, 0, 1)), Spread(0, (21, 7, 1)), "sum"
    )
    assert kernel.units == 15 and kernel.overlaps == (0, None)
    check(lambda m: kernel, [left, right], arithmetic.apply(left, right))
