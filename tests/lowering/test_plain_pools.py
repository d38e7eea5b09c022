"""Arithmetic around average pools between equal grids goes, and only where it moves no mean to another."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from lowered import canonical
from qdq_networks import Network

from edgeprune.lowering.plain_pools import make_pools_plain
from edgeprune.lowering.quantization import without_quantization
from edgeprune.lowering.stored_ports import store_ports

SCALE = 0.0625
NEARLY_ONE = 1.00001
"""Too near to move a mean; a factor of one would be gone before."""


def pooled(factor: float, offset: float, *, before: float | None = None, scale: float = SCALE) -> onnx.ModelProto:
    """A convolution, then a mean of 5 x 5 cells with a factor before it, a factor and an offset behind it."""
    n = Network(seed=0)
    x = n.quantized(n.conv(n.quantized("x", SCALE), SCALE, (3, 2, 1, 1)), SCALE, 5)
    if before is not None:
        x = n.node("Mul", [x, n.constant(np.float32(before))])
    y = n.node("GlobalAveragePool", [x])
    y = n.node("Mul", [y, n.constant(np.float32(factor))])
    y = n.node("Add", [y, n.constant(np.float32(offset))])
    return n.model({"x": [1, 2, 5, 5]}, [n.quantized(y, scale, 5)])


def left(model: onnx.ModelProto) -> Counter[str]:
    """The ops that are left of `model` without the quantization and the arithmetic of its pools."""
    found = without_quantization(canonical(model), "mla")
    store_ports(found)
    make_pools_plain(found)
    assert id(found.model.graph.outputs[0]) in found.grids
    return Counter(node.op_type for node in found.model.graph)


@pytest.mark.parametrize("offset", [SCALE / 60, -SCALE / 60])
def test_arithmetic_that_moves_no_mean_is_taken_away(offset: float) -> None:
    ops = left(pooled(NEARLY_ONE, offset))
    assert ops["GlobalAveragePool"] == 1 and not ops["Mul"] and not ops["Add"]


def test_factors_before_and_behind_that_cancel_go_together() -> None:
    ops = left(pooled(SCALE, SCALE / 100, before=1 / SCALE))
    assert not ops["Mul"] and not ops["Add"]


@pytest.mark.parametrize(("factor", "offset"), [(1.01, SCALE / 100), (NEARLY_ONE, SCALE / 40), (NEARLY_ONE, SCALE)])
def test_arithmetic_that_moves_a_mean_stays(factor: float, offset: float) -> None:
    ops = left(pooled(factor, offset))
    assert ops["Mul"] == 1 and ops["Add"] == 1


def test_pools_between_different_grids_are_left_alone() -> None:
    assert left(pooled(NEARLY_ONE, SCALE / 100, scale=2 * SCALE))["Mul"] == 1
