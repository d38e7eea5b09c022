"""Average pools that read stored numbers on a grid of another scale: no copy is made of them."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from edgeprune.kernels.abi import Format
from edgeprune.kernels.pool.problem import Pool
from edgeprune.lowering.quantization import Quantized

_POOLS = ("AveragePool", "GlobalAveragePool")


def read_in_place(found: Quantized) -> None:
    """Take away every factor before an average pool that leaves the stored numbers as they are; the pool notes it."""
    for node in [node for node in found.model.graph if node.op_type in _POOLS]:
        value = node.inputs[0]
        producer = None if value is None else value.producer()
        if value is None or producer is None or producer.op_type != "Mul" or len(value.uses()) != 1:
            continue
        source, ratio = producer.inputs
        grid, before = found.grids.get(id(value)), found.grids.get(id(source))
        if grid is None or before is None or ratio is None or not _same_numbers(before, grid, ratio):
            continue
        node.replace_input_with(0, source)
        found.readings[id(node)] = grid
        found.model.graph.remove(producer, safe=True)


def read_on_grid(found: Quantized, node: ir.Node, problem: Pool) -> Pool:
    """`problem` of the pool `node`, its input on the grid that the node notes."""
    grid = found.readings.get(id(node))
    return problem if grid is None else replace(problem, x=replace(problem.x, format=grid))


def _same_numbers(before: Format, grid: Format, ratio: ir.Value) -> bool:
    """Whether `ratio` times what `before` stores is the same number on `grid`."""
    if ratio.const_value is None or ratio.const_value.size != 1 or replace(before, scale=grid.scale) != grid:
        return False
    factor = float(ratio.const_value.numpy().reshape(-1)[0])
    most = max(grid.high - grid.zero, grid.zero - grid.low)
    return abs(factor * before.scale / grid.scale - 1) * most < 0.25
