"""int8 products sixteen at a time on an emulated Cortex-M55 against numpy, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from forms import machine
from hypothesis import given, settings
from hypothesis import strategies as st
from mve_board import check_vectors, needs_qemu
from test_fixed_product import LAYERS, Case, make

from edgeprune.kernels.fixed_point.product import build_fixed_product, estimate_fixed_product
from edgeprune.kernels.fixed_point.product_mve import TILES, build_vector_product, choose_tile, tiles

pytestmark = needs_qemu()

BLOCKS: dict[str, dict[str, Any]] = {
    "whole vectors of each tap": {"shape": (1, 6, 7, 32), "outputs": 7, "kernel": (3, 3), "pads": (1, 1, 1, 1)},
    "long rows of taps": {"shape": (1, 3, 6, 48), "outputs": 3, "kernel": (2, 4), "pads": (0, 2, 1, 1)},
    "taps filled up": {"shape": (1, 5, 5, 40), "outputs": 5, "kernel": (3, 3), "pads": (1, 1, 1, 1)},
    "pixels far apart": {"shape": (1, 3, 4, 272), "outputs": 5},
    "rows far apart": {"shape": (1, 4, 150, 33), "outputs": 2, "kernel": (2, 2), "strides": (2, 40)},
    "dilations and groups of vectors": {"shape": (2, 5, 5, 32), "outputs": 4, "kernel": (2, 2), "groups": 2,
                                        "dilations": (2, 2), "pads": (1, 1, 1, 1)},
}  # fmt: skip


def check(case: Case) -> None:
    kernel = build_fixed_product(case.problem, case.weights, case.bias, case.requantize, machine("mve"))
    assert "vectors" in kernel.label
    check_vectors(kernel, [case.image], case.want)


@pytest.mark.parametrize(("name", "density"), [*zip({**LAYERS, **BLOCKS}, [1.0, 0.3] * 9, strict=False)])
def test_layers(name: str, density: float) -> None:
    check(make(**{**LAYERS, **BLOCKS}[name], density=density, block=(16, 2), seed=len(name)))


@settings(max_examples=4, derandomize=True)
@given(st.data())
def test_any_problem(data: Any) -> None:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, dilations, groups = data.draw(pair), data.draw(pair), data.draw(st.integers(1, 2))
    reach = [(kernel[a] - 1) * dilations[a] for a in (0, 1)]
    pads = tuple(data.draw(st.integers(0, reach[i % 2])) for i in range(4))
    size = [max(1, reach[a] + 1 - pads[a] - pads[a + 2]) + data.draw(st.integers(0, 5)) for a in (0, 1)]
    check(
        make(
            (data.draw(st.integers(1, 2)), *size, groups * data.draw(st.sampled_from([1, 4, 15, 16, 17, 32]))),
            data.draw(st.integers(1, 9)),
            kernel,
            data.draw(pair),
            dilations,
            groups,
            pads,  # type: ignore[arg-type]
            data.draw(st.sampled_from([0.0, 0.3, 1.0])),
            (16, data.draw(st.integers(1, 2))),
            (data.draw(st.integers(-128, 127)), data.draw(st.integers(-128, 127))),
            data.draw(st.sampled_from([(-128, 127), (-3, 127), (-128, 40)])),
            data.draw(st.booleans()),
            seed=data.draw(st.integers(0, 99)),
        )
    )


@pytest.mark.parametrize("shape", TILES)
def test_tiles(shape: tuple[int, int]) -> None:
    case = make((1, 3, 7, 10), 7, (2, 2), density=0.6, factor=0.0004)
    for tile in tiles(case.problem, case.requantize):
        if (tile.channels, tile.pixels) == shape:
            kernel = build_vector_product(case.problem, case.weights, case.bias, case.requantize, tile)
            check_vectors(kernel, [case.image], case.want)


SHARED: dict[str, dict[str, Any]] = {
    "windows": {"shape": (2, 3, 5, 32), "outputs": 7, "kernel": (2, 3), "strides": (1, 2), "pads": (1, 2, 0, 1)},
    "windows in groups": {"shape": (1, 4, 4, 32), "outputs": 6, "kernel": (2, 2), "groups": 2, "dilations": (2, 2),
                          "pads": (1, 1, 1, 1)},
    "pixels where they are": {"shape": (1, 3, 3, 48), "outputs": 7},
    "places of two bytes": {"shape": (1, 2, 3, 272), "outputs": 6, "kernel": (2, 2), "pads": (1, 1, 0, 0)},
}  # fmt: skip


@pytest.mark.parametrize(("name", "sparse"), [*zip(SHARED, [True, False] * 2, strict=True)])
def test_shared_code(name: str, sparse: bool) -> None:
    case = make(**SHARED[name], density=0.5, block=(16, 1), factor=0.0004, zeros=(-7, 9))
    found = [tile for tile in tiles(case.problem, case.requantize) if tile.shared and (tile.blocks is None) == sparse]
    for tile in found[len(name) % 2 :: 2]:
        kernel = build_vector_product(case.problem, case.weights, case.bias, case.requantize, tile)
        assert kernel.label.endswith("shared")
        check_vectors(kernel, [case.image], case.want)


def test_layers_of_other_sizes_have_the_same_code() -> None:
    kernels = [
        make(shape, outputs, (3, 3), strides, pads=(1, 1, 1, 1)).build(machine("mve"))
        for shape, outputs, strides in (((1, 6, 6, 32), 32, (1, 1)), ((1, 7, 9, 64), 16, (2, 2)))
    ]
    assert len({id(kernel.func) for kernel in kernels}) == 1


def test_factors_that_leave_no_room_for_the_zero() -> None:
    case = make((1, 2, 3, 16), 4, factor=2.0**-25, zeros=(5, -7))
    check(case)


def test_factors_around_one() -> None:
    check(make((1, 2, 3, 16), 4, factor=0.9, widest=1))


def test_sums_that_leave_no_room_go_another_way() -> None:
    case = make((1, 2, 3, 16), 4, factor=30000.0, widest=10)
    kernel = build_fixed_product(case.problem, case.weights, case.bias, case.requantize, machine("mve"))
    assert "vectors" not in kernel.label
    check_vectors(kernel, [case.image], case.want)


def test_pruned_layers_skip_blocks() -> None:
    shape: dict[str, Any] = {"shape": (1, 8, 8, 32), "outputs": 32, "kernel": (3, 3), "pads": (1, 1, 1, 1)}
    dense, pruned = make(**shape), make(**shape, density=0.4, block=(16, 2))
    costs = [estimate_fixed_product(case.problem, case.weights, machine("mve")) for case in (dense, pruned)]
    assert costs[1] < 0.65 * costs[0]
    assert costs[0] < 0.25 * dense.problem.dense_macs
    tile = choose_tile(pruned.problem, pruned.weights, pruned.requantize)[1]
    assert tile.blocks is None and tile.channels == 2
    kernel = build_fixed_product(pruned.problem, pruned.weights, pruned.bias, pruned.requantize, machine("mve"))
    assert kernel.macs < 0.5 * kernel.dense_macs
    assert sum(np.asarray(constant).nbytes for constant in kernel.constants) < 0.6 * dense.weights.size
