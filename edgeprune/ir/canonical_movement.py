"""Joins nodes that only move elements: reshapes, slices, concatenations, splits and pads in their shortest form."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import bypass, constant, new_constant, new_node, only_consumer

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that keep the order of the elements."""

_NO_OPS = ("Expand", "Slice", "Tile", "Pad", "Concat", "Split")


def join_movements(model: ir.Model) -> None:
    """Join reshapes, slices and concatenations that follow each other, and give Split its sizes, in place."""
    for node in list(model.graph):
        if node.graph is None or node.domain:
            continue
        if node.op_type in RESHAPES:
            _join_reshapes(node)
        elif node.op_type == "Concat":
            _join_concats(node)
        elif node.op_type == "Split":
            _size_split(node)
        elif node.op_type == "Slice":
            _join_slices(node)
        elif node.op_type == "Pad":
            _crop(node)
        elif node.op_type == "GatherND":
            _gather_rows(node)
        if node.graph is not None and node.op_type in _NO_OPS:
            _drop_no_op(node)


def static_shape(value: ir.Value | None) -> list[int] | None:
    """The shape of `value`; None where it is not known yet."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return [int(size) for size in value.shape.numpy()]


def integers(node: ir.Node, role: str, values: list[int]) -> ir.Value:
    """A constant vector of int64 for `node`."""
    assert isinstance(node.graph, ir.Graph)
    return new_constant(node.graph, f"{node.name}_{role}", np.array(values, np.int64))


def _join_reshapes(node: ir.Node) -> None:
    source, result = node.inputs[0], static_shape(node.outputs[0])
    first = source.producer() if source is not None else None
    if result is None or source is None:
        return
    joined = source
    while first is not None and first.op_type in RESHAPES and not first.domain and first.inputs[0] is not None:
        joined = first.inputs[0]
        first = joined.producer()
    if static_shape(joined) == result and not _is_port(node, joined):
        bypass(node, joined)
    elif joined is not source and 0 not in result:
        whole = new_node(
            "Reshape", [joined, integers(node, "shape", result)], name=str(node.name), like=node.outputs[0]
        )
        _replace(node, whole)


def _is_port(node: ir.Node, source: ir.Value) -> bool:
    """Whether dropping `node` would leave a model output that is an input, a constant or another output."""
    return node.outputs[0].is_graph_output() and (source.producer() is None or source.is_graph_output())


def _join_concats(node: ir.Node) -> None:
    axis, rank = node.attributes.get_int("axis", 0), len(static_shape(node.outputs[0]) or [0])
    parts: list[ir.Value | None] = []
    for value in node.inputs:
        inner = value.producer() if value is not None else None
        same = (
            inner is not None
            and inner.op_type == "Concat"
            and not inner.domain
            and inner.attributes.get_int("axis", 0) % rank == axis % rank
            and value is not None
            and only_consumer(value) is node
        )
        parts.extend(inner.inputs if inner is not None and same else [value])
    if len(parts) > len(node.inputs):
        _replace(node, new_node("Concat", parts, {"axis": axis % rank}, name=str(node.name), like=node.outputs[0]))


def _size_split(node: ir.Node) -> None:
    shapes = [static_shape(value) for value in node.outputs]
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is not None or any(shape is None for shape in shapes):
        return
    axis = node.attributes.get_int("axis", 0)
    sizes = [shape[axis] for shape in shapes if shape is not None]
    node.attributes.pop("num_outputs", None)
    node.resize_inputs(2)
    node.replace_input_with(1, integers(node, "sizes", sizes))


def _join_slices(node: ir.Node) -> None:
    inner = node.inputs[0].producer() if node.inputs[0] is not None else None
    if inner is None or inner.op_type != "Slice" or inner.domain:
        return
    shape = static_shape(inner.inputs[0])
    first, second = _ranges(inner, shape), _ranges(node, static_shape(node.inputs[0]))
    if first is None or second is None or shape is None:
        return
    ranges = [before[after.start : after.stop : after.step] for before, after in zip(first, second, strict=True)]
    if any(len(each) == 0 or each.step < 1 for each in ranges):
        return
    cut = [axis for axis, each in enumerate(ranges) if each != range(shape[axis])]
    bounds = [
        [ranges[axis].start for axis in cut],
        [ranges[axis].stop for axis in cut],
        cut,
        [ranges[a].step for a in cut],
    ]
    names = ("starts", "ends", "axes", "steps")
    inputs = [integers(node, name, values) for name, values in zip(names, bounds, strict=True)]
    _replace(node, new_node("Slice", [inner.inputs[0], *inputs], name=str(node.name), like=node.outputs[0]))


def _ranges(node: ir.Node, shape: list[int] | None) -> list[range] | None:
    """What a Slice with rising steps takes of every axis; None where that is not constant."""
    given = [constant(value) for value in node.inputs[1:]]
    if shape is None or any(values is None and node.inputs[i + 1] is not None for i, values in enumerate(given)):
        return None
    vectors = [None if values is None else [int(number) for number in values.reshape(-1)] for values in given]
    starts, ends = vectors[0] or [], vectors[1] or []
    axes = vectors[2] if len(vectors) > 2 and vectors[2] is not None else list(range(len(starts)))
    steps = vectors[3] if len(vectors) > 3 and vectors[3] is not None else [1] * len(starts)
    if any(step < 1 for step in steps):
        return None
    ranges = [range(size) for size in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        ranges[axis] = ranges[axis][start:end:step]
    return ranges


def _gather_rows(node: ir.Node) -> None:
    """GatherND with constant indices as Gather: the axes that it indexes become one."""
    shape, indices, data = static_shape(node.inputs[0]), constant(node.inputs[1]), node.inputs[0]
    result = static_shape(node.outputs[0])
    if (
        shape is None
        or indices is None
        or data is None
        or result is None
        or node.attributes.get_int("batch_dims", 0) != 0
    ):
        return
    axes = shape[: indices.shape[-1]]
    wrapped = np.where(indices < 0, indices + np.array(axes), indices)
    numbers = np.ravel_multi_index(tuple(np.moveaxis(wrapped, -1, 0)), axes).astype(np.int64)
    name, graph = str(node.name), node.graph
    assert isinstance(graph, ir.Graph)
    rows = [int(np.prod(axes)), *shape[len(axes) :]]
    flat = new_node("Reshape", [data, integers(node, "rows", rows)], name=f"{name}_rows", like=data)
    flat.outputs[0].shape = ir.Shape(rows)
    places = new_constant(graph, f"{name}_places", numbers)
    gather = new_node("Gather", [flat.outputs[0], places], {"axis": 0}, name=name, like=node.outputs[0])
    graph.insert_before(node, [flat])
    _replace(node, gather)


def _crop(node: ir.Node) -> None:
    """Negative amounts of a Pad as a Slice before it."""
    shape, amounts = static_shape(node.inputs[0]), constant(node.inputs[1])
    axes_given = node.inputs[3] if len(node.inputs) > 3 else None
    if shape is None or amounts is None or not np.any(amounts < 0) or axes_given is not None:
        return
    if node.attributes.get_string("mode", "constant") != "constant":
        return
    begins, ends = amounts.reshape(2, -1)
    starts = [max(0, -int(amount)) for amount in begins]
    stops = [size - max(0, -int(amount)) for size, amount in zip(shape, ends, strict=True)]
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
        return
    name, data = str(node.name), node.inputs[0]
    assert data is not None and isinstance(node.graph, ir.Graph)
    bounds = [integers(node, "starts", starts), integers(node, "ends", stops)]
    crop = new_node("Slice", [data, *bounds], name=f"{name}_crop", like=data)
    crop.outputs[0].shape = ir.Shape([stop - start for start, stop in zip(starts, stops, strict=True)])
    kept = integers(node, "pads", [max(0, int(amount)) for amount in amounts.reshape(-1)])
    node.graph.insert_before(node, [crop])
    node.replace_input_with(0, crop.outputs[0])
    node.replace_input_with(1, kept)


def _drop_no_op(node: ir.Node) -> None:
    """Remove a node that gives back its only data input: of the same size, with nothing left to move."""
    source, shape = node.inputs[0], static_shape(node.outputs[0])
    if source is None or shape is None or static_shape(source) != shape or len(node.outputs) > 1:
        return
    if _moves_nothing(node, shape) and not _is_port(node, source):
        bypass(node, source)


def _moves_nothing(node: ir.Node, shape: list[int]) -> bool:
    """Whether a movement that keeps the shape keeps every element in its place."""
    if node.op_type == "Concat":
        return len(node.inputs) == 1
    if node.op_type == "Slice":
        return _ranges(node, shape) == [range(size) for size in shape]
    if node.op_type == "Pad":
        amounts = constant(node.inputs[1])
        return amounts is not None and not np.any(amounts)
    return True


def _replace(node: ir.Node, whole: ir.Node) -> None:
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, [whole])
    bypass(node, whole.outputs[0])
