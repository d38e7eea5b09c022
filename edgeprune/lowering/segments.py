"""Pieces of a graph that can be computed a few rows at a time: from one value to another, with nothing between that
anything else reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.lowering.activations import BINARY_OPS, activation_of
from edgeprune.lowering.groups import is_image, shape_of
from edgeprune.lowering.quantization import is_store

Rows = tuple[int, int]
"""Rows [first, last) of an image."""

_POOLS = ("MaxPool", "AveragePool")


@dataclass(frozen=True)
class Segment:
    """`nodes` compute `result` of `source` and constants alone; nothing else reads what is between."""

    source: ir.Value
    nodes: tuple[ir.Node, ...]

    @property
    def result(self) -> ir.Value:
        """What the last node computes."""
        return self.nodes[-1].outputs[0]

    def rows(self, wanted: Rows) -> dict[int, Rows]:
        """The rows of every value that rows `wanted` of the result need, by the identity of the value."""
        found = {id(self.result): wanted}
        for node in reversed(self.nodes):
            for value in data_of(node):
                first, last = rows_read(node, found[id(node.outputs[0])])
                known = found.get(id(value), (first, last))
                found[id(value)] = min(first, known[0]), max(last, known[1])
        return found

    def bands(self, count: int) -> list[Rows]:
        """The rows of the result in bands of the same height, at most `count`; the last may be lower."""
        height = rows_of(self.result)
        step = -(-height // count)
        return [(first, min(first + step, height)) for first in range(0, height, step)]


def segments_from(graph: ir.Graph, source: ir.Value) -> Iterator[Segment]:
    """Every segment of `graph` that begins at `source`, an image alone in its batch, shortest first."""
    if not _is_banded(source):
        return
    inside: set[int] = {id(source)}
    taken: list[ir.Node] = []
    members: set[ir.Node] = set()
    waiting: dict[int, ir.Value] = {}
    for node in graph:
        data = data_of(node)
        if not any(id(value) in inside for value in data):
            continue
        if not (all(id(value) in inside for value in data) and _is_row_wise(node)):
            continue
        output = node.outputs[0]
        taken.append(node)
        members.add(node)
        inside.add(id(output))
        waiting[id(output)] = output
        waiting = {key: value for key, value in waiting.items() if _is_read_outside(value, members)}
        if list(waiting) == [id(output)] and not output.is_graph_output():
            yield Segment(source, tuple(taken))


def data_of(node: ir.Node) -> list[ir.Value]:
    """What `node` reads that is no constant."""
    return [value for value in node.inputs if value is not None and value.const_value is None]


def rows_of(value: ir.Value) -> int:
    """The height of an image."""
    return shape_of(value)[2]


def rows_read(node: ir.Node, rows: Rows) -> Rows:
    """The rows of its input that rows `rows` of the result of `node` are computed of."""
    first, last = window_rows(node, rows)
    return max(0, first), min(rows_of(data_of(node)[0]), last)


def window_rows(node: ir.Node, rows: Rows) -> Rows:
    """Like `rows_read`, with the rows above and below the image that its windows reach."""
    if node.op_type not in ("Conv", *_POOLS):
        return rows
    stride, dilation = _first(node, "strides"), _first(node, "dilations")
    begin = rows[0] * stride - _pads(node)[0]
    return begin, (rows[1] - 1) * stride - _pads(node)[0] + (_kernel(node) - 1) * dilation + 1


def pads_for(node: ir.Node, rows: Rows) -> list[int]:
    """The pads of the window of `node` where it computes rows `rows` from the rows that `rows_read` says."""
    (first, last), (_, left, _, right) = window_rows(node, rows), _pads(node)
    return [max(0, -first), left, max(0, last - rows_of(data_of(node)[0])), right]


def multiply_accumulates(node: ir.Node, rows: int) -> int:
    """Those of `rows` rows of the result of a convolution; 0 for any other node."""
    weight = node.inputs[1] if node.op_type == "Conv" else None
    if weight is None:
        return 0
    size = 1
    for extent in shape_of(weight):
        size *= extent
    return size * rows * shape_of(node.outputs[0])[3]


def extra_work(segment: Segment, bands: Sequence[Mapping[int, Rows]]) -> int:
    """The multiply-accumulates that are done again where `segment` is computed in bands that need these rows."""
    extra = 0
    for node in segment.nodes:
        spans = [rows[id(node.outputs[0])] for rows in bands]
        again = sum(last - first for first, last in spans) - rows_of(node.outputs[0])
        extra += multiply_accumulates(node, again)
    return extra


def _is_banded(value: ir.Value) -> bool:
    return is_image(value) and value.const_value is None and shape_of(value)[0] == 1


def _is_row_wise(node: ir.Node) -> bool:
    """Whether rows of the result of `node` are computed of some rows of what it reads."""
    output, data = node.outputs[0], data_of(node)
    if len(node.outputs) != 1 or not _is_banded(output) or not all(map(_is_banded, data)):
        return False
    if is_store(node) or activation_of(node) is not None:
        return True
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in BINARY_OPS:
        constants = [value for value in node.inputs if value is not None and value.const_value is not None]
        same = all(shape_of(value) == shape_of(output) for value in data)
        return same and all(len(shape_of(value)) < 2 or shape_of(value)[-2] == 1 for value in constants)
    if node.op_type not in ("Conv", *_POOLS):
        return False
    if node.attributes.get_int("ceil_mode", 0) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return False
    if max(_pads(node)[0], _pads(node)[2]) > (_kernel(node) - 1) * _first(node, "dilations"):
        return False
    return node.op_type in _POOLS or data == [node.inputs[0]]


def _is_read_outside(value: ir.Value, members: set[ir.Node]) -> bool:
    return value.is_graph_output() or any(use.node not in members for use in value.uses())


def _kernel(node: ir.Node) -> int:
    if node.op_type in _POOLS:
        return _first(node, "kernel_shape")
    weight = node.inputs[1]
    assert weight is not None
    return shape_of(weight)[2]


def _pads(node: ir.Node) -> list[int]:
    return [int(pad) for pad in node.attributes.get_ints("pads", [0, 0, 0, 0])]


def _first(node: ir.Node, name: str) -> int:
    return int(node.attributes.get_ints(name, [1])[0])
