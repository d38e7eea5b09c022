"""Pooling kernels against ONNX Runtime, and against plain loops."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from harness import Compiled, channels_last, planar, window
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeprune.kernels.abi import Activation, Machine, Residual
from edgeprune.kernels.pool.pool import build_pool
from edgeprune.kernels.pool.problem import Pool

SENTINEL = np.float32(1234.5)


def machine(lanes: int) -> Machine:
    return Machine(lanes, 32 if lanes == 16 else 16, 32768, 524288)


def plain(x, problem: Pool):
    """x [N,C,H,W]: every window by itself, taps outside the image left out."""
    n, c, h, w = x.shape
    out = np.zeros((n, c, problem.y.height, problem.y.width))
    top, left, bottom, right = problem.pads
    for i, j in np.ndindex(*out.shape[2:]):
        ys = [i * problem.strides[0] - top + k * problem.dilations[0] for k in range(problem.kernel[0])]
        xs = [j * problem.strides[1] - left + k * problem.dilations[1] for k in range(problem.kernel[1])]
        inside = x[:, :, [v for v in ys if 0 <= v < h]][:, :, :, [v for v in xs if 0 <= v < w]].astype(np.float64)
        if problem.kind == "max":
            out[:, :, i, j] = inside.max(axis=(2, 3))
            continue
        padded = sum(v < h + bottom for v in ys) * sum(v < w + right for v in xs)
        count = padded if problem.count_include_pad else inside.shape[2] * inside.shape[3]
        out[:, :, i, j] = inside.sum(axis=(2, 3)) / count
    return out


def session(problem: Pool, ceil: bool):
    attributes = {
        "kernel_shape": problem.kernel,
        "strides": problem.strides,
        "dilations": problem.dilations,
        "pads": problem.pads,
        "ceil_mode": int(ceil),
    }
    if problem.kind == "average":
        attributes["count_include_pad"] = int(problem.count_include_pad)
    node = helper.make_node({"max": "MaxPool", "average": "AveragePool"}[problem.kind], ["x"], ["y"], **attributes)
    x = problem.x
    info = helper.make_tensor_value_info
    inputs = [info("x", TensorProto.FLOAT, [x.batch, x.channels, x.height, x.width])]
    graph = helper.make_graph([node], "graph", inputs, [info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@st.composite
def cases(draw):
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 10)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size = [draw(st.integers(1, 17)) for _ in range(2)]
    pads = [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
    ceil = draw(st.booleans())
    out = []
    for i in (0, 1):
        free = size[i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1
        assume(free >= 0)
        count = (-(-free // strides[i]) if ceil else free // strides[i]) + 1
        while (count - 1) * strides[i] >= size[i] + pads[i]:
            count -= 1
        out.append(count)
    kind = draw(st.sampled_from(["max", "average"]))
    include = draw(st.booleans())
    fixed = (kind, kernel, strides, dilations, tuple(pads), include)
    return fixed, size, out, ceil, draw(st.sampled_from(["channels", "planar"])), draw(st.integers(0, 999))


def build_views(layout, batch, channels, size, out):
    if layout == "channels":
        x = channels_last(batch, channels, *size, halo=(1, 2, 0, 1), around=(2, 1))
        return x, channels_last(batch, channels, *out, halo=(1, 0, 1, 2), around=(3, 5))
    return planar(batch, channels, *size, halo=(1, 2, 1, 0)), planar(batch, channels, *out, halo=(0, 1, 1, 1))


@settings(max_examples=35, deadline=None)
@given(cases(), st.sampled_from([4, 8, 16]), st.sampled_from([1, 3, 8, 13, 37]), st.booleans())
def test_any_problem(case, lanes, channels, residual):
    fixed, size, out, _, layout, seed = case
    random = np.random.default_rng(seed)
    (xv, xs), (yv, ys) = build_views(layout, 2, channels, size, out)
    epilogue = (Residual(yv), Activation("Relu")) if residual else ()
    problem = Pool(xv, yv, *fixed, epilogue)
    image = random.standard_normal((2, channels, *size), np.float32)
    x, y, other = np.full(xs, SENTINEL), np.full(ys, SENTINEL), random.standard_normal(ys, np.float32)
    window(x, xv)[:] = image
    assume(_every_window_meets_the_image(problem))
    expected = plain(image, problem)
    kernel = build_pool(problem, machine(lanes))
    cut = int(random.integers(0, kernel.units + 1))
    run = Compiled(kernel)
    run([x, other] if residual else [x], y, cut, kernel.units)
    run([x, other] if residual else [x], y, 0, cut)
    if residual:
        expected = np.maximum(expected + window(other, yv), 0)
    np.testing.assert_allclose(window(y, yv), expected, atol=1e-5, rtol=1e-5)
    window(y, yv)[:] = SENTINEL
    assert (y == SENTINEL).all()


@settings(max_examples=80, deadline=None)
@given(cases())
def test_plain_loops_are_what_onnx_means(case):
    fixed, size, out, ceil, _, seed = case
    (xv, _), (yv, _) = build_views("planar", 1, 2, size, out)
    problem = Pool(xv, yv, *fixed)
    image = np.random.default_rng(seed).standard_normal((1, 2, *size), np.float32)
    expected = session(problem, ceil).run(None, {"x": image})[0]
    assume(expected.shape[2:] == tuple(out))
    assume(_every_window_meets_the_image(problem))
    np.testing.assert_allclose(plain(image, problem), expected, atol=1e-5)


def _every_window_meets_the_image(problem: Pool) -> bool:
    def meets(axis, size, outputs):
        starts = (o * problem.strides[axis] - problem.pads[axis] for o in range(outputs))
        taps = range(problem.kernel[axis])
        return all(any(0 <= s + k * problem.dilations[axis] < size for k in taps) for s in starts)

    return meets(0, problem.x.height, problem.y.height) and meets(1, problem.x.width, problem.y.width)


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("layout", ["channels", "planar", "planar with halo"])
@pytest.mark.parametrize(("channels", "size"), [(5, (7, 7)), (64, (8, 8)), (33, (13, 13)), (16, (1, 1)), (3, (2, 55))])
def test_whole_image(kind, layout, channels, size):
    if layout == "channels":
        (xv, xs), (yv, ys) = channels_last(2, channels, *size), channels_last(2, channels, 1, 1)
    else:
        halo = (1, 1, 1, 1) if "halo" in layout else (0, 0, 0, 0)
        (xv, xs), (yv, ys) = planar(2, channels, *size, halo=halo), planar(2, channels, 1, 1)
    image = np.random.default_rng(3).standard_normal((2, channels, *size), np.float32)
    x, y = np.full(xs, SENTINEL), np.zeros(ys, np.float32)
    window(x, xv)[:] = image
    problem = Pool(xv, yv, kind, size, (1, 1), (1, 1), (0, 0, 0, 0), False)
    Compiled(build_pool(problem, machine(8)))([x], y)
    expected = image.max(axis=(2, 3)) if kind == "max" else image.mean(axis=(2, 3), dtype=np.float64)
    np.testing.assert_allclose(y.reshape(2, channels), expected, atol=1e-5)
