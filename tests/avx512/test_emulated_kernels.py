"""Every family of kernels, compiled for processors with AVX-512 or VNNI and run in the emulator, against numpy."""

from __future__ import annotations

from collections.abc import Iterator

import emulation
import integer_case
import numpy as np
import pytest
import test_conv2d_channels as channels
import test_conv2d_stored as stored
import test_depthwise as depthwise
import test_depthwise_stored as depthwise_stored
import test_move as move
from emulated_target import become
from harness import Compiled, channels_last, planar, window
from stored_formats import drawn, held, sentinel, with_format
from test_elementwise_stored import number, written
from test_pool_stored import defined

from edgeprune.kernels.abi import Activation, Machine
from edgeprune.kernels.conv2d.channels import build_channels
from edgeprune.kernels.conv2d.winograd import build_winograd
from edgeprune.kernels.conv2d.winograd_variant import variants as winograd_variants
from edgeprune.kernels.elementwise.elementwise import Elementwise, build_elementwise
from edgeprune.kernels.integer.integer import build_variant, variants
from edgeprune.kernels.pool.pool import build_pool
from edgeprune.kernels.pool.problem import Pool
from edgeprune.lowering.program import machine_of
from edgeprune.target import load_target

TARGETS = ("x86-64-v4", "x86-64-v4-vnni", "x86-64-v3-vnni")
WIDE = TARGETS[1:]
"""One with vectors of 64 bytes, one with 32: what does not multiply integers is the same for x86-64-v4."""


@pytest.fixture(params=TARGETS)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Of a target for which everything is compiled and emulated."""
    target = load_target(request.param)
    become(target, monkeypatch)
    before = emulation.executed()
    yield machine_of(target)
    assert emulation.executed() > before


both = pytest.mark.parametrize("machine", WIDE, indirect=True)


@both
@pytest.mark.parametrize(
    ("inputs", "outputs", "density", "block", "stride"), [(5, 37, 0.4, 1, 1), (19, 53, 0.3, 16, 2)]
)
def test_conv2d_channels(machine, inputs, outputs, density, block, stride):
    steps = ["last", Activation("HardSwish")]
    case = channels.make(inputs=inputs, outputs=outputs, density=density, block=block, strides=(stride,) * 2,
                         dilations=(1, 2), steps=steps, around=(3, 5), planar_input=stride == 2)  # fmt: skip
    case.check(build_channels(case.problem, case.weights, case.bias, machine), cuts=(2,))


@both
@pytest.mark.parametrize(("family", "storage"), [("pixels", "pairs"), ("channels", "vnni")])
def test_conv2d_that_stores_integers(machine, family, storage):
    stored.run_case(family, machine.lanes, (5, 21), (9, 19), 3, 1, storage, "residual", 3)


@both
def test_conv2d_winograd(machine):
    case = channels.make(inputs=8, outputs=12, height=8, width=10, steps=["last", Activation("Relu")])
    variant = winograd_variants(case.problem, channels.NEON)[0]
    case.check(build_winograd(case.problem, case.weights, case.bias, variant), cuts=(1,))


def _around(channels_: int, kernel: int, stride: int) -> dict[str, object]:
    pad = kernel // 2
    return {
        "layout": "channels", "batch": 1, "channels": channels_, "size": (9, 13), "residual": True, "bias": True,
        "kernel": (kernel, kernel), "dilations": (1, 1), "strides": (stride, stride), "pads": (pad, pad),
        "after": (pad, pad), "seed": channels_,
    }  # fmt: skip


@both
@pytest.mark.parametrize(("layout", "count", "kernel", "stride"), [("channels", 37, 3, 1), ("planar", 3, 5, 2)])
def test_depthwise(machine, layout, count, kernel, stride):
    depthwise.run_case({**_around(count, kernel, stride), "layout": layout, "lanes": machine.lanes})


def test_depthwise_of_integers(machine):
    own = "vnni" if machine.dot == "vnni" else "pairs"
    for channels_, kernel in ((45, 3), (93, 5)):
        built = depthwise_stored.run_case(_around(channels_, kernel, 2), own, own, machine.dot, 100000, machine)
        assert built.label == ("depthwise quads" if own == "vnni" else "depthwise pairs")


@pytest.mark.parametrize(
    ("inputs", "outputs", "density", "block", "widest"),
    [(37, 45, 1.0, (1, 1), 127), (64, 48, 0.25, (1, 16), 127), (24, 37, 0.4, (4, 16), 255)],
)
def test_integer(machine, inputs, outputs, density, block, widest):
    steps = (integer_case.STORED[2], Activation("Relu"))
    case = integer_case.make(machine=machine, inputs=inputs, outputs=outputs, density=density, block=block,
                             widest=widest, steps=steps, around=(3, 5), height=5, width=7)  # fmt: skip
    case.check(case.build(machine), cuts=(3,))


def test_integer_in_every_mode(machine):
    """Words of runs, of pairs where the machine has them, and of elements that every lane chooses."""
    case = integer_case.make(machine=machine, inputs=19, outputs=37, density=0.3, groups=1, height=4, width=5)
    found = {variant.parts[0].mode: variant for variant in variants(case.problem, case.weights, machine)}
    assert set(found) == {"runs", "lanes", *(["pairs"] if machine.dot == "pairs" else [])}
    for variant in found.values():
        case.check(build_variant(case.problem, case.weights, case.scales, case.bias, variant))


def test_products_of_the_largest_numbers_are_exact(machine):
    """All of the sum's bytes and weights are extreme: what saturates on the way would show."""
    case = integer_case.make(machine=machine, inputs=64, outputs=48, kernel=(1, 1), pads=(0, 0), height=1, width=5)
    format = case.problem.x.format
    case.x[:] = np.where(np.arange(case.x.size) % 3 == 0, format.low, format.high).astype(format.dtype)
    case.weights[:] = np.where(np.arange(case.weights.size).reshape(case.weights.shape) % 5 == 0, 127, -127)
    case.check(case.build(machine))


