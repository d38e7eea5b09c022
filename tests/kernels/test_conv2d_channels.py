"""The channels convolution, compiled, against plain numpy over awkward shapes, densities and views."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from harness import Compiled, channels_last, planar, window
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeprune.kernels.abi import Activation, Machine, Residual
from edgeprune.kernels.conv2d.channels import (
    build_channels,
    build_variant,
    choose,
    estimate,
    estimate_channels,
    variants,
)
from edgeprune.kernels.conv2d.channels_cost import crowded_lines
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.reference import convolve
from edgeprune.kernels.epilogue import reference_epilogue, residuals

MACHINES = {
    4: Machine(4, 16, 32768, 262144),
    8: Machine(8, 16, 32768, 524288),
    16: Machine(16, 32, 32768, 1048576),
}
NEON = Machine(4, 32, 32768, 1048576)
SENTINEL = np.float32(-77.5)


class Case:
    """A problem with its data; output channels are a slice of a wider buffer filled with SENTINEL."""

    def __init__(self, problem: Conv2d, sizes: tuple[int, ...], density: float, block: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.problem = problem
        self.x = np.zeros(sizes[0], np.float32)
        window(self.x, problem.x)[:] = rng.normal(size=window(self.x, problem.x).shape)
        self.added = [rng.normal(size=size).astype(np.float32) for size in sizes[2:]]
        self.y = np.full(sizes[1], SENTINEL, np.float32)
        shape = (problem.groups, problem.taps, problem.group_inputs, problem.group_outputs)
        kept = rng.random((*shape[:3], -(-shape[3] // block))) < density
        self.weights = (rng.normal(size=shape) * kept.repeat(block, -1)[..., : shape[3]]).astype(np.float32)
        self.bias = rng.normal(size=problem.y.channels).astype(np.float32) if problem.bias else None

    def expected(self, channel_order: np.ndarray | None = None) -> np.ndarray:
        p = self.problem
        x = window(self.x, p.x)
        x = x if channel_order is None else x[:, channel_order]
        size = (p.y.height, p.y.width)
        plain = convolve(
            x,
            self.weights,
            self.bias,
            kernel=p.kernel,
            strides=p.strides,
            dilations=p.dilations,
            pads=p.pads,
            size=size,
        )
        seen = [window(a, step.view) for a, step in zip(self.added, residuals(p.epilogue), strict=True)]
        return reference_epilogue(p.epilogue, plain.astype(np.float32), seen)

    def check(self, kernel, channel_order: np.ndarray | None = None, cuts: tuple[int, ...] = ()) -> None:
        run = Compiled(kernel)
        bounds = sorted({0, kernel.units, *(cut % (kernel.units + 1) for cut in cuts)})
        for begin, end in reversed(list(pairwise(bounds))):
            run([self.x, *self.added], self.y, begin, end)
        expected = self.expected(channel_order)
        scale = np.sqrt(self.problem.taps * self.problem.group_inputs)
        np.testing.assert_allclose(window(self.y, self.problem.y), expected, rtol=1e-5, atol=1e-5 * scale)
        window(self.y, self.problem.y)[:] = SENTINEL
        assert (self.y == SENTINEL).all(), "the kernel wrote outside its output"


def make(
    *, batch=1, inputs=8, outputs=16, height=9, width=11, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), pads=(1, 1),
    groups=1, bias=True, steps=(), density=1.0, block=1, around=(0, 0), planar_input=False, planar_output=False, seed=0,
) -> Case:  # fmt: skip
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [max(1, (n + 2 * p - s) // t + 1) for n, p, s, t in zip((height, width), pads, span, strides, strict=True)]
    reach = [(o - 1) * t + s - p - n for o, t, s, p, n in zip(size, strides, span, pads, (height, width), strict=True)]
    halo = (pads[0], pads[1], max(0, reach[0]), max(0, reach[1]))
    x, x_size = (planar if planar_input else channels_last)(batch, inputs, height, width, halo=halo)
    if planar_output:
        y, y_size = planar(batch, outputs, *size, halo=(1, 0, 0, 1))
    else:
        y, y_size = channels_last(batch, outputs, *size, halo=(0, 1, 1, 0), around=around)
    epilogue, sizes = [], [x_size, y_size]
    for step in steps:
        if step in ("last", "planar"):
            view, elements = (channels_last if step == "last" else planar)(batch, outputs, *size)
            epilogue.append(Residual(view))
            sizes.append(elements)
        else:
            epilogue.append(step)
    problem = Conv2d(x, y, kernel, strides, dilations, pads, groups, bias, tuple(epilogue))
    assert problem.halo() == halo
    return Case(problem, tuple(sizes), density, block, seed)


@st.composite
def cases(draw) -> Case:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    steps = st.sampled_from(["last", "planar", Activation("Relu"), Activation("Clip", -1, 2), Activation("HardSwish")])
    small = st.integers(1, 3)
    return make(
        batch=draw(st.sampled_from([1, 1, 2])),
        inputs=groups * draw(st.integers(1, 9)),
        outputs=groups * draw(st.integers(1, 45)),
        height=draw(st.integers(1, 13)),
        width=draw(st.integers(1, 15)),
        kernel=(draw(small), draw(small)),
        strides=(draw(small), draw(small)),
        dilations=(draw(small), draw(small)),
        pads=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        groups=groups,
        bias=draw(st.booleans()),
        steps=draw(st.lists(steps, max_size=3)),
        density=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        block=draw(st.sampled_from([1, 4, 16])),
        around=draw(st.sampled_from([(0, 0), (3, 5), (0, 7)])),
        planar_input=draw(st.booleans()),
        planar_output=draw(st.booleans()),
        seed=draw(st.integers(0, 9)),
    )


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from([4, 8, 16]), st.lists(st.integers(0, 1000), max_size=3))
def test_any_problem(case, lanes, cuts):
    case.check(build_channels(case.problem, case.weights, case.bias, MACHINES[lanes]), cuts=tuple(cuts))


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(), st.data())
def test_registers_of_64_bit_arm(case, data):
    variant = data.draw(st.sampled_from(variants(case.problem, NEON)))
    case.check(build_variant(case.problem, case.weights, case.bias, variant))


@pytest.mark.parametrize("inputs", [4, 12])
@pytest.mark.parametrize("density", [1.0, 0.2, 0.0])
def test_input_channels_in_runs(inputs, density):
    """Entries of four channels, kept where any weight of theirs is; every tile that the registers allow is tried."""
    case = make(inputs=2 * inputs, outputs=38, groups=2, density=density, block=4, steps=["last", Activation("Relu")])
    found = [variant for variant in variants(case.problem, NEON) if variant.parts[0].inputs == 4]
    for variant in found[:: max(1, len(found) // 3)]:
        case.check(build_variant(case.problem, case.weights, case.bias, variant))
    case.check(build_channels(case.problem, case.weights, case.bias, NEON))


def test_runs_want_neighbouring_channels():
    assert all(variant.parts[0].inputs == 1 for variant in variants(make(inputs=6).problem, NEON))
    assert all(variant.parts[0].inputs == 1 for variant in variants(make(planar_input=True).problem, NEON))
    assert all(variant.parts[0].inputs == 1 for variant in variants(make().problem, MACHINES[4]))
    dense, sparse = make(density=1.0, inputs=32), make(density=0.1, block=16, inputs=32)
    assert choose(dense.problem, dense.weights, NEON).parts[0].inputs == 4
    assert choose(sparse.problem, sparse.weights, NEON).parts[0].inputs == 1
    gathered = np.random.default_rng(1).permutation(8).astype(np.int32)
    case = make()
    kernel = build_channels(case.problem, case.weights, case.bias, NEON, gathered)
    assert "inputs" not in kernel.label
    case.check(kernel, channel_order=gathered)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from([4, 8, 16]), st.data())
def test_any_variant(case, lanes, data):
    variant = data.draw(st.sampled_from(variants(case.problem, MACHINES[lanes])))
    case.check(build_variant(case.problem, case.weights, case.bias, variant))


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("rows", [1, 5])
def test_linear(lanes, rows):
    case = make(inputs=37, outputs=21, height=1, width=rows, kernel=(1, 1), pads=(0, 0), density=0.5)
    case.check(build_channels(case.problem, case.weights, case.bias, MACHINES[lanes]))


def test_channel_offsets_gather_and_shuffle():
    case = make(inputs=6, outputs=9)
    order = np.array([5, 0, 3, 3, 1, 2])
    offsets = (order * case.problem.x.channel_stride).astype(np.int32)
    case.check(build_channels(case.problem, case.weights, case.bias, MACHINES[8], offsets), channel_order=order)


def test_empty_blocks_give_bias_and_epilogue():
    case = make(outputs=40, density=0.0, steps=(Activation("Relu"),))
    kernel = build_channels(case.problem, case.weights, case.bias, MACHINES[8])
    assert kernel.macs == 0
    case.check(kernel)


def test_zero_weights_are_not_stored():
    case = make(inputs=16, outputs=32, density=0.25, block=16)
    kernel = build_channels(case.problem, case.weights, case.bias, MACHINES[8])
    assert kernel.macs == np.count_nonzero(case.weights) * case.problem.pixels
    assert kernel.dense_macs == case.weights.size * case.problem.pixels
    assert kernel.constants[0].size <= 1.05 * np.count_nonzero(case.weights)


def test_equal_shapes_share_one_function():
    case = make(inputs=4)
    first = build_channels(case.problem, case.weights, case.bias, MACHINES[8])
    assert build_channels(case.problem, -case.weights, case.bias, MACHINES[8]).func is first.func


def test_estimate_falls_with_the_weights():
    dense, sparse = (make(inputs=32, outputs=32, density=d, block=16) for d in (1.0, 0.25))
    machine = MACHINES[8]
    costs = [estimate_channels(case.problem, case.weights, machine) for case in (dense, sparse)]
    assert 0.2 < costs[1] / costs[0] < 0.4
    variant = choose(dense.problem, dense.weights, machine)
    assert estimate(dense.problem, dense.weights, variant, machine) == pytest.approx(costs[0])


def test_pixels_a_power_of_two_apart_take_smaller_tiles():
    """Of 512 channels of float32 a pixel takes 2048 bytes: two sets of the first-level cache hold eight lines each."""
    problem = make(inputs=512, outputs=16, height=13, width=16, kernel=(1, 1), pads=(0, 0)).problem
    fewer = replace(problem, x=replace(problem.x, row_stride=16 * 500, pixel_stride=500))
    whole = np.ones((1, 1, 512, 16), np.float32)
    tile = max(variants(problem, MACHINES[16]), key=lambda v: v.parts[0].rows.most * v.parts[0].columns.most).parts[0]
    pixels = tile.rows.most * tile.columns.most
    assert crowded_lines(problem, tile, tile.rows.most, tile.columns.most, MACHINES[16]) == pixels > 16
    assert crowded_lines(problem, tile, 1, 16, MACHINES[16]) == 0
    assert crowded_lines(fewer, tile, tile.rows.most, tile.columns.most, MACHINES[16]) == 0
    chosen, free = (choose(each, whole, MACHINES[16]).parts[0] for each in (problem, fewer))
    assert chosen.rows.most * chosen.columns.most <= 16 < free.rows.most * free.columns.most


def test_units_can_be_shared_by_threads():
    case = make(inputs=16, outputs=16, height=32, width=32)
    assert build_channels(case.problem, case.weights, case.bias, MACHINES[8]).units >= 16


def test_halo_is_what_the_taps_reach():
    problem = make(height=8, width=8, kernel=(3, 5), strides=(2, 1), pads=(1, 2)).problem
    assert problem.halo() == (1, 2, 0, 2)
    assert replace(problem, pads=(0, 0)).halo() == (0, 0, 1, 4)


def test_axes_that_run_on_in_memory_are_one():
    flat = make(batch=2, inputs=4, outputs=8, height=5, width=7, kernel=(1, 1), pads=(0, 0), planar_output=True).problem
    assert [axis.count for axis in flat.grid] == [2, 5, 7]
    x, y = channels_last(2, 4, 5, 7)[0], channels_last(2, 8, 5, 7)[0]
    assert [axis.count for axis in Conv2d(x, y, (1, 1)).grid] == [1, 1, 70]
    assert [axis.count for axis in Conv2d(x, y, (1, 1), epilogue=(Residual(flat.y),)).grid] == [2, 5, 7]
