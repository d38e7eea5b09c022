"""Elementwise kernels over stored integers against the definition in numpy, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness import Compiled, channels_last, planar, window
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_formats import drawn, held, sentinel, with_format

from edgeprune.kernels.abi import FLOAT32, Activation, Format, Machine, Rounded, View
from edgeprune.kernels.activation import reference
from edgeprune.kernels.elementwise.elementwise import Elementwise, build_elementwise
from edgeprune.kernels.elementwise.table import ARRAYS

NAMES = ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu")
LAYOUTS = ("channels", "channels halo", "planar", "planar halo")


def machine(lanes: int) -> Machine:
    return Machine(lanes, 16, 32768, 524288)


def defined(program, arrays, formats):
    """What a program gives, float32: sums with an integer operand have one rounding, its right one's if both are."""
    stack = []
    for step in program:
        if isinstance(step, Activation):
            stack.append((reference(step, number(stack.pop())), None))
        elif isinstance(step, Rounded):
            f = step.format
            whole = np.clip(
                number(stack.pop()) * (np.float32(1) / np.float32(f.scale)), f.low - f.zero, f.high - f.zero
            )
            stack.append((np.rint(whole).astype(np.float32) * np.float32(f.scale), None))
        elif step[0] == "input":
            stack.append((arrays[step[1]], formats[step[1]]))
        elif step[0] == "constant":
            stack.append((np.full_like(arrays[0], step[1], np.float32), None))
        else:
            right, left = stack.pop(), stack.pop()
            stack.append((combined(step[0], left, right), None))
    return number(stack.pop())


def number(entry):
    array, f = entry
    if f is None or not f.quantized:
        return array
    return (array.astype(np.float32) - np.float32(f.zero)) * np.float32(f.scale)


def product(entry):
    array, f = entry
    return (array.astype(np.float64) - f.zero) * np.float64(np.float32(f.scale))


def combined(name, left, right):
    integer = [f is not None and f.quantized for _, f in (left, right)]
    if name in ("Add", "Sub") and any(integer):
        sign = 1 if name == "Add" else -1
        if integer[1]:
            return (number(left) + sign * product(right)).astype(np.float32)
        return (product(left) + sign * number(right).astype(np.float64)).astype(np.float32)
    with np.errstate(all="ignore"):
        return ARRAYS[name](number(left), number(right)).astype(np.float32)


def written(values, f: Format):
    if not f.quantized:
        return values
    whole = np.rint(np.clip(values * (np.float32(1) / np.float32(f.scale)), f.low - f.zero, f.high - f.zero))
    return (whole + f.zero).astype(f.dtype)


def place(layout: str, shape) -> tuple[View, int]:
    halo = (1, 2, 0, 1) if "halo" in layout else (0, 0, 0, 0)
    if "channels" in layout:
        return channels_last(*shape, halo=halo, around=(2, 3) if "halo" in layout else (0, 0))
    return planar(*shape, halo=halo)


@st.composite
def cases(draw):
    shape = [
        draw(st.integers(1, 2)),
        draw(st.sampled_from([1, 3, 13, 32])),
        *draw(st.tuples(*[st.integers(1, 19)] * 2)),
    ]
    layouts = [draw(st.sampled_from(LAYOUTS)) for _ in range(3)]
    storages = [draw(st.sampled_from(["pairs", "vnni", "float", "pairs", "vnni"])) for _ in range(3)]
    axes = st.lists(st.sampled_from(["batch", "channel", "row", "pixel"]), unique=True)
    dropped = [draw(axes) if draw(st.booleans()) else [] for _ in range(2)]
    names = [draw(st.sampled_from(NAMES)) for _ in range(2)]
    between = draw(st.sampled_from([Activation("Relu"), Activation("LeakyRelu", 0.1), Activation("Clip", -1.0, 2.5)]))
    return shape, layouts, storages, dropped, names, between, draw(st.booleans()), draw(st.sampled_from([4, 8, 16]))


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(0, 999))
def test_any_program(case, seed):
    shape, layouts, storages, dropped, names, between, rounds, lanes = case
    random = np.random.default_rng(seed)
    formats = [drawn(random, storage) for storage in storages]
    places = [place(layout, shape) for layout in layouts]
    views = [with_format(view, f) for (view, _), f in zip(places, formats, strict=True)]
    inputs = [replace(v, **{f"{a}_stride": 0 for a in axes}) for v, axes in zip(views[1:], dropped, strict=True)]
    buffers = [held(random, size, f) for (_, size), f in zip(places[1:], formats[1:], strict=True)]
    y = sentinel(places[0][1], formats[0])
    inner = Rounded(drawn(random, "vnni")) if rounds else Activation("Abs")
    program = (("input", 0), ("input", 1), (names[0],), between, inner, ("input", 0), (names[1],))
    kernel = build_elementwise(Elementwise(views[0], tuple(inputs), program), machine(lanes))
    run = Compiled(kernel)
    cut = int(random.integers(0, kernel.units + 1))
    run(buffers, y, cut, kernel.units)
    run(buffers, y, 0, cut)
    seen = [window(buffer, view) for buffer, view in zip(buffers, inputs, strict=True)]
    values = defined(program, seen, formats[1:])
    is_number = ~np.isnan(values)
    expected = written(np.where(is_number, values, np.float32(0)), formats[0])
    # Real numbers leave the compiler free to round a product and a sum of an activation once.
    off = 0.0 if formats[0].quantized else 1e-6
    np.testing.assert_allclose(window(y, views[0])[is_number], expected[is_number], rtol=off, atol=off)
    window(y, views[0])[:] = sentinel(1, formats[0])[0]
    assert (y == sentinel(1, formats[0])[0]).all()


