"""Labels through normalisations and reductions: statistics run over the units that stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.labels import varying
from edgeprune.ir.dependency.trace import Layers, Rule, Trace, unknown, where
from edgeprune.ir.edit import constant
from edgeprune.ir.ports import static_shape

SUMS = ("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare")
"""Reductions that a zero adds nothing to; a mean divides by what is left."""


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes over which the statistics of `node` run; None where they are not constant."""
    data = node.inputs[0]
    assert data is not None
    rank = len(static_shape(data))
    if node.op_type == "LayerNormalization":
        return tuple(range(node.attributes.get_int("axis", -1) % rank, rank))
    if node.op_type == "InstanceNormalization":
        return tuple(range(2, rank))
    if node.op_type == "LpNormalization":
        return (node.attributes.get_int("axis", -1) % rank,)
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None:
        return () if node.attributes.get_int("noop_with_empty_axes", 0) else tuple(range(rank))
    axes = constant(given)
    return None if axes is None else tuple(sorted(int(axis) % rank for axis in axes.reshape(-1)))


def reduction(trace: Trace, node: ir.Node) -> None:
    """Units along a reduced axis end there, where removing them is the same as adding nothing."""
    axes = reduced_axes(node)
    if axes is None:
        unknown(trace, node)
        return
    inside, outside = _parted(trace, node, axes)
    if node.op_type not in SUMS:
        for layer in inside:
            trace.pin(layer, f"{where(node)} compares or multiplies them along this axis")
    keeps = node.attributes.get_int("keepdims", 1) == 1
    if not keeps:
        outside = tuple(layer.squeeze(axes) for layer in outside)
    trace.put(node.outputs[0], outside)


def normalisation(trace: Trace, node: ir.Node) -> None:
    """The data's units go on; scale and shift follow."""
    axes, result = reduced_axes(node), node.outputs[0]
    assert axes is not None
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:] if value.name):
        unknown(trace, node)
        return
    trace.put(result, tuple(layer for part in _parted(trace, node, axes) for layer in part))
    rank = len(static_shape(result))
    for index in (1, 2):
        array = constant(node.inputs[index]) if len(node.inputs) > index else None
        sizes = () if array is None else array.shape
        first = 1 if node.op_type == "InstanceNormalization" else rank - len(sizes)
        for axis, size in enumerate(sizes):
            if size > 1:
                trace.use(node, index, axis, "affine", result, first + axis)


def _parted(trace: Trace, node: ir.Node, axes: tuple[int, ...]) -> tuple[Layers, Layers]:
    """The data's labels that differ along `axes` alone, and those that differ along others alone."""
    inside: list[np.ndarray] = []
    outside: list[np.ndarray] = []
    for layer in trace.layers(node.inputs[0]):
        others = tuple(axis for axis in varying(layer) if axis not in axes)
        if others and len(others) < len(varying(layer)):
            layer = trace.only(layer, others, f"{where(node)} takes them together")
        (outside if others or not varying(layer) else inside).append(layer)
    return tuple(inside), tuple(outside)


def batch_norm(trace: Trace, node: ir.Node) -> None:
    """Every channel has its own constants."""
    trace.put(node.outputs[0], trace.layers(node.inputs[0]))
    for index in range(1, 5):
        trace.use(node, index, 0, "affine", node.outputs[0], 1)


def along(trace: Trace, node: ir.Node) -> None:
    """What compares or sums elements along one axis lets nothing of it go."""
    data = node.inputs[0]
    assert data is not None
    rank, axis = len(static_shape(data)), node.attributes.get_int("axis", -1)
    if node.op_type == "CumSum":
        given = constant(node.inputs[1])
        if given is None:
            unknown(trace, node)
            return
        axis = int(given.reshape(()))
    axis %= rank
    layers = trace.clear_of(data, (axis,), f"{where(node)} works along this axis")
    for value in node.outputs:
        shorter = len(static_shape(value)) < rank
        trace.put(value, tuple(layer.squeeze(axis) for layer in layers) if shorter else layers)


RULES: dict[str, Rule] = {
    **dict.fromkeys((*SUMS, "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"), reduction),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "LpNormalization"), normalisation),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "CumSum"), along),
    "ArgMax": along,
    "ArgMin": along,
    "TopK": along,
    "BatchNormalization": batch_norm,
}