@both
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("storage", ["vnni"])
def test_pool(machine, kind, storage):
    random = np.random.default_rng(1)
    (xv, xs), (yv, ys) = channels_last(2, 37, 9, 11, around=(2, 1)), channels_last(2, 37, 5, 6, around=(3, 5))
    xf, yf = drawn(random, storage), drawn(random, storage)
    xv, yv = with_format(xv, xf), with_format(yv, yf)
    problem = Pool(xv, yv, kind, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), False)
    x, y = held(random, xs, xf), sentinel(ys, yf)
    Compiled(build_pool(problem, machine))([x], y)
    expected = defined(window(x, xv), [], problem)
    np.testing.assert_array_equal(window(y, yv), expected)


@both
@pytest.mark.parametrize("storage", ["float", "vnni"])
def test_elementwise(machine, storage):
    random = np.random.default_rng(2)
    views = [planar(1, 3, 7, 19, halo=(0, 1, 0, 2)) for _ in range(3)]
    formats = [drawn(random, storage) for _ in views]
    placed = [with_format(view, f) for (view, _), f in zip(views, formats, strict=True)]
    buffers = [held(random, size, f) for (_, size), f in zip(views[1:], formats[1:], strict=True)]
    y = sentinel(views[0][1], formats[0])
    program = (("input", 0), ("input", 1), ("Add",), Activation("LeakyRelu", 0.1))
    kernel = build_elementwise(Elementwise(placed[0], tuple(placed[1:]), program), machine)
    Compiled(kernel)(buffers, y)
    a, b = (number((window(array, view), f)) for array, view, f in zip(buffers, placed[1:], formats[1:], strict=True))
    total = a + b
    expected = written(np.where(total < 0, np.float32(0.1) * total, total).astype(np.float32), formats[0])
    off = 0 if formats[0].quantized else 1e-6
    np.testing.assert_allclose(window(y, placed[0]), expected, rtol=off, atol=off)


@both
@pytest.mark.parametrize("element", [move.FORMATS[0], move.FORMATS[1]])
def test_move(machine, element):
    move.check(
        ("planar", "channels slice"), (1, 37, 5, 9), (5, 9), None, (1, 1), (1, 1), (0, 0), machine.lanes, 0, element
    )
