"""Pooling of stored integers against the definition in numpy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Compiled, window
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from stored_formats import drawn, held, sentinel, with_format
from test_pool import _every_window_meets_the_image, build_views, cases, machine

from edgeprune.kernels.abi import Activation, Format, Residual
from edgeprune.kernels.epilogue import reference_epilogue
from edgeprune.kernels.pool.pool import build_pool
from edgeprune.kernels.pool.problem import Pool
from edgeprune.kernels.storage import written_array

STORAGES = st.sampled_from(["pairs", "vnni", "float"])


def defined(x, residual, problem: Pool):
    """x [N,C,H,W] as stored: largest, or whole-number sum times float32(scale / count); then epilogue and store."""
    n, c, h, w = x.shape
    f = problem.x.format
    whole = x.astype(np.int64) - f.zero
    value = np.zeros((n, c, problem.y.height, problem.y.width), np.float32)
    top, left, bottom, right = problem.pads
    for i, j in np.ndindex(*value.shape[2:]):
        ys = [i * problem.strides[0] - top + k * problem.dilations[0] for k in range(problem.kernel[0])]
        xs = [j * problem.strides[1] - left + k * problem.dilations[1] for k in range(problem.kernel[1])]
        inside = whole[:, :, [v for v in ys if 0 <= v < h]][:, :, :, [v for v in xs if 0 <= v < w]]
        padded = sum(v < h + bottom for v in ys) * sum(v < w + right for v in xs)
        count = padded if problem.count_include_pad else inside.shape[2] * inside.shape[3]
        if problem.kind == "max":
            value[:, :, i, j] = inside.max(axis=(2, 3)).astype(np.float32) * np.float32(f.scale)
        else:
            value[:, :, i, j] = inside.sum(axis=(2, 3)).astype(np.float32) * np.float32(f.scale / count)
    return written_array(reference_epilogue(problem.epilogue, value, residual), problem.y.format)


@settings(max_examples=30, deadline=None)
@given(
    cases(),
    st.sampled_from([4, 8, 16]),
    st.sampled_from([1, 3, 8, 37]),
    st.sampled_from(["pairs", "vnni"]),
    STORAGES,
    st.sampled_from(["none", "same", "residual"]),
)
def test_any_problem(case, lanes, channels, storage, target, ending):
    fixed, size, out, _, layout, seed = case
    random = np.random.default_rng(seed)
    (xv, xs), (yv, ys) = build_views(layout, 2, channels, size, out)
    xf = drawn(random, storage)
    yf = xf if ending == "same" else drawn(random, target)
    xv, yv, rv = with_format(xv, xf), with_format(yv, yf), with_format(yv, drawn(random, target))
    epilogue = (Residual(rv), Activation("Relu")) if ending == "residual" else ()
    problem = Pool(xv, yv, *fixed, epilogue)
    assume(_every_window_meets_the_image(problem))
    x, y, other = sentinel(xs, xf), sentinel(ys, yf), held(random, ys, rv.format)
    window(x, xv)[:] = held(random, xs, xf)[: window(x, xv).size].reshape(window(x, xv).shape)
    expected = defined(window(x, xv), [window(other, rv)], problem)
    kernel = build_pool(problem, machine(lanes))
    cut = int(random.integers(0, kernel.units + 1))
    run = Compiled(kernel)
    run([x, other] if epilogue else [x], y, cut, kernel.units)
    run([x, other] if epilogue else [x], y, 0, cut)
    np.testing.assert_array_equal(window(y, yv), expected)
    window(y, yv)[:] = sentinel(1, yf)[0]
    assert (y == sentinel(1, yf)[0]).all()


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("layout", ["channels", "planar"])
@pytest.mark.parametrize("storage", ["pairs", "vnni"])
@pytest.mark.parametrize(("channels", "size"), [(5, (7, 7)), (33, (13, 13)), (2, (43, 55))])
def test_whole_image(kind, layout, storage, channels, size):
    random = np.random.default_rng(channels)
    (xv, xs), (yv, ys) = build_views(layout, 2, channels, size, (1, 1))
    xf, yf = drawn(random, storage), drawn(random, storage)
    xv, yv = with_format(xv, xf), with_format(yv, yf)
    x, y = sentinel(xs, xf), sentinel(ys, yf)
    window(x, xv)[:] = random.integers(xf.high - 3, xf.high + 1, window(x, xv).shape)
    problem = Pool(xv, yv, kind, size, (1, 1), (1, 1), (0, 0, 0, 0), False)
    Compiled(build_pool(problem, machine(8)))([x], y)
    np.testing.assert_array_equal(window(y, yv), defined(window(x, xv), [], problem))


@pytest.mark.parametrize(
    ("low", "kind", "kernel", "dtype"),
    [(-128, "average", (11, 23), "int16"), (-130, "average", (11, 23), "int32"), (-128, "max", (30, 30), "int16")],
)
def test_sums_are_as_narrow_as_they_may_be(low, kind, kernel, dtype):
    (xv, _), (yv, _) = build_views("channels", 1, 8, (30, 30), (1, 1))
    xv = with_format(xv, Format("int16", 0.1, 0, low, 127))
    problem = Pool(xv, yv, kind, kernel, (1, 1), (1, 1), (0, 0, 0, 0), False)
    assert problem.partial_dtype == dtype
