"""The pixels kernel of 64-bit Arm, in which output channels share what is loaded, run in the emulator against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from arm_case import MACHINES, CompiledForArm, skip_without_emulator
from harness import channels_last, planar, window
from test_conv2d_pixels import plain

from edgeprune.kernels.abi import Activation, Machine, Residual
from edgeprune.kernels.conv2d.pixels import build_variant
from edgeprune.kernels.conv2d.pixels_loop import REGISTERS, TURN, Loop
from edgeprune.kernels.conv2d.pixels_packing import pack_together
from edgeprune.kernels.conv2d.pixels_variant import Variant, cheapest, entry_count, loop_of, variants
from edgeprune.kernels.conv2d.problem import Conv2d

NEON = MACHINES["smull"]


def _problem(channels, size, kernel=(3, 3), stride=1, groups=1, after=(1, 7), steps=("add", "relu"), bias=True):
    """A convolution with padding that keeps the size, its result in a planar buffer with a border."""
    pads = kernel[0] // 2, kernel[1] // 2
    inputs, outputs = channels
    (xv, xs) = planar(1, inputs, *size, halo=(*pads, pads[0], after[1]))
    out = [-(-extent // stride) for extent in size]
    (yv, ys) = planar(1, outputs, *out, halo=(1, 2, 0, 1))
    epilogue = tuple(Residual(yv) if step == "add" else Activation("Relu") for step in steps)
    return Conv2d(xv, yv, kernel, (stride, stride), (1, 1), pads, groups, bias, epilogue), xs, ys


def _weights(random, problem, density, together):
    shape = (problem.groups, problem.taps, problem.group_inputs, problem.group_outputs)
    kept = random.random((*shape[:3], -(-shape[3] // together))) < density
    weights = random.standard_normal(shape, np.float32) * kept.repeat(together, 3)[..., : shape[3]]
    return weights.astype(np.float32)


def _run(problem, sizes, variant, weights, seed):
    """What the emulated kernel makes of random numbers is what numpy makes of them, and it writes nothing else."""
    skip_without_emulator()
    random, (xs, ys) = np.random.default_rng(seed), sizes
    bias = random.standard_normal(problem.y.channels, np.float32) if problem.bias else None
    x, y = np.zeros(xs, np.float32), np.full(ys, np.float32(7))
    others = [random.standard_normal(ys, np.float32) for step in problem.epilogue if isinstance(step, Residual)]
    image = random.standard_normal(window(x, problem.x).shape, np.float32)
    window(x, problem.x)[:] = image
    CompiledForArm(build_variant(problem, weights, bias, variant), "smull")([x, *others], y)
    plus = np.zeros(problem.y.channels) if bias is None else bias
    expected, waiting = plain(image, weights, plus, problem), iter(others)
    for step in problem.epilogue:
        adds = isinstance(step, Residual)
        expected = expected + window(next(waiting), problem.y) if adds else np.maximum(expected, 0)
    np.testing.assert_allclose(window(y, problem.y), expected, atol=3e-5, rtol=1e-5)
    window(y, problem.y)[:] = 7
    assert (y == 7).all()


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "groups", "together", "rows", "vectors"),
    [
        ((3, 16), (6, 32), (3, 3), 1, 1, 1, 2, 8),
        ((6, 8), (9, 18), (3, 3), 1, 1, 4, 1, 4),
        ((8, 16), (5, 10), (3, 2), 1, 2, 8, 1, 2),
        ((5, 32), (7, 7), (1, 1), 1, 1, 16, 1, 1),
        ((4, 6), (8, 8), (3, 3), 1, 1, 2, 4, 2),
        ((7, 16), (16, 24), (3, 3), 2, 1, 8, 1, 2),
        ((3, 4), (7, 40), (3, 3), 2, 1, 2, 2, 5),
        ((3, 5), (5, 28), (3, 3), 1, 1, 1, 2, 7),
        ((3, 4), (9, 13), (3, 3), 1, 1, 1, 3, 1),
    ],
)
def test_as_defined(channels, size, kernel, stride, groups, together, rows, vectors):
    problem, *sizes = _problem(channels, size, kernel, stride, groups)
    weights = _weights(np.random.default_rng(rows + together), problem, 0.4, together)
    weights[0, :, :, :together] = 0
    variant = Variant(4, rows, vectors, max(2, together), problem.group_inputs, together)
    assert together in {found.together for found in variants(problem, NEON)}
    assert loop_of(problem, variant).registers <= REGISTERS
    _run(problem, sizes, variant, weights, rows + together)


@pytest.mark.parametrize(
    ("steps", "together", "rows", "vectors"),
    [((), 2, 3, 1), (("add",), 1, 2, 2), (("relu", "add"), 4, 1, 2), (("add", "add", "relu"), 2, 1, 3)],
)
def test_whatever_comes_after(steps, together, rows, vectors):
    size = (12, 24) if vectors == 3 else (6, 9)
    problem, *sizes = _problem((3, 8), size, stride=size[0] // 6, steps=steps, bias=len(steps) != 1)
    weights = _weights(np.random.default_rng(len(steps)), problem, 0.5, together)
    _run(problem, sizes, Variant(4, rows, vectors, together, 3, together), weights, len(steps))


def test_lists_of_any_length():
    """One to two turns and a bit: every entry of a turn is where one of the lists begins."""
    lengths, together = np.arange(20), 4
    problem, *sizes = _problem((5, 80), (4, 16), (2, 3))
    random = np.random.default_rng(3)
    weights = np.zeros((30, 20, together), np.float32)
    for number, length in enumerate(lengths):
        weights[random.permutation(30)[:length], number] = random.standard_normal((length, together), np.float32)
    _run(problem, sizes, Variant(4, 1, 4, 80, 5, together), weights.reshape(1, 6, 5, 80), 3)


@pytest.mark.parametrize("stride", [1, 2])
def test_images_of_a_batch_and_pixels_apart(stride):
    """A result whose channels lie next to each other is stored vector by vector."""
    xv, xs = planar(3, 4, 5 * stride, 8 * stride, halo=(1, 1, 1, 3))
    yv, ys = channels_last(3, 8, 5, 8, around=(1, 2))
    steps = (Residual(yv), Activation("Relu"))
    problem = Conv2d(xv, yv, (3, 3), (stride, stride), (1, 1), (1, 1), 1, True, steps)
    assert not loop_of(problem, Variant(4, 1, 2, 8, 4, 4)).given
    _run(problem, (xs, ys), Variant(4, 1, 2, 8, 4, 4), _weights(np.random.default_rng(4), problem, 0.5, 4), 4)


def test_every_second_pixel_only_where_one_more_can_be_read():
    roomy, _, _ = _problem((4, 8), (8, 16), stride=2)
    narrow, _, _ = _problem((4, 8), (8, 16), stride=2, after=(0, 0))
    assert any(variant.together for variant in variants(roomy, NEON))
    assert not any(variant.together for variant in variants(narrow, NEON))


@pytest.mark.parametrize(
    ("channels", "size", "stride"), [((3, 16), (32, 32), 1), ((64, 48), (8, 8), 1), ((8, 6), (16, 20), 2)]
)
def test_sums_stay_in_registers_and_units_are_whole_lists(channels, size, stride):
    problem, _, _ = _problem(channels, size, stride=stride)
    found = [variant for variant in variants(problem, NEON) if variant.together]
    assert {variant.together for variant in found} == {count for count in (1, 2, 4, 8, 16) if channels[1] % count == 0}
    assert all(loop_of(problem, variant).registers <= REGISTERS for variant in found)
    assert not any(variant.channels % variant.together for variant in found)


def test_other_machines_have_none():
    problem, _, _ = _problem((4, 8), (8, 16))
    assert not any(variant.together for variant in variants(problem, Machine(4, 16, 32768, 262144)))


def test_blocks_of_zeros_choose_how_many_go_together():
    random = np.random.default_rng(1)
    problem, _, _ = _problem((16, 16), (32, 32))
    alone = cheapest(problem, _weights(random, problem, 0.2, 1), NEON)[1]
    shared = cheapest(problem, _weights(random, problem, 0.2, 16), NEON)[1]
    assert (alone.together, shared.together > 1) == (1, True)


@pytest.mark.parametrize("loop", [Loop(1, 4, 2, 1), Loop(2, 2, 2, 1), Loop(1, 1, 1, 2)])
def test_packing_finds_every_place_again(loop):
    random, together, reach = np.random.default_rng(2), loop.together, 12
    offsets = np.arange(2 * 9 * 7, dtype=np.int32).reshape(2, 9, 7)
    weights = random.standard_normal((2, 9, 7, 6)).astype(np.float32)
    weights[random.random((2, 9, 7)) > 0.3] = 0
    bias = random.standard_normal(12).astype(np.float32)
    values, steps, table = pack_together(weights, bias, offsets, loop, reach)
    rebuilt, lists = np.zeros_like(weights), 12 // together
    for number, (at, start) in enumerate(table.reshape(lists, 2)):
        jump, turns, place, onward = steps[at : at + 4]
        begin = loop.places.index(jump)
        own = values[start : start + loop.biases].reshape(-1, together)
        assert (own == bias[number * together : (number + 1) * together]).all()
        start += loop.biases + begin % loop.group * together
        after = [onward] if loop.pieces == 1 else []
        after += list(steps[at + 4 + begin % 2 :])
        for entry in range(turns * TURN - begin):
            group, tap, channel = np.unravel_index(place // 4, offsets.shape)
            assert group == number // (lists // 2)
            first = number % (lists // 2) * together
            rebuilt[group, tap, channel, first : first + together] += values[start : start + together]
            start, last = start + together, place
            place += reach + after[entry]
        assert place == last
    np.testing.assert_array_equal(rebuilt, weights)
    assert sum(steps[at + 1] for at in table[::2]) * TURN >= entry_count(weights, together)


def test_what_a_turn_costs():
    """Of four channels over four vectors: the multiply-adds, a load, half of the steps and of the weights."""
    loop = Loop(1, 4, 4, 1)
    assert loop.turn == TURN * (16 + 1) + TURN + 2
    assert len(loop.instructions()) == loop.overhead + 1 + loop.turn
