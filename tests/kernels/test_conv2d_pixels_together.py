"""The pixels kernel of 64-bit Arm, in which output channels share what is loaded, run in the emulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from arm_case import MACHINES, CompiledForArm, skip_without_emulator
from harness import planar, window
from test_conv2d_pixels import plain

from edgeprune.kernels.abi import Activation, Machine, Residual
from edgeprune.kernels.conv2d.pixels import build_variant
from edgeprune.kernels.conv2d.pixels_packing import TURN, pack_together
from edgeprune.kernels.conv2d.pixels_variant import Variant, cheapest, entry_count, variants
from edgeprune.kernels.conv2d.problem import Conv2d

NEON = MACHINES["smull"]


def _problem(channels, size, kernel=(3, 3), stride=1, groups=1, after=(1, 7)):
    """A convolution with padding that keeps the size, its result in a planar buffer with a border."""
    pads = kernel[0] // 2, kernel[1] // 2
    inputs, outputs = channels
    (xv, xs) = planar(1, inputs, *size, halo=(*pads, pads[0], after[1]))
    out = [-(-extent // stride) for extent in size]
    (yv, ys) = planar(1, outputs, *out, halo=(1, 2, 0, 1))
    epilogue = (Residual(yv), Activation("Relu"))
    return Conv2d(xv, yv, kernel, (stride, stride), (1, 1), pads, groups, True, epilogue), xs, ys


def _weights(random, problem, density, together):
    shape = (problem.groups, problem.taps, problem.group_inputs, problem.group_outputs)
    kept = random.random((*shape[:3], -(-shape[3] // together))) < density
    weights = random.standard_normal(shape, np.float32) * kept.repeat(together, 3)[..., : shape[3]]
    return weights.astype(np.float32)


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "groups", "together", "rows", "vectors"),
    [
        ((3, 16), (6, 32), (3, 3), 1, 1, 1, 3, 8),
        ((6, 8), (9, 18), (3, 3), 1, 1, 4, 1, 4),
        ((8, 16), (5, 10), (3, 2), 1, 2, 8, 1, 2),
        ((5, 32), (7, 7), (1, 1), 1, 1, 16, 1, 1),
        ((4, 6), (8, 8), (3, 3), 1, 1, 2, 4, 2),
        ((7, 16), (16, 24), (3, 3), 2, 1, 8, 1, 2),
    ],
)
def test_as_defined(channels, size, kernel, stride, groups, together, rows, vectors):
    skip_without_emulator()
    random = np.random.default_rng(rows + together)
    problem, xs, ys = _problem(channels, size, kernel, stride, groups)
    weights = _weights(random, problem, 0.4, together)
    weights[0, :, :, :together] = 0
    variant = Variant(4, rows, vectors, max(2, together), problem.group_inputs, together)
    assert together in {found.together for found in variants(problem, NEON)}
    bias = random.standard_normal(problem.y.channels, np.float32)
    x, y, other = np.zeros(xs, np.float32), np.full(ys, np.float32(7)), random.standard_normal(ys, np.float32)
    image = random.standard_normal((1, channels[0], *size), np.float32)
    window(x, problem.x)[:] = image
    kernel_of = build_variant(problem, weights, bias, variant)
    CompiledForArm(kernel_of, "smull")([x, other], y)
    expected = np.maximum(plain(image, weights, bias, problem) + window(other, problem.y), 0)
    np.testing.assert_allclose(window(y, problem.y), expected, atol=3e-5, rtol=1e-5)
    window(y, problem.y)[:] = 7
    assert (y == 7).all()


def test_every_second_pixel_only_where_one_more_can_be_read():
    roomy, _, _ = _problem((4, 8), (8, 16), stride=2)
    narrow, _, _ = _problem((4, 8), (8, 16), stride=2, after=(0, 0))
    assert any(variant.together for variant in variants(roomy, NEON))
    assert not any(variant.together for variant in variants(narrow, NEON))


def test_other_machines_have_none():
    problem, _, _ = _problem((4, 8), (8, 16))
    assert not any(variant.together for variant in variants(problem, Machine(4, 16, 32768, 262144)))


def test_blocks_of_zeros_choose_how_many_go_together():
    random = np.random.default_rng(1)
    problem, _, _ = _problem((16, 16), (32, 32))
    alone = cheapest(problem, _weights(random, problem, 0.2, 1), NEON)[1]
    shared = cheapest(problem, _weights(random, problem, 0.2, 16), NEON)[1]
    assert (alone.together, shared.together > 1) == (1, True)


@pytest.mark.parametrize("reach", [0, 12])
def test_packing_finds_every_place_again(reach):
    random = np.random.default_rng(2)
    offsets = np.arange(2 * 9 * 7, dtype=np.int32).reshape(2, 9, 7)
    weights = random.standard_normal((2, 9, 7, 6)).astype(np.float32)
    weights[random.random((2, 9, 7)) > 0.3] = 0
    values, steps, table = pack_together(weights, offsets, 3, reach)
    rebuilt = np.zeros_like(weights)
    for block in range(4):
        first, last = table[block : block + 2]
        whole = first + (last - first) // TURN * TURN
        place = 0
        for entry in range(first, last):
            begins = entry >= whole or (entry - first) % TURN == 0
            place = int(steps[entry]) + (0 if begins else place + reach)
            group, tap, channel = np.unravel_index(place // 4, offsets.shape)
            assert group == block // 2
            begin = block % 2 * 3
            rebuilt[group, tap, channel, begin : begin + 3] += values[3 * entry : 3 * entry + 3]
    np.testing.assert_array_equal(rebuilt, weights)
    assert table[-1] == entry_count(weights, 3)
