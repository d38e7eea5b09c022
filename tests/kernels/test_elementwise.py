"""Fused elementwise kernels against numpy, over broadcasts, layouts and slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness import Compiled, channels_last, planar, window
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeprune.kernels.abi import Activation, Machine, View
from edgeprune.kernels.elementwise.elementwise import Elementwise, build_elementwise

SENTINEL = np.float32(1234.5)
NUMPY = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "PRelu": lambda a, b: np.where(a < 0, a * b, a),
    "Greater": lambda a, b: (a > b) * 1.0,
    "GreaterOrEqual": lambda a, b: (a >= b) * 1.0,
    "Less": lambda a, b: (a < b) * 1.0,
    "LessOrEqual": lambda a, b: (a <= b) * 1.0,
    "Equal": lambda a, b: (a == b) * 1.0,
}


def machine(lanes: int) -> Machine:
    return Machine(lanes, 16, 32768, 524288)


def broadcast(view: View, axes: tuple[str, ...]) -> View:
    return replace(view, **{f"{axis}_stride": 0 for axis in axes})


@st.composite
def cases(draw):
    shape = [
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 3, 8, 13, 32])),
        *draw(st.tuples(*[st.integers(1, 19)] * 2)),
    ]
    layouts = [draw(st.sampled_from(["channels", "channels halo", "planar", "planar halo"])) for _ in range(3)]
    axes = st.lists(st.sampled_from(["batch", "channel", "row", "pixel"]), unique=True)
    dropped = [tuple(draw(axes)) if draw(st.booleans()) else () for _ in range(2)]
    binary = [draw(st.sampled_from(sorted(NUMPY))) for _ in range(2)]
    return shape, layouts, dropped, binary, draw(st.sampled_from([4, 8, 16])), draw(st.integers(0, 999))


def place(layout: str, shape) -> tuple[View, int]:
    halo = (1, 2, 0, 1) if "halo" in layout else (0, 0, 0, 0)
    if "channels" in layout:
        return channels_last(*shape, halo=halo, around=(2, 3) if "halo" in layout else (0, 0))
    return planar(*shape, halo=halo)


@settings(max_examples=22, deadline=None)
@given(cases())
@example(([1, 3, 1, 2], ["channels", "planar", "planar"], [(), ()], ["Add", "Add"], 4, 0))
def test_any_program(case):
    shape, layouts, dropped, binary, lanes, seed = case
    random = np.random.default_rng(seed)
    places = [place(layout, shape) for layout in layouts]
    output, inputs = places[0][0], [broadcast(p[0], axes) for p, axes in zip(places[1:], dropped, strict=True)]
    buffers = [random.standard_normal(size, np.float32) for _, size in places[1:]]
    y = np.full(places[0][1], SENTINEL)
    steps = (("input", 0), ("input", 1), (binary[0],), Activation("Sigmoid"), ("constant", 0.75), ("input", 0))
    program = (*steps, (binary[1],), ("Mul",))
    kernel = build_elementwise(Elementwise(output, tuple(inputs), program), machine(lanes))
    run = Compiled(kernel)
    cut = int(random.integers(0, kernel.units + 1))
    run(buffers, y, cut, kernel.units)
    run(buffers, y, 0, cut)
    a, b = (window(buffer, view).astype(np.float64) for buffer, view in zip(buffers, inputs, strict=True))
    with np.errstate(all="ignore"):
        expected = NUMPY[binary[1]](0.75, a) / (1 + np.exp(-NUMPY[binary[0]](a, b)))
    np.testing.assert_allclose(window(y, output), expected, rtol=2e-5, atol=1e-6)
    window(y, output)[:] = SENTINEL
    assert (y == SENTINEL).all()


def test_a_long_row_is_cut_into_units_and_may_be_written_in_place():
    view = View(1, 1, 1, 10007, 3, 0, 0, 0, 1)
    problem = Elementwise(view, (view, view), (("input", 0), ("input", 1), ("Add",)))
    kernel = build_elementwise(problem, machine(8))
    assert kernel.units > 1
    y = np.arange(10020, dtype=np.float32)
    expected = y.copy()
    expected[3:10010] *= 2
    Compiled(kernel)([y, y], y, 1, kernel.units)
    Compiled(kernel)([y, y], y, 0, 1)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, 1.7, -0.3, 20.0])
@pytest.mark.parametrize("constant", [True, False])
def test_power(exponent, constant):
    view = View(1, 1, 1, 37, 0, 0, 0, 0, 1)
    x = np.linspace(-3, 3, 37, dtype=np.float32)
    x[5], x[18] = -1.0, 0.0
    program = (("input", 0), ("constant", exponent) if constant else ("input", 1), ("Pow",))
    kernel = build_elementwise(Elementwise(view, (view, replace(view, pixel_stride=0)), program), machine(8))
    y = np.zeros(37, np.float32)
    Compiled(kernel)([x, np.full(1, exponent, np.float32)], y)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, np.power(x, np.float32(exponent)), rtol=1e-5, atol=1e-35)


def test_where():
    view = View(1, 1, 1, 21, 0, 0, 0, 0, 1)
    x = np.random.default_rng(0).standard_normal(21, np.float32)
    program = (("input", 0), ("constant", 0.2), ("Greater",), ("constant", 5.0), ("input", 0), ("Where",))
    y = np.zeros(21, np.float32)
    Compiled(build_elementwise(Elementwise(view, (view,), program), machine(8)))([x], y)
    np.testing.assert_array_equal(y, np.where(x > np.float32(0.2), np.float32(5), x))


def test_a_program_must_leave_one_value():
    view = View(1, 1, 1, 4, 0, 0, 0, 0, 1)
    with pytest.raises(ValueError, match="2 values"):
        build_elementwise(Elementwise(view, (view,), (("input", 0), ("input", 0))), machine(8))
