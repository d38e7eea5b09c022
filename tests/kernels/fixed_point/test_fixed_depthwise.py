"""Depthwise convolution in integers against numpy and LiteRT's reference, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from forms import Writer, check, image_view, int8, litert, machine
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.depthwise import build_fixed_depthwise
from edgeprune.kernels.fixed_point.depthwise_assembly import ChannelsOfTile, Product
from edgeprune.kernels.fixed_point.depthwise_reference import fixed_depthwise
from edgeprune.kernels.fixed_point.exponential import halved, product


class RoundedTwice(Requantize):
    """As LiteRT is built: the product is rounded to 31 bits first, then where it is shifted."""

    def apply(self, sums: np.ndarray) -> np.ndarray:
        left, right = np.maximum(self.shifts, 0), np.maximum(-self.shifts, 0)
        first = product(sums.astype(np.int64) << left, self.values.astype(np.int64))
        return np.clip(halved(first, right.astype(np.int64)) + self.zero, self.low, self.high).astype(np.int8)


def outputs(size: int, taps: int, stride: int, dilation: int, pads: tuple[int, int]) -> int:
    return (size + sum(pads) - (taps - 1) * dilation - 1) // stride + 1


def problem_of(
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    zeros: tuple[int, int] = (-128, -128),
    bias: bool = True,
) -> Depthwise:
    batch, height, width, channels = shape
    size = [outputs((height, width)[a], kernel[a], strides[a], dilations[a], (pads[a], pads[a + 2])) for a in (0, 1)]
    x, y = image_view(shape, int8(zero=zeros[0])), image_view((batch, *size, channels), int8(zero=zeros[1]))
    return Depthwise(x, y, kernel, strides, dilations, pads[:2], bias)


def agrees(
    problem: Depthwise, seed: int, factors: Any = None, low: int = -128, high: int = 127, board: bool = True
) -> None:
    generator, x, channels = np.random.default_rng(seed), problem.x, problem.x.channels
    weights = generator.integers(-127, 128, (channels, problem.taps)).astype(np.int8)
    bias = generator.integers(-9000, 9000, channels).astype(np.int32) if problem.bias else None
    factors = 2.0 ** -(5 + 4 * generator.random(channels)) if factors is None else np.resize(factors, channels)
    requantize = Requantize.of(factors, problem.y.format.zero, low, high)
    image = generator.integers(-128, 128, (x.batch, x.height, x.width, channels)).astype(np.int8)
    want = fixed_depthwise(problem, image, weights, bias, requantize)
    check(lambda m: build_fixed_depthwise(problem, weights, bias, requantize, m), [image], want)


@pytest.mark.parametrize(
    ("shape", "strides", "pads"),
    [
        ((1, 25, 5, 64), (1, 1), (1, 1, 1, 1)),
        ((1, 9, 14, 8), (1, 1), (1, 1, 1, 1)),
        ((1, 10, 13, 12), (2, 2), (0, 0, 1, 1)),
        ((1, 3, 3, 20), (1, 1), (1, 1, 1, 1)),
    ],
)
def test_layers_of_small_networks(shape: Any, strides: Any, pads: Any) -> None:
    agrees(problem_of(shape, strides=strides, pads=pads), 1)


def test_channels_that_do_not_fill_words_and_two_images() -> None:
    agrees(problem_of((2, 5, 7, 7), zeros=(3, -5)), 2)


@pytest.mark.parametrize("kernel", [(1, 1), (5, 5), (1, 4), (4, 1), (2, 3)])
def test_other_kernels(kernel: Any) -> None:
    agrees(problem_of((1, 8, 9, 5), kernel, zeros=(-7, 11)), 3)


def test_dilations_and_strides_beyond_the_kernel() -> None:
    agrees(problem_of((1, 11, 12, 4), dilations=(2, 3), pads=(2, 3, 2, 3)), 4)
    agrees(problem_of((1, 11, 12, 4), (2, 2), (3, 3), pads=(0, 1, 1, 2)), 5)


def test_factors_too_far_apart_for_one_shift() -> None:
    agrees(problem_of((1, 5, 6, 4)), 6, [2.0**-4.5, 2.0**-16.2, 0.0, 0.9])
    agrees(problem_of((1, 5, 6, 4)), 7, [1.7, 3.0, 0.011, 2.0**-5], -100, 90)


def test_factors_around_one() -> None:
    agrees(problem_of((1, 5, 6, 4)), 8, [0.5, 1.0, 0.74, 1.9], -3, 3)


@settings(max_examples=4)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    kernel = tuple(data.draw(st.integers(1, 4)) for _ in range(2))
    strides = tuple(data.draw(st.integers(1, 3)) for _ in range(2))
    dilations = tuple(data.draw(st.integers(1, 2)) for _ in range(2))
    pads = tuple(data.draw(st.integers(0, (kernel[i % 2] - 1) * dilations[i % 2])) for i in range(4))
    least = [max(1, (kernel[a] - 1) * dilations[a] + 1 - pads[a] - pads[a + 2]) for a in (0, 1)]
    height, width = (data.draw(st.integers(low, low + 8)) for low in least)
    shape = (data.draw(st.integers(1, 2)), height, width, data.draw(st.integers(1, 9)))
    zeros = (data.draw(st.sampled_from([-128, -1, 0, 127])), data.draw(st.sampled_from([-128, 5, 127])))
    problem = problem_of(shape, kernel, strides, dilations, pads, zeros, data.draw(st.booleans()))  # type: ignore[arg-type]
    agrees(problem, data.draw(st.integers(0, 99)))


@pytest.mark.parametrize(("stride", "pads"), [(1, (1, 1, 1, 1)), (2, (0, 0, 1, 1))])
def test_litert_differs_only_where_it_rounds_twice(stride: int, pads: Any) -> None:
    problem = problem_of((1, 12, 10, 64), strides=(stride, stride), pads=pads, zeros=(3, -9))
    generator = np.random.default_rng(stride)
    weights = generator.integers(-127, 128, (64, 9)).astype(np.int8)
    bias = generator.integers(-9000, 9000, 64).astype(np.int32)
    scales = generator.uniform(0.001, 0.01, 64).astype(np.float32)
    image = generator.integers(-128, 128, (1, 12, 10, 64)).astype(np.int8)
    writer, y = Writer(), problem.y
    source = writer.tensor(image.shape, "INT8", (0.05, 3))
    held = writer.constant(np.ascontiguousarray(weights.T.reshape(1, 3, 3, 64)), (scales, 0, 3))
    start = writer.constant(bias, (np.float32(0.05) * scales, 0, 0))
    target = writer.tensor((1, y.height, y.width, 64), "INT8", (0.05, -9))
    options = {"padding": 0, "strideW": stride, "strideH": stride, "depthMultiplier": 1,
               "dilationWFactor": 1, "dilationHFactor": 1}  # fmt: skip
    writer.node("DEPTHWISE_CONV_2D", [source, held, start], [target], "DepthwiseConv2DOptions", options)
    reference = litert(writer.finish([source], [target]), [image]).astype(int)
    twice = RoundedTwice.of(scales.astype(np.float64), -9)
    np.testing.assert_array_equal(fixed_depthwise(problem, image, weights, bias, twice), reference)
    once = Requantize.of(scales.astype(np.float64), -9)
    assert np.abs(fixed_depthwise(problem, image, weights, bias, once) - reference).max() <= 1


@pytest.mark.parametrize(
    ("row", "step", "possible"), [(63, 60, True), (64, 60, False), (-1000, 60, True), (0, 64, False)]
)
def test_loads_of_one_word_reach_less_far_back(row: int, step: int, possible: bool) -> None:
    reads = ((0, (Product(0, 0, None),)),)
    tile = ChannelsOfTile(1, 1, reads, (row, 0), step, 8, 8, -128, 127)
    assert tile.possible == possible


def test_rows_are_handed_over_almost_in_place() -> None:
    problem = problem_of((1, 25, 5, 64))
    requantize = Requantize.of(np.full(64, 0.01), -128)
    kernel = build_fixed_depthwise(problem, np.ones((64, 9), np.int8), None, requantize, machine("smlad"))
    assert kernel.overlaps == (320,)
    assert kernel.scratch_bytes == 3 * 64 * 4 * 4


def test_what_is_no_depthwise_convolution_is_refused() -> None:
    problem = problem_of((1, 5, 5, 4))
    wrong = Depthwise(problem.x, image_view((1, 5, 5, 8), int8()), (3, 3), (1, 1), (1, 1), (1, 1), False)
    requantize = Requantize.of(np.full(8, 0.01), 0)
    with pytest.raises(ValueError, match="two channels-last images with the same channels"):
        build_fixed_depthwise(wrong, np.ones((8, 9), np.int8), None, requantize, machine("mla"))
