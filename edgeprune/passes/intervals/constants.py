"""Puts constants in the place of values that never vary."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgeprune.ir.quantization import Grid, StoredTensor, grid_of, write_stored
from edgeprune.passes.intervals.propagate import Bounds, known

_OPERANDS = ("Add", "Sub", "Mul")


def replace_constants(model: ir.Model, bounds: Bounds) -> Iterator[str]:
    """Let sums and products read a stored constant instead of a value that is always the same, in place.

    Only where the other operand varies: what computes nothing but constants goes with what reads it. Gives the names
    of the values.
    """
    for node in list(model.graph):
        if node.op_type not in _OPERANDS or node.domain or bool(np.all(bounds.of(node.outputs[0]).constant)):
            continue
        for index, value in enumerate(node.inputs):
            grid = grid_of(value)
            if value is None or grid is None or known(value) is not None:
                continue
            data = bounds.of(value)
            if np.all(data.constant):
                node.replace_input_with(index, _stored(model.graph, value, grid, data.low, node))
                yield str(value.name)


def _stored(graph: ir.Graph, value: ir.Value, grid: Grid, real: np.ndarray, before: ir.Node) -> ir.Value:
    integers = (np.rint(real / grid.scale) + grid.zero).astype(grid.dtype)
    zero = np.array(grid.zero, grid.dtype)
    return write_stored(graph, f"{value.name}_constant", StoredTensor(integers, np.array(grid.scale), zero), before)
