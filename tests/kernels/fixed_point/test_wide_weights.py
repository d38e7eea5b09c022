"""Weights beyond int8 in products and depthwise convolutions, against numpy, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from board_harness import BoardKernel, core
from forms import check, image_view, int8, machine
from test_fixed_product import LAYERS, Case, make

from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.depthwise import build_fixed_depthwise
from edgeprune.kernels.fixed_point.depthwise_mve import build_vector_depthwise
from edgeprune.kernels.fixed_point.depthwise_reference import fixed_depthwise
from edgeprune.kernels.fixed_point.wide_weights import repeated_blocks, within_int8


def widened(case: Case, count: int = 3, seed: int = 1) -> Case:
    """`case` with `count` weights of 9 bits."""
    generator, weights = np.random.default_rng(seed), case.weights.astype(np.int16)
    places = generator.choice(weights.size, count, replace=False)
    weights.reshape(-1)[places] = [-255, 128, 255, -129][:count]
    return replace(case, weights=weights)


@pytest.mark.parametrize(
    "name", ["small input channels", "pointwise", "linear of few rows", "groups", "many odd inputs", "stride two"]
)
def test_products(name: str) -> None:
    case = widened(make(**LAYERS[name], seed=len(name)))
    check(case.build, [case.image], case.want)


def test_a_sparse_layer_stays_sparse() -> None:
    case = widened(make(shape=(1, 6, 6, 64), outputs=16, density=0.25, seed=3), 1)
    plain = replace(case, weights=np.clip(case.weights, -127, 127).astype(np.int8))
    check(case.build, [case.image], case.want)
    counts = []
    for each in (case, plain):
        kernel = each.build(machine("smlad"))
        found = np.empty_like(each.want)
        counts.append(BoardKernel(kernel, core("cortex-m4"))([each.image], found).instructions)
    assert counts[0] < 1.15 * counts[1]


def test_the_sums_are_the_same_with_blocks_read_again() -> None:
    case = widened(make(**LAYERS["many odd inputs"]), 4)
    problem, weights = within_int8(case.problem, case.weights)
    again = repeated_blocks(problem)
    assert weights.dtype == np.int8 and weights.min() >= -127 and 2 <= len(again) <= 8
    inputs = case.problem.taps * case.problem.group_inputs
    x = np.random.default_rng(0).integers(-128, 128, inputs + -inputs % 4)
    x[inputs:] = 0
    blocks = x.reshape(-1, 4)
    longer = np.concatenate([blocks, blocks[list(again)]]).ravel()
    wanted = x[:inputs] @ case.weights.reshape(inputs, -1).astype(int)
    np.testing.assert_array_equal(longer @ weights.reshape(longer.size, -1).astype(int), wanted)


def test_weights_that_fit_stay_as_they_are() -> None:
    case = make(**LAYERS["pointwise"])
    problem, weights = within_int8(case.problem, case.weights.astype(np.int16))
    assert problem is case.problem and weights.dtype == np.int8 and weights.shape == case.weights.shape


def test_depthwise() -> None:
    shape = (1, 6, 7, 8)
    x, y = image_view(shape, int8(zero=-128)), image_view(shape, int8(zero=3))
    problem = Depthwise(x, y, (3, 3), (1, 1), (1, 1), (1, 1), True)
    generator = np.random.default_rng(2)
    weights = generator.integers(-255, 256, (8, 9)).astype(np.int16)
    bias = generator.integers(-3000, 3000, 8).astype(np.int32)
    requantize = Requantize.of(generator.uniform(0.001, 0.004, 8), 3)
    image = generator.integers(-128, 128, shape).astype(np.int8)
    want = fixed_depthwise(problem, image, weights, bias, requantize)
    check(lambda m: build_fixed_depthwise(problem, weights, bias, requantize, m), [image], want)
    assert build_vector_depthwise(problem, weights, bias, requantize) is None
