"""Depthwise convolution sixteen channels at a time on an emulated Cortex-M55 against numpy, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from forms import machine
from hypothesis import given, settings
from hypothesis import strategies as st
from mve_board import check_vectors, needs_qemu
from test_fixed_depthwise import problem_of

from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.depthwise import build_fixed_depthwise
from edgeprune.kernels.fixed_point.depthwise_reference import fixed_depthwise

pytestmark = needs_qemu()


def check(
    problem: Depthwise,
    seed: int,
    bounds: tuple[int, int] = (-128, 127),
    vectors: bool = True,
    least: int = -127,
    largest: int = 5,
) -> None:
    generator, x, channels = np.random.default_rng(seed), problem.x, problem.x.channels
    weights = generator.integers(-127, 128, (channels, problem.taps)).astype(np.int8)
    weights[0, :2] = least
    bias = generator.integers(-9000, 9000, channels).astype(np.int32) if problem.bias else None
    requantize = Requantize.of(2.0 ** -(largest + 4 * generator.random(channels)), problem.y.format.zero, *bounds)
    image = generator.integers(-128, 128, (x.batch, x.height, x.width, channels)).astype(np.int8)
    image[:, 0, :3] = -128
    kernel = build_fixed_depthwise(problem, weights, bias, requantize, machine("mve"))
    assert kernel.label.endswith("vectors") == vectors
    check_vectors(kernel, [image], fixed_depthwise(problem, image, weights, bias, requantize))


@pytest.mark.parametrize(
    "given",
    [
        {"shape": (1, 7, 5, 64)},
        {"shape": (1, 9, 7, 8)},
        {"shape": (1, 9, 6, 24), "strides": (2, 2), "pads": (0, 0, 1, 1)},
        {"shape": (2, 5, 7, 7), "zeros": (3, -5)},
        {"shape": (1, 6, 9, 4), "kernel": (4, 2), "zeros": (-7, 11)},
        {"shape": (1, 5, 6, 18), "kernel": (1, 1), "pads": (0, 0, 0, 0), "bias": False},
        {"shape": (1, 11, 12, 16), "dilations": (2, 3), "pads": (2, 3, 2, 3)},
        {"shape": (1, 11, 12, 4), "strides": (4, 3), "kernel": (2, 2), "pads": (0, 1, 1, 2)},
    ],
)
def test_layers(given: Any) -> None:
    check(problem_of(**given), 1)


def test_bounds_on_both_sides() -> None:
    check(problem_of((1, 4, 5, 20)), 2, (-100, 90))


def test_factors_around_one() -> None:
    check(problem_of((1, 4, 5, 20)), 5, (-100, 127), largest=-1)


def test_more_taps_than_registers_go_another_way() -> None:
    check(problem_of((1, 6, 6, 3), (5, 5), pads=(2, 2, 2, 2)), 3, vectors=False)


def test_two_products_that_leave_int16_go_another_way() -> None:
    check(problem_of((1, 4, 5, 3)), 4, vectors=False, least=-128)


@settings(max_examples=4, derandomize=True)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(2))
    strides = tuple(data.draw(st.integers(1, 3)) for _ in range(2))
    pads = tuple(data.draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    height, width = (max(1, kernel[a] - pads[a] - pads[a + 2]) + data.draw(st.integers(0, 6)) for a in (0, 1))
    shape = (data.draw(st.integers(1, 2)), height, width, data.draw(st.sampled_from([1, 2, 9, 16, 33])))
    zeros = (data.draw(st.sampled_from([-128, -1, 127])), data.draw(st.sampled_from([-128, 5, 127])))
    check(
        problem_of(shape, kernel, strides, (1, 1), pads, zeros, data.draw(st.booleans())), data.draw(st.integers(0, 9))
    )  # type: ignore[arg-type]
