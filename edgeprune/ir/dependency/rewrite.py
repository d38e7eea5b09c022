"""Writes what moves elements anew, so that it moves what is left of them where it belongs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.cut import Cut
from edgeprune.ir.dependency.moves import MOVES, moved
from edgeprune.ir.dependency.names import Names
from edgeprune.ir.dependency.stored import stored
from edgeprune.ir.dependency.trace import Trace
from edgeprune.ir.edit import constant, new_constant, new_node
from edgeprune.ir.ports import static_shape

Places = list[np.ndarray]
"""The old places that stay along every axis."""


class Rewriter:
    """Changes the moving nodes of one graph in place.

    Values keep their old shapes, by which old places are told, until `reshape` gives every one its new shape.
    """

    def __init__(self, graph: ir.Graph, trace: Trace, cut: Cut) -> None:
        self._graph = graph
        self._names = Names(graph)
        self._trace = trace
        self._cut = cut
        self._shapes: dict[int, tuple[int, ...]] = {}

    def rewrite(self, node: ir.Node) -> None:
        """Let `node` move what is left; nothing changes where nothing that it reads or makes is cut."""
        if node.op_type in MOVES and stored(node.inputs[0]) is None:
            self._rewrite_move(node)
        elif node.op_type == "Concat":
            self._rewrite_concat(node)
        elif node.op_type == "Pad":
            self._rewrite_pad(node)
        elif node.op_type == "Resize" and len(node.inputs) > 3 and node.inputs[3] is not None:
            self._rewrite_sizes(node, 3)

    def reshape(self) -> None:
        """Give every value that a node makes its new shape."""
        for node in self._graph:
            for value in node.outputs:
                if value.name and value.shape is not None:
                    value.shape = ir.Shape(self._new_shape(value))

    def _new_shape(self, value: ir.Value) -> tuple[int, ...]:
        array = stored(value)
        if array is not None:
            return array.shape
        return self._shapes.get(id(value)) or _sizes(self._places(value))

    def _places(self, value: ir.Value) -> Places:
        places = self._cut.positions(value)
        assert places is not None
        return places

    def _rewrite_move(self, node: ir.Node) -> None:
        data, inputs = node.inputs[0], list(node.inputs)
        assert data is not None
        before, after = self._cut.positions(data), [self._cut.positions(value) for value in node.outputs]
        boxes = [places for places in after if places is not None]
        if before is not None and len(boxes) == len(after):
            if all(map(_is_whole, [data, *node.outputs], [before, *boxes])):
                return
            old = _numbers(data)
            wanted = [result[np.ix_(*places)] for result, places in zip(moved(node, old) or [], boxes, strict=True)]
            adjusted = _ADJUST.get(node.op_type, _unchanged)(node, before, boxes)
            node.resize_inputs(max(len(inputs), *(index + 1 for index in adjusted), 0))
            for index, array in adjusted.items():
                node.replace_input_with(index, new_constant(self._graph, f"{node.name}_{index}_cut", array))
            got = _attempt(node, old[np.ix_(*before)])
            if got is not None and all(map(np.array_equal, got, wanted)):
                return
            node.resize_inputs(len(inputs))
            for index, value in enumerate(inputs):
                node.replace_input_with(index, value)
        for value, places in zip(list(node.outputs), after, strict=True):
            if places is not None and (value.uses() or value.is_graph_output()):
                self._gather_anew(node, value, places)

    def _gather_anew(self, node: ir.Node, value: ir.Value, places: Places) -> None:
        """Take the elements of `value` from the nearest tensor before it that is a box."""
        chain, source = [(node, value)], node.inputs[0]
        while source is not None and self._cut.positions(source) is None:
            producer = source.producer()
            assert producer is not None
            chain.append((producer, source))
            source = producer.inputs[0]
        assert source is not None
        numbers = old = _numbers(source)
        for step, output in reversed(chain):
            results = moved(step, numbers)
            assert results is not None
            numbers = results[list(step.outputs).index(output)]
        kept = old[np.ix_(*self._places(source))]
        indices = np.full(old.size, -1)
        indices[kept.reshape(-1)] = np.arange(kept.size)
        self._take(node, source, value, kept.shape, indices[numbers[np.ix_(*places)]])

    def _take(
        self, node: ir.Node, source: ir.Value, value: ir.Value, shape: tuple[int, ...], indices: np.ndarray
    ) -> None:
        """Replace `value`, an output of `node`, by the elements `indices` of `source`, whose new shape is `shape`."""
        found = next((each for each in _by_axis(shape, indices)), None)
        nodes: list[ir.Node] = []

        def add(op: str, constant_name: str, array: np.ndarray, sizes: tuple[int, ...], **attributes: int) -> None:
            data = nodes[-1].outputs[0] if nodes else source
            name = f"{node.name}_{constant_name}"
            number = new_constant(self._graph, name, array.astype(np.int64))
            made = new_node(op, [data, number], attributes, name=self._names.new(name), like=value)
            self._shapes[id(made.outputs[0])] = sizes
            nodes.append(made)

        if found is None:
            add("Reshape", "flat", np.array([-1]), (int(np.prod(shape)),))
            add("Gather", "kept", indices.reshape(-1), (indices.size,), axis=0)
            now: tuple[int, ...] = (indices.size,)
        else:
            axis, picks = found
            now = (*shape[:axis], len(picks), *shape[axis + 1 :])
            add("Gather", "kept", picks, now, axis=axis)
        if now != indices.shape:
            add("Reshape", "shape", np.array(indices.shape), indices.shape)
        self._replace(node, value, nodes)

    def _replace(self, node: ir.Node, value: ir.Value, nodes: list[ir.Node]) -> None:
        new = nodes[-1].outputs[0]
        new.shape = value.shape
        self._shapes.pop(id(new), None)
        self._trace.copy(value, new)
        self._graph.insert_after(node, nodes)
        users = [(user, index) for user, index in value.uses() if user not in nodes]
        for user, index in users:
            user.replace_input_with(index, new)
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                value.name, new.name = f"{value.name}_uncut", value.name
                self._graph.outputs[index] = new

    def _rewrite_concat(self, node: ir.Node) -> None:
        """Put the result in order where the parts do not follow each other as the result's places do."""
        result = node.outputs[0]
        axis = node.attributes.get_int("axis", 0) % len(static_shape(result))
        starts = np.cumsum([0, *(static_shape(value)[axis] for value in node.inputs if value is not None)])
        parts = [self._places(value)[axis] for value in node.inputs if value is not None]
        given = np.concatenate([start + part for start, part in zip(starts, parts, strict=False)])
        self._reorder(node, axis, given)

    def _rewrite_pad(self, node: ir.Node) -> None:
        data, result, amounts = node.inputs[0], node.outputs[0], constant(node.inputs[1])
        if data is None or amounts is None:
            return
        sizes, rank = static_shape(data), len(static_shape(data))
        pads = amounts.copy()
        orders = []
        for axis, (own, wanted) in enumerate(zip(self._places(data), self._places(result), strict=True)):
            start = int(amounts[axis])
            inside = (wanted >= start) & (wanted < start + sizes[axis])
            first = int(np.argmax(inside))
            outside = wanted[~inside]
            orders.append(np.concatenate([outside[:first], start + own, outside[first:]]))
            if not np.array_equal(wanted, np.arange(static_shape(result)[axis])):
                pads[axis], pads[rank + axis] = first, len(outside) - first
        if not np.array_equal(pads, amounts):
            node.replace_input_with(1, new_constant(self._graph, f"{node.name}_1_cut", pads))
        for axis, given in enumerate(orders):
            self._reorder(node, axis, given)

    def _rewrite_sizes(self, node: ir.Node, index: int) -> None:
        """State the new sizes of the result at input `index`."""
        result = node.outputs[0]
        sizes = _sizes(self._places(result))
        if sizes != static_shape(result):
            stated = new_constant(self._graph, f"{node.name}_{index}_cut", np.array(sizes, np.int64))
            node.replace_input_with(index, stated)

    def _reorder(self, node: ir.Node, axis: int, given: np.ndarray) -> None:
        """Gather along `axis` what `node` gives at old places `given`, where its result has them in another order."""
        result = node.outputs[0]
        places = self._places(result)
        if np.array_equal(given, places[axis]):
            return
        at = {int(place): index for index, place in enumerate(given)}
        picks = np.array([at[int(place)] for place in places[axis]])
        name = f"{node.name}_order"
        number = new_constant(self._graph, name, picks.astype(np.int64))
        made = new_node("Gather", [result, number], {"axis": axis}, name=self._names.new(name), like=result)
        self._replace(node, result, [made])


