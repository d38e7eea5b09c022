"""Depthwise convolution of stored integers against the definition in numpy, bit for bit."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from arm_case import MACHINES, CompiledForArm, skip_without_emulator
from harness import Compiled, channels_last, planar, window
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_formats import drawn, held, sentinel, with_format
from test_depthwise import cases

from edgeprune.kernels.abi import FLOAT32, Activation, Format, Machine, Residual, Rounded
from edgeprune.kernels.depthwise.chains import tap_chains
from edgeprune.kernels.depthwise.depthwise import build_depthwise
from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.epilogue import reference_epilogue
from edgeprune.kernels.storage import written_array
from edgeprune.lowering.compile import compile_module
from edgeprune.target import load_target

SLACK = 64
"""Bytes that lie behind every buffer of integers."""


def machine(lanes: int, dot: str) -> Machine:
    return Machine(lanes, 32 if lanes == 16 else 16, 32768, 524288, dot)


def defined(x, weights, bias, scales, residual, problem: Depthwise):
    """x [N,C,H,W] as stored, weights [C,taps]: the whole-number sum times its scale, epilogue, store."""
    kernel, strides, dilations, pads = problem.kernel, problem.strides, problem.dilations, problem.pads
    size = (problem.y.height, problem.y.width)
    reach = [(size[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 for i in (0, 1)]
    room = [max(reach[i], pads[i] + x.shape[2 + i]) for i in (0, 1)]
    padded = np.zeros((*x.shape[:2], *room), np.int64)
    padded[:, :, pads[0] : pads[0] + x.shape[2], pads[1] : pads[1] + x.shape[3]] = x
    padded[:, :, pads[0] : pads[0] + x.shape[2], pads[1] : pads[1] + x.shape[3]] -= problem.x.format.zero
    total = np.zeros((*x.shape[:2], *size), np.int64) + bias[None, :, None, None]
    for ky, kx in np.ndindex(*kernel):
        rows = [i * strides[0] + ky * dilations[0] for i in range(size[0])]
        columns = [j * strides[1] + kx * dilations[1] for j in range(size[1])]
        total += padded[:, :, rows][:, :, :, columns] * weights[None, :, ky * kernel[1] + kx, None, None]
    assert abs(total).max() < 2**31
    value = total.astype(np.int32).astype(np.float32) * scales[None, :, None, None]
    return written_array(reference_epilogue(problem.epilogue, value, residual), problem.y.format)


def run_case(case, storage, target, dot, largest_bias, on=None, compiled=Compiled):
    random = np.random.default_rng(case["seed"])
    n, c, (h, w), kernel = case["batch"], case["channels"], case["size"], case["kernel"]
    strides, dilations, pads, after = case["strides"], case["dilations"], case["pads"], case["after"]
    out = [((h, w)[i] + pads[i] + after[i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in (0, 1)]
    halo = (pads[0], pads[1], after[0], after[1])
    place = channels_last if case["layout"] == "channels" else planar
    (xv, xs), (yv, ys) = place(n, c, h, w, halo=halo), place(n, c, *out, halo=(1, 0, 1, 2))
    one_sided = Format("int16", 0.03, 0, 0, 255)
    xf, yf, rf = (one_sided if kind == "relu" else drawn(random, kind) for kind in (storage, target, target))
    xv, yv, rv = with_format(xv, xf), with_format(yv, yf), with_format(yv, rf)
    x = np.full(xs + SLACK, xf.zero, xf.dtype)
    window(x, xv)[:] = held(random, n * c * h * w, xf).reshape(n, c, h, w)
    weights = random.integers(-127, 128, (c, kernel[0] * kernel[1]))
    bias = random.integers(-largest_bias, largest_bias + 1, c) if case["bias"] else np.zeros(c, np.int64)
    scales = random.uniform(1e-5, 1e-3, c).astype(np.float32)
    epilogue = (Activation("Relu"), Rounded(rf), Residual(rv)) if case["residual"] else (Activation("Relu"),)
    problem = Depthwise(xv, yv, tuple(kernel), strides, dilations, tuple(pads), case["bias"], epilogue)
    built = build_depthwise(problem, weights, bias if case["bias"] else None, on or machine(case["lanes"], dot), scales)
    run, residual, y = compiled(built), held(random, ys + SLACK, rf), sentinel(ys, yf)
    inputs = [x, residual] if case["residual"] else [x]
    cut = int(random.integers(0, built.units + 1))
    run(inputs, y, cut, built.units)
    run(inputs, y, 0, cut)
    expected = defined(window(x, xv), weights, bias, scales, [window(residual, rv)], problem)
    np.testing.assert_array_equal(window(y, yv), expected)
    window(y, yv)[:] = sentinel(1, yf)[0]
    assert (y == sentinel(1, yf)[0]).all()
    return built


@settings(max_examples=24, deadline=None)
@given(
    cases(),
    st.sampled_from(["pairs", "vnni"]),
    st.sampled_from(["pairs", "vnni", "float"]),
    st.sampled_from(["pairs", "bytes", "generic"]),
    st.sampled_from([1000, 2**30]),
)
def test_any_problem(case, storage, target, dot, largest_bias):
    run_case(case, storage, target, "generic" if case["lanes"] == 16 else dot, largest_bias)


def test_vectors_of_64_bytes():
    """Which this machine need not have: compiled, not run."""
    (xv, _), (yv, _) = channels_last(1, 80, 9, 9, halo=(1, 1, 1, 1)), channels_last(1, 80, 9, 9)
    f = Format("uint8", 0.1, 3, 0, 255)
    problem = Depthwise(with_format(xv, f), with_format(yv, f), (3, 3), (1, 1), (1, 1), (1, 1), False)
    for dot, names in (("pairs", ("vpmaddwd\t%zmm", "vpunpcklwd")), ("vnni", ("vpdpbusd\t", "vpunpcklbw"))):
        kernel = build_depthwise(problem, np.ones((80, 9)), None, machine(16, dot), np.ones(80, np.float32))
        target = load_target("x86-64-v4-vnni" if dot == "vnni" else "x86-64-v4")
        assembly = compile_module({"kernel": kernel.func}, target).inspect_source("asm")
        assert all(name in assembly for name in (*names, "vpackssdw\t%zmm"))


@pytest.mark.parametrize(("storage", "dot"), [("pairs", "pairs"), ("pairs", "generic"), ("vnni", "bytes")])
@pytest.mark.parametrize(("channels", "kernel", "stride"), [(40, 3, 1), (24, 5, 2), (17, 3, 2), (64, 7, 1), (9, 3, 1)])
def test_usual_shapes(storage, dot, channels, kernel, stride):
    pad = kernel // 2
    case = {"layout": "channels", "lanes": 8, "batch": 1, "channels": channels, "size": (15, 20), "residual": False}
    case |= {"kernel": (kernel, kernel), "dilations": (1, 1), "strides": (stride, stride), "pads": (pad, pad)}
    case |= {"after": (pad, pad), "bias": True, "seed": channels}
    built = run_case(case, storage, storage, dot, 100000)
    own = {"pairs": "pairs", "generic": "channels", "bytes": "quads"}
    assert built.label == f"depthwise {own[dot]}"


@pytest.mark.parametrize(("storage", "lanes"), [("pairs", 8), ("vnni", 8), ("vnni", 4)])
@pytest.mark.parametrize(("kernel", "dilation", "residual"), [(3, 1, True), (5, 2, False)])
def test_pixels_of_few_channels_are_done_together(storage, lanes, kernel, dilation, residual):
    pad = kernel // 2 * dilation
    case = {"layout": "channels", "lanes": lanes, "batch": 2, "channels": lanes // 2, "size": (7, 12)}
    case |= {"kernel": (kernel, kernel), "dilations": (dilation, dilation), "strides": (1, 1), "pads": (pad, pad)}
    case |= {"after": (pad, pad), "bias": True, "residual": residual, "seed": kernel}
    built = run_case(case, storage, storage, "pairs", 100000)
    assert built.label == "depthwise pairs" and len(built.constants[1]) == 2 * lanes
    built = run_case({**case, "size": (7, 16)}, "vnni", storage, "bytes", 100000)
    assert built.label == "depthwise quads" and len(built.constants[1]) == 4 * lanes


@pytest.mark.parametrize(("channels", "residual"), [(8, True), (4, False)])
def test_every_second_pixel_of_few_channels_is_done_with_others(channels, residual):
    case = {"layout": "channels", "lanes": 8, "batch": 2, "channels": channels, "size": (7, 32), "kernel": (3, 3)}
    case |= {"dilations": (1, 1), "strides": (2, 2), "pads": (1, 1), "after": (1, 1), "bias": True}
    built = run_case({**case, "residual": residual, "seed": 5}, "vnni", "vnni", "bytes", 100000)
    assert built.label == "depthwise quads" and len(built.constants[1]) == 32


@pytest.mark.parametrize("dot", MACHINES)
@pytest.mark.parametrize(("channels", "kernel", "stride", "storage"), [(24, 3, 1, "own"), (21, 5, 2, "vnni")])
def test_on_arm(dot, channels, kernel, stride, storage):
    skip_without_emulator()
    kind = "signed" if storage == "own" else storage
    pad = kernel // 2
    case = {"layout": "channels", "lanes": 4, "batch": 1, "channels": channels, "size": (7, 15), "residual": True}
    case |= {"kernel": (kernel, kernel), "dilations": (1, 1), "strides": (stride, stride), "pads": (pad, pad)}
    case |= {"after": (pad, pad), "bias": True, "seed": channels}
    built = run_case(case, kind, kind, dot, 100000, MACHINES[dot], partial(CompiledForArm, dot=dot))
    assert built.label == ("depthwise chains" if storage == "own" else "depthwise widening")


@pytest.mark.parametrize("size", [85, 86, 127])
def test_taps_share_an_int16_as_long_as_they_fit(size):
    """The largest weights meet the largest inputs; chains of three are too long from 86 on."""
    skip_without_emulator()
    (xv, xs), (yv, ys) = channels_last(1, 16, 5, 6, halo=(1, 1, 1, 1)), channels_last(1, 16, 5, 6)
    xv, yv = with_format(xv, Format("int8", 0.1, -128, -128, 127)), with_format(yv, FLOAT32)
    problem = Depthwise(xv, yv, (3, 3), (1, 1), (1, 1), (1, 1), False)
    weights = np.full((16, 9), -size)
    assert {len(chain) for chain in tap_chains(weights)} == ({3} if size == 85 else {1, 2})
    x, y, scales = np.full(xs, -128, np.int8), sentinel(ys, FLOAT32), np.ones(16, np.float32)
    kernel = build_depthwise(problem, weights, None, MACHINES["smull"], scales)
    CompiledForArm(kernel, "smull")([x], y)
    expected = defined(window(x, xv), weights, np.zeros(16, np.int64), scales, [], problem)
    np.testing.assert_array_equal(window(y, yv), expected)


def test_weights_take_one_byte_a_tap():
    view, _ = channels_last(1, 8, 6, 6, halo=(1, 1, 1, 1))
    view = with_format(view, Format("int16", 0.1, 0, -128, 127))
    problem = Depthwise(view, view, (3, 3), (1, 1), (1, 1), (1, 1), False)
    kernel = build_depthwise(problem, np.full((8, 9), 3), None, machine(8, "pairs"), np.ones(8, np.float32))
    assert sum(array.nbytes for array in kernel.constants) == 8 * (10 + 4 + 4)


def test_scales_go_with_integers():
    view, _ = channels_last(1, 8, 6, 6, halo=(1, 1, 1, 1))
    for f, scales in ((FLOAT32, np.ones(8, np.float32)), (Format("uint8", 0.1, 3, 0, 255), None)):
        problem = Depthwise(with_format(view, f), view, (3, 3), (1, 1), (1, 1), (1, 1), False)
        with pytest.raises(ValueError, match="scales go with an input of integers"):
            build_depthwise(problem, np.full((8, 9), 3), None, machine(8, "pairs"), scales)


def test_bounds_that_storing_sets_cost_nothing():
    case = {"layout": "channels", "lanes": 8, "batch": 1, "channels": 16, "size": (5, 6), "residual": False}
    case |= {"kernel": (3, 3), "dilations": (1, 1), "strides": (1, 1), "pads": (1, 1), "after": (1, 1)}
    case |= {"bias": True, "seed": 3}
    run_case(case, "pairs", "relu", "pairs", 100000)
