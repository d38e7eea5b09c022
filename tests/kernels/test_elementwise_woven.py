"""Elementwise kernels from planes to a few channels side by side, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness import Compiled, channels_last, planar, window
from stored_formats import sentinel

from edgeprune.kernels.abi import FLOAT32, Format, Machine
from edgeprune.kernels.elementwise.axes import merged, ordered, view_axes
from edgeprune.kernels.elementwise.elementwise import Elementwise, build_elementwise
from edgeprune.kernels.elementwise.woven import is_woven
from edgeprune.kernels.storage import written_array

STORED = Format("int8", 0.05, -3, -128, 127)


@pytest.mark.parametrize("lanes", [4, 8])
@pytest.mark.parametrize(
    ("shape", "y_format", "halo"),
    [
        ((1, 3, 7, 9), STORED, (1, 2, 0, 1)),
        ((2, 2, 5, 16), STORED, (0, 0, 0, 0)),
        ((1, 4, 3, 37), FLOAT32, (1, 2, 0, 1)),
        ((1, 3, 6, 1), STORED, (0, 0, 0, 0)),
    ],
)
def test_planes_to_channels(shape, halo, y_format, lanes):
    random = np.random.default_rng(lanes)
    (x, size), (y, held) = planar(*shape), channels_last(*shape, halo=halo, around=(1, 1))
    y = replace(y, format=y_format)
    buffers = [random.standard_normal(size, np.float32) * 4 for _ in range(2)]
    result = sentinel(held, y_format)
    kernel = build_elementwise(
        Elementwise(y, (x, x), (("input", 0), ("input", 1), ("Add",))), Machine(lanes, 16, 32768, 524288)
    )
    cut = kernel.units // 2
    run = Compiled(kernel)
    run(buffers, result, cut, kernel.units)
    run(buffers, result, 0, cut)
    wanted = written_array(window(buffers[0], x) + window(buffers[1], x), y_format)
    np.testing.assert_array_equal(window(result, y), wanted)
    window(result, y)[:] = sentinel(1, y_format)[0]
    assert (result == sentinel(1, y_format)[0]).all()


@pytest.mark.parametrize(("channels", "woven"), [(1, False), (2, True), (4, True), (5, False)])
def test_few_channels_are_woven(channels, woven):
    (x, _), (y, _) = planar(1, channels, 6, 8), channels_last(1, channels, 6, 8)
    assert is_woven(merged(ordered(view_axes((y, x))))) == woven
    assert not is_woven(merged(ordered(view_axes((y, y)))))
