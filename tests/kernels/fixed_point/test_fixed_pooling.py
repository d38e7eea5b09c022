"""Pooling in integers against numpy and LiteRT's reference, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from forms import Writer, check, image_view, int8, litert, machine
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.kernels.fixed_point.pooling import build_fixed_pool, fixed_pool
from edgeprune.kernels.pool.problem import Pool


def problem_of(
    kind: str,
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    y: Any = None,
    include: bool = False,
) -> Pool:
    x = int8(0.05, -7)
    size = [(shape[1 + a] + pads[a] + pads[a + 2] - kernel[a]) // strides[a] + 1 for a in (0, 1)]
    views = image_view(shape, x), image_view((shape[0], *size, shape[3]), y or x)
    return Pool(views[0], views[1], kind, kernel, strides, (1, 1), pads, include)


def image(problem: Pool, seed: int = 0) -> np.ndarray:
    x = problem.x
    return np.random.default_rng(seed).integers(-128, 128, (x.batch, x.height, x.width, x.channels)).astype(np.int8)


def agrees(problem: Pool, seed: int = 0) -> None:
    x = image(problem, seed)
    check(lambda m: build_fixed_pool(problem, m), [x], fixed_pool(problem, x))


@pytest.mark.parametrize(("kind", "name"), [("max", "MAX_POOL_2D"), ("average", "AVERAGE_POOL_2D")])
@pytest.mark.parametrize("same", [False, True])
def test_as_litert(kind: str, name: str, same: bool) -> None:
    problem = problem_of(kind, (1, 9, 7, 20), (3, 3), (2, 2), (1, 1, 1, 1) if same else (0, 0, 0, 0))
    x, quant = image(problem), (problem.x.format.scale, problem.x.format.zero)
    writer = Writer()
    source = writer.tensor(x.shape, "INT8", quant)
    target = writer.tensor((1, problem.y.height, problem.y.width, 20), "INT8", quant)
    options = {"padding": 0 if same else 1, "strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 3}
    writer.node(name, [source], [target], "Pool2DOptions", options)
    np.testing.assert_array_equal(fixed_pool(problem, x), litert(writer.finish([source], [target]), [x]))
    agrees(problem)


def test_an_average_of_unsigned_integers_rounds_halves_upward() -> None:
    problem = problem_of("average", (1, 6, 4, 20), (2, 2), (2, 2))
    x, writer = image(problem), Writer()
    source, target = (writer.tensor(shape, "UINT8", (0.05, 121)) for shape in ((1, 6, 4, 20), (1, 3, 2, 20)))
    options = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    writer.node("AVERAGE_POOL_2D", [source], [target], "Pool2DOptions", options)
    reference = litert(writer.finish([source], [target]), [(x.astype(int) + 128).astype(np.uint8)])
    found = fixed_pool(problem, x, unsigned=True)
    np.testing.assert_array_equal(found.astype(int) + 128, reference)
    assert (found != fixed_pool(problem, x)).any()
    check(lambda m: build_fixed_pool(problem, m, unsigned=True), [x], found)


@pytest.mark.parametrize("size", [(25, 5), (3, 3), (7, 6)])
@pytest.mark.parametrize("y", [int8(0.05, 4), int8(0.031, -128), int8(0.11, 127)])
def test_a_mean_on_another_grid_differs_from_litert_only_where_it_rounds_twice(size: Any, y: Any) -> None:
    problem = problem_of("average", (1, *size, 64), size, y=y)
    x = image(problem)
    writer = Writer()
    source = writer.tensor(x.shape, "INT8", (0.05, -7))
    target = writer.tensor((1, 1, 1, 64), "INT8", (y.scale, y.zero))
    axes = writer.constant(np.array([1, 2], np.int32))
    writer.node("MEAN", [source, axes], [target], "ReducerOptions", {"keepDims": True})
    reference = litert(writer.finish([source], [target]), [x]).astype(int)
    found = fixed_pool(problem, x).astype(int)
    assert np.abs(found - reference).max() <= 1 and (found != reference).mean() < 0.2
    agrees(problem)


def test_whole_images_and_images_too_large_for_pairs() -> None:
    agrees(problem_of("average", (1, 25, 5, 64), (25, 5)), 1)
    agrees(problem_of("average", (1, 20, 17, 5), (20, 17)), 2)
    agrees(problem_of("max", (2, 6, 5, 3), (6, 5)), 3)


@settings(max_examples=4)
@given(st.data())
def test_any_window(data: st.DataObject) -> None:
    kernel = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    pads = tuple(data.draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    size = [data.draw(st.integers(kernel[a], kernel[a] + 5)) for a in (0, 1)]
    strides = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    shape = (data.draw(st.integers(1, 2)), size[0], size[1], data.draw(st.integers(1, 9)))
    y = data.draw(st.sampled_from([None, int8(0.02, 3), int8(0.3, -128)]))
    kind, include = data.draw(st.sampled_from(["max", "average"])), data.draw(st.booleans())
    agrees(problem_of(kind, shape, kernel, strides, pads, y, include), data.draw(st.integers(0, 99)))  # type: ignore[arg-type]


def test_what_is_no_pooling_of_integers_is_refused() -> None:
    problem = problem_of("max", (1, 4, 4, 2), (2, 2))
    with pytest.raises(ValueError, match="needs two channels-last images"):
        build_fixed_pool(replace(problem, x=replace(problem.x, channel_stride=2)), machine("mla"))
    outside = replace(problem, pads=(2, 0, 0, 0), y=replace(problem.y, height=5))
    with pytest.raises(ValueError, match="a window that lies wholly outside the image"):
        build_fixed_pool(outside, machine("mla"))
