"""Data movement against numpy indexing."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Compiled, channels_last, planar, window
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_formats import held, sentinel, with_format

from edgeprune.kernels.abi import FLOAT32, Format, Machine
from edgeprune.kernels.elementwise.move import Move, build_move

LAYOUTS = ["channels", "channels slice", "planar", "planar halo"]
FORMATS = (
    FLOAT32,
    Format("int16", 0.1, 0, -127, 128),
    Format("uint8", 0.1, 128, 0, 254),
    Format("int8", 0.1, -3, -128, 126),
    Format("int16", 0.1, 17, -3000, 3000),
)


def machine(lanes: int) -> Machine:
    return Machine(lanes, 16, 32768, 524288)


def place(layout: str, shape):
    if "channels" in layout:
        return channels_last(*shape, halo=(1, 2, 0, 1), around=(2, 3)) if "slice" in layout else channels_last(*shape)
    return planar(*shape, halo=(1, 2, 0, 1) if "halo" in layout else (0, 0, 0, 0))


def check(layouts, shape, size, channels, step, repeat, origin, lanes, seed=0, element=FLOAT32):
    """x of `shape` (n, c, h, w) to y of `size` (height, width), both of format `element`."""
    random = np.random.default_rng(seed)
    taken = list(range(shape[1])) if channels is None else list(channels)
    xv, xs = place(layouts[0], shape)
    yv, ys = place(layouts[1], (shape[0], len(taken), *size))
    xv, yv = with_format(xv, element), with_format(yv, element)
    x, y = held(random, xs, element), sentinel(ys, element)
    kernel = build_move(Move(xv, yv, channels, step, repeat, origin), machine(lanes))
    run = Compiled(kernel)
    cut = int(random.integers(0, kernel.units + 1))
    run([x], y, cut, kernel.units)
    run([x], y, 0, cut)
    rows = [origin[0] + i * step[0] // repeat[0] for i in range(size[0])]
    columns = [origin[1] + i * step[1] // repeat[1] for i in range(size[1])]
    padded = np.concatenate([window(x, xv), np.full((shape[0], 1, *shape[2:]), element.zero, x.dtype)], axis=1)
    expected = padded[:, [shape[1] if c < 0 else c for c in taken]][:, :, rows][:, :, :, columns]
    np.testing.assert_array_equal(window(y, yv), expected)
    untouched = sentinel(1, element)[0]
    window(y, yv)[:] = untouched
    assert (y == untouched).all()
    return kernel


@st.composite
def cases(draw):
    shape = (
        draw(st.integers(1, 2)),
        draw(st.sampled_from([1, 3, 4, 8, 13, 26])),
        *draw(st.tuples(*[st.integers(1, 21)] * 2)),
    )
    kind = draw(st.sampled_from(["same", "slice", "repeat", "any"]))
    size, step, repeat, origin = [], [], [], []
    for extent in shape[2:]:
        s = draw(st.integers(1, 3)) if kind in ("slice", "any") else 1
        u = draw(st.integers(1, 3)) if kind in ("repeat", "any") else 1
        o = draw(st.integers(0, extent - 1)) if kind in ("slice", "any") else 0
        most = ((extent - o) * u - 1) // s + 1
        step, repeat, origin = [*step, s], [*repeat, u], [*origin, o]
        size.append(most if kind in ("same", "repeat") and draw(st.booleans()) else draw(st.integers(1, most)))
    c = shape[1]
    half = c // 2
    maps = {
        "identity": None,
        "gather": tuple(draw(st.lists(st.integers(-1, c - 1), min_size=1, max_size=20))),
        "even": tuple(range(0, c, 2)),
        "odd": tuple(range(1, c, 2)) or (0,),
        "shuffle": tuple(i // 2 + (i % 2) * half for i in range(2 * half)) or (0,),
        "padded": (*range(c), -1, -1, -1),
    }
    channels = maps[draw(st.sampled_from(sorted(maps)))]
    layouts = draw(st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)))
    lanes = draw(st.sampled_from([4, 8, 16]))
    return layouts, shape, size, channels, tuple(step), tuple(repeat), tuple(origin), lanes, draw(st.integers(0, 999))


@settings(max_examples=30, deadline=None)
@given(cases(), st.sampled_from(FORMATS))
def test_any_problem(case, element):
    check(*case, element)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("layouts", [("planar", "channels"), ("channels", "planar"), ("planar", "channels slice")])
@pytest.mark.parametrize(
    ("channels", "element"), [(3, FORMATS[0]), (24, FORMATS[0]), (37, FORMATS[0]), (37, FORMATS[1])]
)
def test_layout_change(layouts, channels, element, lanes):
    check(layouts, (2, channels, 9, 13), (9, 13), None, (1, 1), (1, 1), (0, 0), lanes, 0, element)


@pytest.mark.parametrize("layout", ["channels", "planar halo"])
@pytest.mark.parametrize("element", [FORMATS[0], FORMATS[1], FORMATS[2]])
def test_upsampling(layout, element):
    check((layout, layout), (1, 21, 7, 11), (14, 22), None, (1, 1), (2, 2), (0, 0), 8, 0, element)
    check((layout, layout), (1, 5, 4, 9), (12, 27), None, (1, 1), (3, 3), (0, 0), 8, 0, element)


@pytest.mark.parametrize("channels", [tuple(range(0, 58, 2)), tuple(i // 2 + i % 2 * 29 for i in range(58))])
def test_shuffles_need_no_table(channels):
    kernel = check(("channels", "channels"), (1, 58, 5, 7), (5, 7), channels, (1, 1), (1, 1), (0, 0), 8)
    assert not kernel.constants


def test_scales_share_a_function_and_formats_may_not_differ():
    view, _ = channels_last(1, 8, 5, 5)
    formats = [Format("int16", scale, 0, -128, 127) for scale in (0.1, 0.2)]
    views = [with_format(view, f) for f in formats]
    assert len({id(build_move(Move(v, v), machine(8)).func) for v in views}) == 1
    with pytest.raises(ValueError, match="a move needs one format"):
        build_move(Move(*views), machine(8))
