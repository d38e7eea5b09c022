from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_conv2d_channels import MACHINES, NEON, make

from edgeprune.kernels.abi import Activation, Format, Rounded
from edgeprune.kernels.conv2d.channels import build_channels, estimate_channels
from edgeprune.kernels.conv2d.winograd import build_winograd, transformed
from edgeprune.kernels.conv2d.winograd_variant import cheapest, fits, variants


def test_transformed_weights_multiply_as_the_definition_says():
    """One tile by the matrices of Lavin and Gray against the four outputs of a plain convolution."""
    rng = np.random.default_rng(0)
    image, weights = rng.normal(size=(4, 4)), rng.normal(size=(3, 3)).astype(np.float32)
    inputs = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    outputs = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
    padded = np.zeros((1, 9, 1, 4), np.float32)
    padded[0, :, 0, 2] = weights.ravel()
    tile = transformed(padded, 4).reshape(4, 4, 4)[..., 2]
    found = outputs @ (tile * (inputs @ image @ inputs.T)) @ outputs.T
    plain = [[(image[i : i + 3, j : j + 3] * weights).sum() for j in range(2)] for i in range(2)]
    np.testing.assert_allclose(found, plain, atol=1e-5)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_problem_that_fits(data):
    half, quarter, pad = st.integers(1, 6), st.integers(1, 5), data.draw(st.integers(0, 2))
    height, width = (2 * data.draw(half) + 2 - 2 * pad for _ in range(2))
    if min(height, width) < 1:
        height, width = height + 4, width + 4
    case = make(
        batch=data.draw(st.sampled_from([1, 2])),
        inputs=4 * data.draw(quarter),
        outputs=4 * data.draw(quarter),
        height=height,
        width=width,
        pads=(pad, pad),
        bias=data.draw(st.booleans()),
        steps=data.draw(st.lists(st.sampled_from(["last", Activation("Relu"), Activation("HardSwish")]), max_size=3)),
        around=data.draw(st.sampled_from([(0, 0), (3, 5)])),
        seed=data.draw(st.integers(0, 9)),
    )
    assert fits(case.problem, NEON)
    variant = data.draw(st.sampled_from(variants(case.problem, NEON)))
    kernel = build_winograd(case.problem, case.weights, case.bias, variant)
    case.check(kernel, cuts=tuple(data.draw(st.lists(st.integers(0, 100), max_size=2))))


def test_dense_layers_take_it_and_sparse_ones_do_not():
    dense = make(inputs=32, outputs=32, height=16, width=16)
    kernel = build_channels(dense.problem, dense.weights, dense.bias, NEON)
    assert "winograd" in kernel.label
    assert kernel.cycles == estimate_channels(dense.problem, dense.weights, NEON)
    dense.check(kernel)
    sparse = make(inputs=32, outputs=32, height=16, width=16, density=0.2, block=16)
    assert "winograd" not in build_channels(sparse.problem, sparse.weights, sparse.bias, NEON).label
    assert "winograd" not in build_channels(dense.problem, dense.weights, dense.bias, MACHINES[8]).label
    order = np.arange(32, dtype=np.int32)[::-1].copy()
    assert "winograd" not in build_channels(dense.problem, dense.weights, dense.bias, NEON, order).label


@pytest.mark.parametrize(
    "change",
    [
        {"strides": (2, 2)},
        {"dilations": (2, 2), "pads": (2, 2)},
        {"kernel": (5, 5), "pads": (2, 2)},
        {"groups": 2},
        {"inputs": 6},
        {"outputs": 18},
        {"height": 7},
        {"width": 9},
        {"planar_input": True},
        {"planar_output": True},
        {"steps": ["planar"]},
    ],
    ids=str,
)
def test_other_problems_do_not_fit(change):
    problem = make(**{"height": 8, "width": 8, **change}).problem
    assert not fits(problem, NEON)


def test_stored_integers_do_not_fit():
    problem = make(height=8, width=8).problem
    grid = Format("int16", 0.5, 0, -128, 127)
    assert fits(problem, NEON)
    assert not fits(problem, MACHINES[4])
    assert not fits(replace(problem, y=replace(problem.y, format=grid)), NEON)
    assert not fits(replace(problem, epilogue=(Rounded(grid),)), NEON)


def test_large_layers_keep_their_tiles_in_the_caches():
    problem = make(inputs=256, outputs=256, height=16, width=16).problem
    _, variant = cheapest(problem, NEON)
    assert variant.tiles * 16 * 4 * 512 <= NEON.l2_bytes // 4
