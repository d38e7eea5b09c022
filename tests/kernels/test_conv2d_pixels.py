"""The pixels kernel against a plain convolution, over shapes, densities and tiles, and against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from harness import Compiled, channels_last, planar, window
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeprune.kernels.abi import Activation, Machine, Residual
from edgeprune.kernels.conv2d.channels import estimate_channels
from edgeprune.kernels.conv2d.pixels import build_pixels, build_variant, estimate_pixels
from edgeprune.kernels.conv2d.pixels_packing import pack_entries
from edgeprune.kernels.conv2d.pixels_variant import Variant, variants
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shifted import shifted
from edgeprune.kernels.elementwise.move import build_move

SENTINEL = np.float32(1234.5)


def machine(lanes: int) -> Machine:
    return Machine(lanes, 32 if lanes == 16 else 16, 32768, 524288)


def plain(x, weights, bias, problem: Conv2d):
    """x [N,C,H,W], weights [groups,taps,in,out]: one tap of one group after the other, in float64."""
    top, left, bottom, right = problem.halo()
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    groups, _, inputs, outputs = weights.shape
    out = np.zeros((x.shape[0], groups * outputs, problem.y.height, problem.y.width)) + bias[None, :, None, None]
    for g, (ky, kx) in ((g, k) for g in range(groups) for k in np.ndindex(*problem.kernel)):
        rows = [i * problem.strides[0] + ky * problem.dilations[0] for i in range(problem.y.height)]
        columns = [i * problem.strides[1] + kx * problem.dilations[1] for i in range(problem.y.width)]
        part = padded[:, g * inputs : (g + 1) * inputs][:, :, rows][:, :, :, columns]
        matrix = weights[g, ky * problem.kernel[1] + kx]
        out[:, g * outputs : (g + 1) * outputs] += np.einsum("nchw,co->nohw", part, matrix)
    return out


@st.composite
def cases(draw):
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 1)]))
    size = [draw(st.integers((kernel[i] - 1) * dilations[i] + 1, 20)) for i in range(2)]
    pads = [draw(st.integers(0, (kernel[i] - 1) * dilations[i])) for i in range(2)]
    after = [draw(st.integers(0, (kernel[i] - 1) * dilations[i])) for i in range(2)]
    out = [(size[i] + pads[i] + after[i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(2)]
    return {
        "fixed": (kernel, strides, dilations, tuple(pads)),
        "size": size,
        "out": out,
        "groups": draw(st.sampled_from([1, 1, 2, 3])),
        "channels": (draw(st.sampled_from([1, 2, 5, 11])), draw(st.sampled_from([1, 3, 9]))),
        "density": draw(st.sampled_from([0.0, 0.1, 0.4, 1.0])),
        "batch": draw(st.integers(1, 2)),
        "halo": draw(st.booleans()),
        "lanes": draw(st.sampled_from([4, 8, 16])),
        "bias": draw(st.booleans()),
        "residual": draw(st.booleans()),
        "pick": draw(st.integers(0, 999)),
    }


@settings(max_examples=30, deadline=None)
@given(cases())
def test_any_problem(case):
    random = np.random.default_rng(case["pick"])
    groups, (inputs, outputs) = case["groups"], case["channels"]
    shape = (case["batch"], groups * inputs, *case["size"])
    out = (case["batch"], groups * outputs, *case["out"])
    probe = Conv2d(planar(*shape)[0], planar(*out)[0], *case["fixed"], groups)
    (xv, xs), (yv, ys) = (
        planar(*shape, halo=probe.halo()),
        planar(*out, halo=(1, 2, 0, 1) if case["halo"] else (0,) * 4),
    )
    epilogue = (Residual(yv), Activation("Relu")) if case["residual"] else (Activation("LeakyRelu", 0.1),)
    problem = Conv2d(xv, yv, *case["fixed"], groups, case["bias"], epilogue)
    x, y, other = np.zeros(xs, np.float32), np.full(ys, SENTINEL), random.standard_normal(ys, np.float32)
    image = random.standard_normal(shape, np.float32)
    window(x, xv)[:] = image
    weights = random.standard_normal((groups, problem.taps, inputs, outputs), np.float32)
    weights[random.random(weights.shape) >= case["density"]] = 0
    bias = random.standard_normal(groups * outputs, np.float32) if case["bias"] else None
    found = variants(problem, machine(case["lanes"]))
    chosen = found[case["pick"] % len(found)]
    blocked = Variant(chosen.width, chosen.rows, chosen.vectors, 1 + case["pick"] % 5, 1 + case["pick"] % inputs)
    kernel = build_variant(problem, weights, bias, blocked if case["pick"] % 2 else chosen)
    inputs_ = [x, other] if case["residual"] else [x]
    cut = int(random.integers(0, kernel.units + 1))
    run = Compiled(kernel)
    run(inputs_, y, cut, kernel.units)
    run(inputs_, y, 0, cut)
    expected = plain(image, weights, np.zeros(groups * outputs) if bias is None else bias, problem)
    if case["residual"]:
        expected = np.maximum(expected + window(other, yv), 0)
    else:
        expected = np.where(expected < 0, 0.1 * expected, expected)
    np.testing.assert_allclose(window(y, yv), expected, atol=3e-5, rtol=1e-5)
    window(y, yv)[:] = SENTINEL
    assert (y == SENTINEL).all()
    assert kernel.macs == np.count_nonzero(weights) * problem.pixels


@settings(max_examples=25, deadline=None)
@given(cases())
def test_any_problem_over_copies_of_its_image(case):
    random = np.random.default_rng(case["pick"])
    groups, (inputs, outputs), facts = case["groups"], case["channels"], machine(case["lanes"])
    shape, out = (1, groups * inputs, *case["size"]), (1, groups * outputs, *case["out"])
    probe = Conv2d(planar(*shape)[0], planar(*out)[0], *case["fixed"], groups)
    (xv, xs), (yv, ys) = planar(*shape, halo=probe.halo()), planar(*out)
    problem = Conv2d(xv, yv, *case["fixed"], groups, case["bias"])
    x = np.zeros(xs, np.float32)
    image = window(x, xv)[:] = random.standard_normal(shape, np.float32)
    weights = random.standard_normal((groups, problem.taps, inputs, outputs), np.float32)
    weights[random.random(weights.shape) >= case["density"]] = 0
    bias = random.standard_normal(groups * outputs, np.float32) if case["bias"] else None
    expected = plain(image, weights, np.zeros(groups * outputs) if bias is None else bias, problem)
    way = shifted(problem, facts)
    assert (way is None) == (problem.strides[1] == 1 or case["lanes"] < 8)
    if way is not None:
        copies, y = np.full(way.elements, SENTINEL), np.full(ys, SENTINEL)
        Compiled(build_move(way.move, facts))([x], copies)
        Compiled(build_pixels(way.problem, way.weights(weights), bias, facts))([copies], y)
        np.testing.assert_allclose(window(y, yv), expected, atol=3e-5, rtol=1e-5)
        assert np.count_nonzero(way.weights(weights)) == np.count_nonzero(weights)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "kernel", "stride"),
    [(16, 16, 32, 3, 1), (16, 24, 17, 3, 2), (256, 12, 13, 1, 1), (64, 8, 8, 3, 1)],
)
def test_onnxruntime(inputs, outputs, size, kernel, stride):
    random = np.random.default_rng(1)
    image = random.standard_normal((1, inputs, size, size), np.float32)
    weights = random.standard_normal((outputs, inputs, kernel, kernel), np.float32)
    weights[random.random(weights.shape) > 0.2] = 0
    bias = random.standard_normal(outputs, np.float32)
    pad = kernel // 2
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[stride] * 2, pads=[pad] * 4)
    info = helper.make_tensor_value_info
    ports = [("x", image), ("w", weights), ("b", bias)]
    declared = [info(name, TensorProto.FLOAT, value.shape) for name, value in ports]
    graph = helper.make_graph([node], "graph", declared, [info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, dict(ports))[0]
    (xv, xs), (yv, ys) = planar(1, inputs, size, size, halo=(pad,) * 4), planar(*expected.shape)
    x, y = np.zeros(xs, np.float32), np.zeros(ys, np.float32)
    window(x, xv)[:] = image
    problem = Conv2d(xv, yv, (kernel, kernel), (stride, stride), (1, 1), (pad, pad), 1, True)
    packed = weights.reshape(1, outputs, inputs, -1).transpose(0, 3, 2, 1)
    Compiled(build_pixels(problem, packed, bias, machine(8)))([x], y)
    np.testing.assert_allclose(window(y, yv), expected, atol=1e-4, rtol=1e-4)


def test_channel_offsets_gather_inputs():
    random = np.random.default_rng(2)
    (xv, xs), (yv, ys) = planar(1, 6, 5, 9), planar(1, 4, 5, 9)
    order = np.array([5, 0, 3, 1, 4, 2], np.int32)
    x, y = random.standard_normal(xs, np.float32), np.zeros(ys, np.float32)
    weights = random.standard_normal((1, 1, 6, 4), np.float32)
    problem = Conv2d(xv, yv, (1, 1))
    Compiled(build_pixels(problem, weights, None, machine(8), order * np.int32(xv.channel_stride)))([x], y)
    expected = np.einsum("chw,co->ohw", window(x, xv)[0, order], weights[0, 0])
    np.testing.assert_allclose(window(y, yv)[0], expected, atol=1e-5)


def test_packing_keeps_every_weight_once():
    random = np.random.default_rng(3)
    weights = random.standard_normal((2, 9, 7, 5), np.float32)
    weights[random.random(weights.shape) > 0.3] = 0
    offsets = np.arange(2 * 9 * 7, dtype=np.int32).reshape(2, 9, 7)
    values, places, table = pack_entries(weights, offsets, 3)
    rebuilt = np.zeros_like(weights)
    for block in range(3):
        for output in range(10):
            for entry in range(table[block * 10 + output], table[block * 10 + output + 1]):
                group, tap, channel = np.unravel_index(places[entry], offsets.shape)
                assert (group, channel // 3) == (output // 5, block)
                rebuilt[group, tap, channel, output % 5] += values[entry]
    np.testing.assert_array_equal(rebuilt, weights)


def test_estimate_falls_with_density_and_functions_are_shared():
    problem = Conv2d(planar(1, 16, 32, 32, halo=(1, 1, 1, 1))[0], planar(1, 16, 32, 32)[0], (3, 3), pads=(1, 1))
    random = np.random.default_rng(4)
    dense = random.standard_normal((1, 9, 16, 16), np.float32)
    sparse = np.where(random.random(dense.shape) < 0.2, dense, np.float32(0))
    assert estimate_pixels(problem, sparse, machine(8)) < 0.4 * estimate_pixels(problem, dense, machine(8))
    other = np.where(sparse != 0, np.float32(2), np.float32(0))
    assert build_pixels(problem, sparse, None, machine(8)).func is build_pixels(problem, other, None, machine(8)).func


@pytest.mark.parametrize("lanes", [8, 16])
def test_scattered_quarters_of_small_images_are_for_pixels(lanes):
    """Vectors along channels multiply the zeros of scattered weights, those along pixels skip them."""
    random = np.random.default_rng(5)
    weights = random.standard_normal((1, 9, 64, 64), np.float32) * (random.random((1, 9, 64, 64)) < 0.25)
    halo = (1, 1, 1, 1)
    lines = Conv2d(planar(1, 64, 8, 8, halo=halo)[0], planar(1, 64, 8, 8)[0], (3, 3), pads=(1, 1))
    last = Conv2d(channels_last(1, 64, 8, 8, halo=halo)[0], channels_last(1, 64, 8, 8)[0], (3, 3), pads=(1, 1))
    assert estimate_pixels(lines, weights, machine(lanes)) < estimate_channels(last, weights, machine(lanes))
