"""Depthwise kernels against plain loops over taps, and against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from harness import Compiled, channels_last, planar, window
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeprune.kernels.abi import Activation, Machine, Residual
from edgeprune.kernels.depthwise.depthwise import build_depthwise
from edgeprune.kernels.depthwise.problem import Depthwise

SENTINEL = np.float32(1234.5)


def machine(lanes: int) -> Machine:
    return Machine(lanes, 32 if lanes == 16 else 16, 32768, 524288)


def plain(x, weights, bias, kernel, strides, dilations, pads, size):
    """x [N,C,H,W], weights [C,taps]; sums one tap after the other over a padded copy."""
    reach = [(size[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 for i in (0, 1)]
    padded = np.zeros((*x.shape[:2], max(reach[0], pads[0] + x.shape[2]), max(reach[1], pads[1] + x.shape[3])))
    padded[:, :, pads[0] : pads[0] + x.shape[2], pads[1] : pads[1] + x.shape[3]] = x
    out = np.zeros((*x.shape[:2], *size)) + bias[None, :, None, None]
    for n, c, i, j in np.ndindex(out.shape):
        for ky, kx in np.ndindex(*kernel):
            value = padded[n, c, i * strides[0] + ky * dilations[0], j * strides[1] + kx * dilations[1]]
            out[n, c, i, j] += value * weights[c, ky * kernel[1] + kx]
    return out


@st.composite
def cases(draw):
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    size = [draw(st.integers((kernel[i] - 1) * dilations[i] + 1, 14)) for i in (0, 1)]
    pads = [draw(st.integers(0, (kernel[i] - 1) * dilations[i])) for i in range(2)]
    after = [draw(st.integers(0, (kernel[i] - 1) * dilations[i])) for i in range(2)]
    return {
        "layout": draw(st.sampled_from(["channels", "planar"])),
        "lanes": draw(st.sampled_from([4, 8, 16])),
        "batch": draw(st.integers(1, 2)),
        "channels": draw(st.sampled_from([1, 2, 3, 7, 8, 12, 21, 33])),
        "size": size,
        "kernel": kernel,
        "dilations": dilations,
        "strides": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "pads": pads,
        "after": after,
        "bias": draw(st.booleans()),
        "residual": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**16)),
    }


def run_case(case):
    random = np.random.default_rng(case["seed"])
    n, c, (h, w), kernel = case["batch"], case["channels"], case["size"], case["kernel"]
    strides, dilations, pads, after = case["strides"], case["dilations"], case["pads"], case["after"]
    out = [((h, w)[i] + pads[i] + after[i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in (0, 1)]
    halo = (pads[0], pads[1], after[0], after[1])
    if case["layout"] == "channels":
        xv, xs = channels_last(n, c, h, w, halo=halo)
        yv, ys = channels_last(n, c, *out, halo=(1, 0, 1, 2), around=(3, 5))
    else:
        xv, xs = planar(n, c, h, w, halo=halo)
        yv, ys = planar(n, c, *out, halo=(1, 1, 0, 2))
    x, y, residual = np.zeros(xs, np.float32), np.full(ys, SENTINEL), random.standard_normal(ys, np.float32)
    image = random.standard_normal((n, c, h, w), np.float32)
    window(x, xv)[:] = image
    weights = random.standard_normal((c, kernel[0] * kernel[1]), np.float32)
    bias = random.standard_normal(c, np.float32) if case["bias"] else None
    epilogue = (Activation("Relu"), Residual(yv)) if case["residual"] else (Activation("Relu"),)
    problem = Depthwise(xv, yv, tuple(kernel), strides, dilations, tuple(pads), case["bias"], epilogue)
    kernel_built = build_depthwise(problem, weights, bias, machine(case["lanes"]))
    run = Compiled(kernel_built)
    inputs = [x, residual] if case["residual"] else [x]
    cut = int(random.integers(0, kernel_built.units + 1))
    run(inputs, y, cut, kernel_built.units)
    run(inputs, y, 0, cut)
    zero = np.zeros(c) if bias is None else bias
    expected = np.maximum(plain(image, weights, zero, kernel, strides, dilations, pads, out), 0)
    if case["residual"]:
        expected += window(residual, yv)
    np.testing.assert_allclose(window(y, yv), expected, atol=2e-5, rtol=1e-5)
    window(y, yv)[:] = SENTINEL
    assert (y == SENTINEL).all()


@settings(max_examples=30, deadline=None)
@given(cases())
def test_any_problem(case):
    run_case(case)


@pytest.mark.parametrize("layout", ["channels", "planar"])
@pytest.mark.parametrize(("channels", "size", "kernel", "stride"), [(24, (15, 20), 3, 1), (16, (22, 22), 5, 2)])
def test_onnxruntime(layout, channels, size, kernel, stride):
    random = np.random.default_rng(5)
    image = random.standard_normal((1, channels, *size), np.float32)
    weights = random.standard_normal((channels, 1, kernel, kernel), np.float32)
    pad = kernel // 2
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[stride] * 2, pads=[pad] * 4, group=channels)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "graph",
        [info("x", TensorProto.FLOAT, image.shape), info("w", TensorProto.FLOAT, weights.shape)],
        [info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": image, "w": weights})[0]
    make = channels_last if layout == "channels" else planar
    xv, xs = make(1, channels, *size, halo=(pad,) * 4)
    yv, ys = make(1, channels, *expected.shape[2:])
    x, y = np.zeros(xs, np.float32), np.zeros(ys, np.float32)
    window(x, xv)[:] = image
    problem = Depthwise(xv, yv, (kernel, kernel), (stride, stride), (1, 1), (pad, pad), False)
    Compiled(build_depthwise(problem, weights.reshape(channels, -1), None, machine(8)))([x], y)
    np.testing.assert_allclose(window(y, yv), expected, atol=2e-5, rtol=1e-5)


def test_functions_are_shared_between_equal_problems():
    view, _ = channels_last(1, 8, 6, 6, halo=(1, 1, 1, 1))
    problem = Depthwise(view, view, (3, 3), (1, 1), (1, 1), (1, 1), False)
    built = [build_depthwise(problem, np.full((8, 9), v, np.float32), None, machine(8)) for v in (1.0, 2.0)]
    assert built[0].func is built[1].func
