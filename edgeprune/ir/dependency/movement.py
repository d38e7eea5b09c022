"""Labels through what moves elements: every label goes where its element goes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.labels import varying
from edgeprune.ir.dependency.moves import MOVES, moved
from edgeprune.ir.dependency.stored import stored
from edgeprune.ir.dependency.trace import Rule, Trace, unknown, where
from edgeprune.ir.edit import constant
from edgeprune.ir.ports import static_shape

MOVING = frozenset(MOVES)


def movement(trace: Trace, node: ir.Node) -> None:
    """Labels move as the elements do."""
    data = node.inputs[0]
    assert data is not None
    if stored(data) is not None:
        _table(trace, node)
        return
    for layer in trace.layers(data):
        outputs = moved(node, np.broadcast_to(layer, static_shape(data)))
        if outputs is None:
            trace.pin(layer, f"{where(node)} moves elements by what another input holds")
            continue
        for value, labels in zip(node.outputs, outputs, strict=True):
            trace.put(value, (*trace.layers(value), labels))


def _table(trace: Trace, node: ir.Node) -> None:
    """Rows of a constant table (an embedding): its columns are new units; other moves of constants label nothing."""
    for value in node.inputs[1:]:
        trace.pin_value(value, f"{where(node)} reads them as numbers of rows")
    if node.op_type != "Gather":
        return
    table, indices, result = stored(node.inputs[0]), node.inputs[1], node.outputs[0]
    axis = node.attributes.get_int("axis", 0)
    if table is None or table.ndim != 2 or axis % 2 != 0 or indices is None:
        return
    last = len(static_shape(result)) - 1
    trace.fresh(result, last)
    trace.use(node, 0, 1, "out", result, last)


def concat(trace: Trace, node: ir.Node) -> None:
    """Labels side by side along the axis, joined along all others; constant parts follow."""
    result = node.outputs[0]
    shape = static_shape(result)
    axis = node.attributes.get_int("axis", 0) % len(shape)
    parts = [value for value in node.inputs if value is not None]
    along = [_along(trace, value, axis) for value in parts]
    across = [_pick(trace, value, axis) for value in parts]
    if any(part.shape[other] > 1 for part in along for other in range(len(shape)) if other != axis):
        _tie_along(trace, node, along, axis)
        along = [_along(trace, value, axis) for value in parts]
    trace.put(result, (*_join_across(trace, node, parts, across), np.concatenate(along, axis)))
    for index, value in enumerate(node.inputs):
        array = stored(value)
        for other in range(len(shape)) if array is not None else ():
            if other != axis and shape[other] > 1:
                trace.use(node, index, other, "affine", result, other)


def _along(trace: Trace, value: ir.Value, axis: int) -> np.ndarray:
    """The labels that differ along `axis`; fixed ones where there are none."""
    for layer in trace.layers(value):
        if axis in varying(layer):
            return layer
        if not varying(layer):
            trace.pin(layer, "all elements of a tensor can only go at once")
    shape = [size if each == axis else 1 for each, size in enumerate(static_shape(value))]
    return np.zeros(shape, np.int64)


def _pick(trace: Trace, value: ir.Value, axis: int) -> list[np.ndarray]:
    return [layer for layer in trace.layers(value) if varying(layer) and axis not in varying(layer)]


def _tie_along(trace: Trace, node: ir.Node, along: list[np.ndarray], axis: int) -> None:
    """Parts that differ along other axes too are cut along `axis` alone."""
    for part in along:
        trace.tie(part, (axis,), f"{where(node)} joins parts along this axis")


def _join_across(
    trace: Trace, node: ir.Node, parts: list[ir.Value], across: list[list[np.ndarray]]
) -> list[np.ndarray]:
    """What is cut along the other axes is cut from all parts."""
    reason = f"{where(node)} joins them with parts that cannot be cut along this axis"
    merged: list[np.ndarray] = []
    for layers in across:
        for layer in layers:
            meeting = [each for each in merged if set(varying(each)) & set(varying(layer))]
            for each in meeting:
                trace.labels.join(each, layer, reason)
            if not meeting:
                merged.append(layer)
    for value, layers in zip(parts, across, strict=True):
        own = {axis for layer in layers for axis in varying(layer)}
        for layer in merged:
            if stored(value) is None and not own & set(varying(layer)):
                trace.pin(layer, reason)
    return merged


def pad(trace: Trace, node: ir.Node) -> None:
    """Constant padding may be removed again: it gets labels of its own; other modes copy what is there."""
    data, result, amounts = node.inputs[0], node.outputs[0], constant(node.inputs[1])
    assert data is not None
    if amounts is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
        unknown(trace, node)
        return
    before, after = amounts.reshape(2, -1).astype(int)
    padded = tuple(int(axis) for axis in np.flatnonzero(before + after))
    if node.attributes.get_string("mode", "constant") != "constant":
        trace.put(result, trace.clear_of(data, padded, f"{where(node)} copies elements of this axis"))
        return
    layers = []
    for layer in trace.layers(data):
        own = [axis for axis in padded if axis in varying(layer)]
        if len(varying(layer)) > 1 and own:
            trace.tie(layer, (own[0],), f"{where(node)} pads this axis")
            layer = trace.labels.roots(layer)[
                tuple(slice(None) if a == own[0] else slice(1) for a in range(layer.ndim))
            ]
        for axis in own[:1]:
            sizes = [[int(n) if a == axis else 1 for a in range(layer.ndim)] for n in (before[axis], after[axis])]
            first, last = (trace.labels.fresh(int(np.prod(size))).reshape(size) for size in sizes)
            layer = np.concatenate([first, layer, last], axis)
        layers.append(layer)
    trace.put(result, tuple(layers))


RULES: dict[str, Rule] = {**dict.fromkeys(MOVES, movement), "Concat": concat, "Pad": pad}
