"""Addition and subtraction on an emulated Cortex-M55 against numpy, bit for bit."""

from __future__ import annotations

import pytest
from forms import int8, machine, row_view
from mve_board import check_vectors, needs_qemu
from test_fixed_addition import CASES, pairs

from edgeprune.kernels.abi import Format
from edgeprune.kernels.fixed_point.addition import Addition, build_fixed_addition, build_fixed_subtraction

pytestmark = needs_qemu()
FORMATS = tuple[Format, Format, Format]


def check(formats: FORMATS, size: int, bounds: tuple[int, int] = (-128, 127), sign: int = 1, fast: bool = True) -> None:
    arrays, views = pairs(1, size), [row_view(size or 1 << 16, format) for format in formats]
    build = build_fixed_addition if sign > 0 else build_fixed_subtraction
    kernel = build(views[0], views[1], views[2], *bounds, machine("mve"))
    assert kernel.label.endswith("vectors") == fast
    check_vectors(kernel, arrays, Addition.of(*formats, *bounds, sign).apply(*arrays))


@pytest.mark.parametrize("formats", CASES)
def test_every_pair(formats: FORMATS) -> None:
    check(formats, 0)


@pytest.mark.parametrize("size", [1, 3, 4, 29])
def test_sizes_and_bounds(size: int) -> None:
    check(CASES[1], size, (-100, 90))


@pytest.mark.parametrize("formats", CASES[:3])
def test_differences(formats: FORMATS) -> None:
    check(formats, 1000, sign=-1)


def test_outputs_far_finer_than_inputs_go_another_way() -> None:
    check((int8(1.0), int8(0.5), int8(1e-6)), 40, fast=False)
