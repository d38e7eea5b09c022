"""Kernels of float16, run in the emulator of a Raspberry Pi 5, against numpy in float64 on the same float16 inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arm_case import MACHINES, CompiledForArm, skip_without_emulator
from harness import channels_last, planar, window
from test_conv2d_channels import make
from test_depthwise import plain as depthwise_plain
from test_pool import plain as pool_plain

from edgeprune.kernels.abi import FLOAT16, FLOAT32, Activation, Residual
from edgeprune.kernels.conv2d.channels import build_channels, build_variant, variants
from edgeprune.kernels.conv2d.channels_variant import entry_inputs
from edgeprune.kernels.conv2d.pixels import build_pixels
from edgeprune.kernels.conv2d.problem import LONGEST_SUM
from edgeprune.kernels.conv2d.reference import convolve
from edgeprune.kernels.conv2d.winograd import build_winograd
from edgeprune.kernels.conv2d.winograd_variant import cheapest
from edgeprune.kernels.depthwise.depthwise import Depthwise, build_depthwise
from edgeprune.kernels.elementwise.elementwise import Elementwise, build_elementwise
from edgeprune.kernels.epilogue import reference_epilogue, residuals
from edgeprune.kernels.pool.pool import Pool, build_pool

NEON = MACHINES["sdot"]
EPSILON = 2.0**-11
"""Half the distance from 1 to the next number of float16."""


def half(view):
    return replace(view, format=FLOAT16)


def halved(problem, y=FLOAT16):
    """`problem` with everything in float16, but for the result where `y` says so."""
    steps = tuple(Residual(half(s.view)) if isinstance(s, Residual) else s for s in problem.epilogue)
    return replace(problem, x=half(problem.x), y=replace(problem.y, format=y), epilogue=steps)


def run(kernel, problem, inputs, size):
    """The output window of `kernel`; nothing else in its buffer is written."""
    skip_without_emulator()
    y = np.full(size, 7, problem.y.format.dtype)
    CompiledForArm(kernel, "sdot")(inputs, y)
    found = window(y, problem.y).astype(np.float64)
    window(y, problem.y)[:] = 7
    assert (y == 7).all()
    return found


def convolved(case, problem, kernel, growth=1.0):
    """The kernel's result is numpy's but for a rounding of every sum it adds to, `growth` times what that may be.

    Returns the root of the mean squared error.
    """
    x, weights = case.x.astype(np.float16), case.weights.astype(np.float16).astype(np.float64)
    bias = None if case.bias is None else case.bias.astype(np.float16)
    added = [array.astype(np.float16) for array in case.added]
    image = window(x, problem.x).astype(np.float64)
    shape = {name: getattr(problem, name) for name in ("kernel", "strides", "dilations", "pads")}
    shape["size"] = problem.y.height, problem.y.width
    seen = [window(a, s.view) for a, s in zip(added, residuals(problem.epilogue), strict=True)]
    expected = reference_epilogue(problem.epilogue, convolve(image, weights, bias, **shape).astype(np.float32), seen)
    size = convolve(abs(image), abs(weights), None if bias is None else abs(bias), **shape)
    terms = problem.taps * problem.group_inputs
    bound = growth * EPSILON * (1 + 2 * np.sqrt(terms)) * size / np.sqrt(terms) + 8 * EPSILON * (1 + abs(expected))
    found = run(kernel, problem, [x, *added], case.y.size)
    assert (abs(found - expected) <= bound).all(), abs(found - expected).max()
    assert abs(found - expected).max() > 0, "computed in more than half precision"
    return float(np.sqrt(((found - expected) ** 2).mean()))


@pytest.mark.parametrize(
    ("shape", "inputs"),
    [
        ({"inputs": 16, "outputs": 24, "steps": ["last", Activation("Relu")]}, 8),
        ({"inputs": 12, "outputs": 10, "strides": (2, 1), "batch": 2}, 4),
        ({"inputs": 3, "outputs": 19, "steps": [Activation("HardSwish")], "around": (3, 5), "planar_input": True}, 1),
        ({"inputs": 16, "outputs": 32, "density": 0.25, "block": 16, "steps": [Activation("Sigmoid"), "last"]}, 8),
        ({"inputs": 64, "outputs": 10, "height": 1, "width": 1, "kernel": (1, 1), "pads": (0, 0)}, 8),
    ],
    ids=["eight", "four", "one", "sparse", "linear"],
)
def test_channels(shape, inputs):
    case = make(**shape)
    problem = halved(case.problem)
    assert max(entry_inputs(problem, NEON)) == inputs
    found = [variant for variant in variants(problem, NEON) if variant.parts[0].inputs == inputs]
    kernel = build_variant(problem, case.weights, case.bias, found[len(found) // 3])
    assert {str(array.dtype) for array in kernel.constants} == {"float16", "int32"}
    convolved(case, problem, kernel)


def test_results_may_be_float32():
    case = make(inputs=8, outputs=9, height=3, width=5)
    problem = halved(case.problem, FLOAT32)
    convolved(case, problem, build_channels(problem, case.weights, case.bias, NEON))


@pytest.mark.parametrize("layout", ["channels", "pixels"])
def test_long_sums_are_made_of_short_ones(layout):
    case = make(
        inputs=640, outputs=8, height=3, width=8, planar_input=layout == "pixels", planar_output=layout == "pixels"
    )
    problem = halved(case.problem)
    build = build_channels if layout == "channels" else build_pixels
    products = problem.taps * problem.group_inputs
    error = convolved(case, problem, build(problem, case.weights, case.bias, NEON))
    assert error < 0.6 * EPSILON * np.sqrt(products * LONGEST_SUM), (
        "sums in float16 alone are 0.3 * EPSILON * products off"
    )


def test_winograd():
    case = make(inputs=16, outputs=24, height=6, width=10, steps=["last", Activation("Relu")])
    problem = halved(case.problem)
    variant = cheapest(problem, NEON)[1]
    assert variant.lanes == 8
    convolved(case, problem, build_winograd(problem, case.weights, case.bias, variant), growth=3)


@pytest.mark.parametrize("stride", [1, 2])
def test_pixels(stride):
    case = make(
        inputs=5, outputs=6, height=7, width=21, strides=(stride, stride), density=0.5, steps=["planar"],
        planar_input=True, planar_output=True,
    )  # fmt: skip
    problem = halved(case.problem)
    convolved(case, problem, build_pixels(problem, case.weights, case.bias, NEON))


@pytest.mark.parametrize("layout", [channels_last, planar])
def test_depthwise(layout):
    rng = np.random.default_rng(1)
    (xv, xs), (yv, ys) = layout(1, 13, 7, 19, halo=(1, 1, 1, 1)), layout(1, 13, 7, 19)
    problem = halved(Depthwise(xv, yv, (3, 3), (1, 1), (1, 1), (1, 1), True, (Activation("Clip", 0, 6),)))
    x, weights = np.zeros(xs, np.float16), rng.normal(size=(13, 9)).astype(np.float16)
    bias = rng.normal(size=13).astype(np.float16)
    window(x, problem.x)[:] = rng.normal(size=(1, 13, 7, 19))
    kernel = build_depthwise(problem, weights.astype(np.float32), bias.astype(np.float32), NEON)
    assert {str(array.dtype) for array in kernel.constants} == {"float16"}
    image = window(x, problem.x).astype(np.float64)
    expected = depthwise_plain(image, weights.astype(np.float64), bias, (3, 3), (1, 1), (1, 1), (1, 1), (7, 19))
    found = run(kernel, problem, [x], ys)
    np.testing.assert_allclose(found, np.clip(expected, 0, 6), rtol=0, atol=24 * EPSILON)


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("layout", [channels_last, planar])
def test_pool(kind, layout):
    rng = np.random.default_rng(2)
    (xv, xs), (yv, ys) = layout(1, 11, 9, 23), layout(1, 11, 5, 12)
    problem = halved(Pool(xv, yv, kind, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), False))
    x = (300 * rng.normal(size=xs)).astype(np.float16)
    expected = pool_plain(window(x, problem.x).astype(np.float64), problem)
    found = run(build_pool(problem, NEON), problem, [x], ys)
    np.testing.assert_array_equal(found, np.asarray(expected).astype(np.float16))


@pytest.mark.parametrize("formats", [(FLOAT16, FLOAT16), (FLOAT32, FLOAT16), (FLOAT16, FLOAT32)], ids=str)
def test_elementwise_converts_where_formats_differ(formats):
    rng = np.random.default_rng(3)
    view, size = channels_last(1, 5, 3, 7)
    x, y = (replace(view, format=format) for format in formats)
    problem = Elementwise(y, (x, half(view)), (("input", 0), ("input", 1), ("Add",), Activation("Relu")))
    first, second = (rng.normal(size=size).astype(dtype) for dtype in (x.format.dtype, "float16"))
    found = run(build_elementwise(problem, NEON), problem, [first, second], size)
    wanted = np.maximum(first.astype(np.float32) + second.astype(np.float32), 0).astype(y.format.dtype)
    np.testing.assert_array_equal(found, window(wanted, problem.y).astype(np.float64))