def _numbers(value: ir.Value) -> np.ndarray:
    shape = static_shape(value)
    return np.arange(int(np.prod(shape))).reshape(shape)


def _sizes(places: Places) -> tuple[int, ...]:
    return tuple(len(each) for each in places)


def _is_whole(value: ir.Value | None, places: Places) -> bool:
    assert value is not None
    return all(np.array_equal(each, np.arange(size)) for each, size in zip(places, static_shape(value), strict=True))


def _attempt(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    try:
        return moved(node, array)
    except (ValueError, IndexError):
        return None


def _by_axis(shape: tuple[int, ...], indices: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The axis of a tensor of `shape` from which whole slices make `indices`, and which slices; empty where none."""
    total = int(np.prod(shape))
    for axis, size in enumerate(shape):
        after = int(np.prod(shape[axis + 1 :]))
        before = total // (size * after)
        if size == 1 or indices.size % (before * after):
            continue
        lines = indices.reshape(before, -1, after)
        picks = lines[0, :, 0] // after
        if np.array_equal(np.arange(total).reshape(before, size, after)[:, picks], lines):
            return [(axis, picks)]
    return []


def _unchanged(node: ir.Node, before: Places, after: list[Places]) -> dict[int, np.ndarray]:
    return {}


def _adjust_shape(node: ir.Node, before: Places, after: list[Places]) -> dict[int, np.ndarray]:
    return {1: np.array(_sizes(after[0]), np.int64)}


def _adjust_gather(node: ir.Node, before: Places, after: list[Places]) -> dict[int, np.ndarray]:
    axis, indices = node.attributes.get_int("axis", 0) % len(before), constant(node.inputs[1])
    if indices is None:
        return {}
    picks = indices % _old_size(node, axis)
    if indices.ndim:
        picks = picks[np.ix_(*after[0][axis : axis + indices.ndim])]
    return {1: _new_places(before[axis], picks).astype(np.int64)}


def _old_size(node: ir.Node, axis: int) -> int:
    data = node.inputs[0]
    assert data is not None
    return static_shape(data)[axis]


def _new_places(kept: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Where the old places `old` are among `kept`; 0 for those that are gone."""
    table = np.zeros(int(max(kept.max(initial=0), old.max(initial=0))) + 1, np.int64)
    table[kept] = np.arange(len(kept))
    return table[old]


def _adjust_split(node: ir.Node, before: Places, after: list[Places]) -> dict[int, np.ndarray]:
    axis = node.attributes.get_int("axis", 0)
    return {1: np.array([len(places[axis]) for places in after], np.int64)}


def _adjust_slice(node: ir.Node, before: Places, after: list[Places]) -> dict[int, np.ndarray]:
    """Every axis in full: the first and the last element that stay, and the step between them."""
    data = node.inputs[0]
    assert data is not None
    starts, ends, steps = [], [], []
    for axis, size in enumerate(static_shape(data)):
        numbers = np.arange(size).reshape([size if each == axis else 1 for each in range(len(before))])
        full = np.broadcast_to(numbers, static_shape(data))
        taken = (moved(node, full) or [full])[0]
        line = np.moveaxis(taken, axis, 0).reshape(taken.shape[axis], -1)[:, 0]
        picks = _new_places(before[axis], line[after[0][axis]])
        step = int(picks[1] - picks[0]) if len(picks) > 1 else 1
        end = int(picks[-1]) + (1 if step > 0 else -1)
        starts.append(int(picks[0]))
        ends.append(end if end >= 0 else -(1 << 31))
        steps.append(step or 1)
    axes = [axis for axis in range(len(before)) if (starts[axis], ends[axis], steps[axis]) != (0, len(before[axis]), 1)]
    vectors = [[each[axis] for axis in axes] for each in (starts, ends, list(range(len(before))), steps)]
    return {index + 1: np.array(vector, np.int64) for index, vector in enumerate(vectors)}


_ADJUST: dict[str, Callable[[ir.Node, Places, list[Places]], dict[int, np.ndarray]]] = {
    "Reshape": _adjust_shape,
    "Expand": _adjust_shape,
    "Gather": _adjust_gather,
    "Split": _adjust_split,
    "Slice": _adjust_slice,
}
