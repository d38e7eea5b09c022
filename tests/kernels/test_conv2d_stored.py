"""Float convolutions that store integers, and add stored ones, bit for bit: their sums are exact by choice of data."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Compiled, channels_last, planar, window
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_formats import drawn, held, sentinel, with_format

from edgeprune.kernels.abi import Activation, Machine, Residual, Rounded
from edgeprune.kernels.conv2d.channels import build_channels
from edgeprune.kernels.conv2d.pixels import build_pixels
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.reference import convolve
from edgeprune.kernels.epilogue import reference_epilogue
from edgeprune.kernels.storage import written_array


def run_case(family, lanes, channels, size, kernel, stride, storage, ending, seed):
    random = np.random.default_rng(seed)
    pad, place = kernel // 2, planar if family == "pixels" else channels_last
    out = [(n + 2 * pad - kernel) // stride + 1 for n in size]
    xv, xs = place(2, channels[0], *size, halo=(pad,) * 4)
    yv, ys = place(2, channels[1], *out, halo=(1, 0, 1, 2))
    yf, rf = drawn(random, storage, 40.0), drawn(random, "float" if ending == "float" else storage, 20.0)
    yv, rv = with_format(yv, yf), with_format(yv, rf)
    steps = {
        "none": (),
        "residual": (Residual(rv), Activation("Relu")),
        "rounded": (Activation("LeakyRelu", 0.1), Rounded(drawn(random, storage, 30.0)), Residual(rv)),
        "float": (Residual(rv),),
    }
    problem = Conv2d(xv, yv, (kernel,) * 2, (stride,) * 2, (1, 1), (pad, pad), 1, True, steps[ending])
    x, y, other = np.zeros(xs, np.float32), sentinel(ys, yf), held(random, ys, rf)
    window(x, xv)[:] = random.integers(-16, 17, window(x, xv).shape) / 8
    weights = (random.integers(-8, 9, (1, kernel**2, *channels)) / 4).astype(np.float32)
    weights[random.random(weights.shape) < 0.3] = 0
    bias = (random.integers(-32, 33, channels[1]) / 8).astype(np.float32)
    machine = Machine(lanes, 32 if lanes == 16 else 16, 32768, 524288)
    built = (build_pixels if family == "pixels" else build_channels)(problem, weights, bias, machine)
    run = Compiled(built)
    inputs = [x, other] if len(steps[ending]) and ending != "none" else [x]
    cut = int(random.integers(0, built.units + 1))
    run(inputs, y, cut, built.units)
    run(inputs, y, 0, cut)
    facts = {"kernel": problem.kernel, "strides": problem.strides, "dilations": (1, 1), "pads": problem.pads}
    plain = convolve(window(x, xv), weights, bias, **facts, size=tuple(out)).astype(np.float32)
    seen = [window(other, rv)] if ending != "none" else []
    expected = written_array(reference_epilogue(problem.epilogue, plain, seen), yf)
    np.testing.assert_array_equal(window(y, yv), expected)
    window(y, yv)[:] = sentinel(1, yf)[0]
    assert (y == sentinel(1, yf)[0]).all()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["channels", "pixels"]),
    st.sampled_from([4, 8, 16]),
    st.tuples(st.integers(1, 7), st.integers(1, 37)),
    st.tuples(st.integers(3, 13), st.integers(3, 19)),
    st.sampled_from([(1, 1), (3, 1), (3, 2)]),
    st.sampled_from(["pairs", "vnni"]),
    st.sampled_from(["none", "residual", "rounded", "float"]),
    st.integers(0, 999),
)
def test_any_problem(family, lanes, channels, size, window_, storage, ending, seed):
    run_case(family, lanes, channels, size, *window_, storage, ending, seed)


@pytest.mark.parametrize("family", ["channels", "pixels"])
@pytest.mark.parametrize("storage", ["pairs", "vnni"])
def test_first_layer(family, storage):
    run_case(family, 8, (3, 24), (16, 20), 3, 2, storage, "residual", 1)
