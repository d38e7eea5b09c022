"""Average pools in fixed point: scalar factors around a pool that all but cancel are how a model in real numbers says
where ties round; fixed-point pools round them so by themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from edgeprune.kernels.abi import Format
from edgeprune.lowering.groups import shape_of
from edgeprune.lowering.quantization import Quantized

_POOLS = ("AveragePool", "GlobalAveragePool")
_ROUNDING = 1e-6
_BETWEEN_MEANS = 0.5
"""How far the arithmetic may move a mean, as a share of what lies between one mean of stored values and the next."""


def make_pools_plain(found: Quantized) -> None:
    """Take away the scalar arithmetic around every average pool between two equal grids.

    It must move no mean as far as half way to the next.
    """
    for node in [node for node in found.model.graph if node.op_type in _POOLS]:
        before, source, factor = _backward(node)
        after, result, (scale, offset) = _forward(found, node)
        grid, first = found.grids.get(id(result)), None if source is None else found.grids.get(id(source))
        if not (before or after) or source is None or grid is None or first is None or not _same_steps(grid, first):
            continue
        ends = (
            steps * (factor * scale - 1) + offset / grid.scale
            for steps in (grid.low - grid.zero, grid.high - grid.zero)
        )
        if max(map(abs, ends)) * _entries(node) >= _BETWEEN_MEANS:
            continue
        _splice(found, node, source, result, [*reversed(after), *before])


def _backward(node: ir.Node) -> tuple[list[ir.Node], ir.Value | None, float]:
    """What multiplies the pool's input: the node, what it reads, the factor."""
    value = node.inputs[0]
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "Mul" or value is None or len(value.uses()) != 1:
        return [], value, 1.0
    scalar, other = _scalar(producer)
    return ([], value, 1.0) if scalar is None else ([producer], other, scalar)


def _forward(found: Quantized, node: ir.Node) -> tuple[list[ir.Node], ir.Value, tuple[float, float]]:
    """What multiplies and adds to the pool's result up to a value on a grid: the nodes, that value, and the sum."""
    nodes: list[ir.Node] = []
    value, scale, offset = node.outputs[0], 1.0, 0.0
    while len(value.uses()) == 1 and not value.is_graph_output():
        user = next(iter(value.uses())).node
        scalar, _ = _scalar(user) if user.op_type in ("Mul", "Add") else (None, None)
        if scalar is None or (id(value) in found.grids and not _rereads(found, value, user)):
            break
        scale, offset = (scale * scalar, offset * scalar) if user.op_type == "Mul" else (scale, offset + scalar)
        nodes.append(user)
        value = user.outputs[0]
    return nodes, value, (scale, offset)


def _entries(node: ir.Node) -> int:
    """The cells of the pool's window."""
    kernel = node.attributes.get_ints("kernel_shape", [])
    source = node.inputs[0]
    assert source is not None
    return math.prod(kernel) if kernel else math.prod(shape_of(source)[2:])


def _rereads(found: Quantized, value: ir.Value, user: ir.Node) -> bool:
    """Whether `user` reads the stored numbers of `value` on a grid of another scale, and changes none."""
    grid, other = found.grids[id(value)], found.grids.get(id(user.outputs[0]))
    scalar, _ = _scalar(user)
    return (
        user.op_type == "Mul"
        and scalar is not None
        and other is not None
        and _same_steps(other, replace(grid, scale=grid.scale * scalar))
    )


def _same_steps(left: Format, right: Format) -> bool:
    """Whether two grids are one but for rounding of their scales."""
    return replace(left, scale=right.scale) == right and abs(left.scale / right.scale - 1) < _ROUNDING


def _scalar(node: ir.Node) -> tuple[float | None, ir.Value | None]:
    """The constant single number among two operands, and the other one."""
    for constant, other in (node.inputs, node.inputs[::-1]):
        if constant is not None and constant.const_value is not None and constant.const_value.size == 1:
            return float(constant.const_value.numpy().reshape(-1)[0]), other
    return None, None


def _splice(found: Quantized, node: ir.Node, source: ir.Value, result: ir.Value, gone: list[ir.Node]) -> None:
    node.replace_input_with(0, source)
    pooled = node.outputs[0]
    if pooled is not result:
        found.grids[id(pooled)] = found.grids.pop(id(result))
        found.unsigned.update({id(pooled)} if id(result) in found.unsigned else ())
        if result.is_graph_output():
            name = result.name
            outputs = found.model.graph.outputs
            outputs[next(index for index, value in enumerate(outputs) if value is result)] = pooled
            result.name, pooled.name = None, name
        ir.convenience.replace_all_uses_with(result, pooled)
    for other in gone:
        found.model.graph.remove(other, safe=True)