@pytest.mark.parametrize("storage", ["pairs", "vnni"])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_quantize_requantize_and_dequantize(storage, lanes):
    random = np.random.default_rng(lanes)
    a, b = drawn(random, storage), drawn(random, "vnni")
    view = View(1, 1, 1, 1003, 5, 0, 0, 0, 1)
    x = random.standard_normal(1010, np.float32) * 3
    buffers = {"x": x, "a": sentinel(1010, a), "b": sentinel(1010, b), "back": sentinel(1010, FLOAT32)}
    hops = [("x", FLOAT32, "a", a), ("a", a, "b", b), ("b", b, "back", FLOAT32)]
    value = x[5:1008]
    for source, before, target, after in hops:
        problem = Elementwise(with_format(view, after), (with_format(view, before),), (("input", 0),))
        Compiled(build_elementwise(problem, machine(lanes)))([buffers[source]], buffers[target])
        value = written(number((value, before)), after)
        np.testing.assert_array_equal(buffers[target][5:1008], value)


@pytest.mark.parametrize("storage", ["pairs", "vnni"])
@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "Gelu", "Silu", "Exp", "Log"])
@pytest.mark.parametrize("layout", ["channels halo", "planar"])
def test_costly_functions_of_one_integer_are_looked_up(storage, name, layout):
    random = np.random.default_rng(7)
    (xv, xs), (yv, ys) = place(layout, (2, 5, 9, 13)), place("channels", (2, 5, 9, 13))
    a, b = drawn(random, storage), drawn(random, storage, 1.0)
    x, y = held(random, xs, a), sentinel(ys, b)
    program = (("input", 0), ("constant", 0.75), ("Mul",), Activation(name), Rounded(a))
    problem = Elementwise(with_format(yv, b), (with_format(xv, a),), program)
    kernel = build_elementwise(problem, machine(8))
    assert kernel.label == "elementwise table" and kernel.constants[0].nbytes <= 512
    Compiled(kernel)([x], y)
    values = reference(Activation(name), number((window(x, xv), a)) * np.float32(0.75))
    whole = number((written(np.nan_to_num(values, posinf=np.inf, neginf=-np.inf), a), a))
    np.testing.assert_array_equal(window(y, yv), written(whole, b))


@pytest.mark.parametrize(("storage", "name"), [("pairs", "Relu"), ("vnni", "HardSwish"), ("float", "Sigmoid")])
def test_cheap_functions_and_float_inputs_need_no_table(storage, name):
    random = np.random.default_rng(8)
    view, size = place("channels", (1, 8, 7, 7))
    a, b = drawn(random, storage), drawn(random, "vnni")
    problem = Elementwise(with_format(view, b), (with_format(view, a),), (("input", 0), Activation(name)))
    kernel = build_elementwise(problem, machine(8))
    assert not kernel.constants
    x, y = held(random, size, a), sentinel(size, b)
    Compiled(kernel)([x], y)
    expected = written(reference(Activation(name), number((x, a))), b)
    assert (abs(y.astype(int) - expected) <= (name != "Relu")).all()


def test_in_place():
    f = Format("int16", 0.02, 0, -128, 127)
    view = View(1, 1, 1, 10007, 3, 0, 0, 0, 1, f)
    kernel = build_elementwise(Elementwise(view, (view, view), (("input", 0), ("input", 1), ("Add",))), machine(8))
    y = np.random.default_rng(0).integers(-128, 128, 10020).astype(np.int16)
    expected = y.copy()
    expected[3:10010] = np.clip(2 * expected[3:10010], -128, 127)
    Compiled(kernel)([y, y], y)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("step", "implied"), [(Activation("Clip", 0, 6), True), (Activation("Clip", 0, 5), False)])
def test_bounds_that_storing_sets_cost_nothing(step, implied):
    f, wide = Format("uint8", 6 / 255, 0, 0, 255), Format("int16", 0.1, 0, -100, 155)
    view = View(1, 1, 1, 256, 0, 0, 0, 0, 1)
    given, stores = with_format(view, wide), with_format(view, f)
    kernels = [
        build_elementwise(Elementwise(stores, (given,), (("input", 0), *steps)), machine(8)) for steps in ((), (step,))
    ]
    assert (kernels[0].func is kernels[1].func) == implied
    x, y = np.arange(-100, 156).astype(np.int16), sentinel(256, f)
    Compiled(kernels[1])([x], y)
    np.testing.assert_array_equal(y, written(reference(step, number((x, wide))), f))
