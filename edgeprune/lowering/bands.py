"""Segments that are computed in bands of rows: only the rows that a band needs are in memory between their ends.

This is the patch-based inference of MCUNetV2 (Lin et al., 2021) with patches as wide as the image. Rows that two bands
need are computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import new_constant, new_node
from edgeprune.lowering.groups import shape_of
from edgeprune.lowering.quantization import Quantized
from edgeprune.lowering.segments import Rows, Segment, pads_for, rows_read, segments_from

BANDS_KEY = "edgeprune.bands"
"""The node metadata entry that says in how many bands the node's result is computed, and from which value on."""

ROWS_KEY = "edgeprune.rows"
"""The metadata entry of a node that computes one band: its rows, and of how many."""


@dataclass(frozen=True)
class Banded:
    """A value that is read in bands, and one that is put together from bands."""

    source: ir.Value
    result: ir.Value


def note_bands(node: ir.Node, source: str, count: int) -> None:
    """Note on `node` that all from the value `source` to its result is computed in `count` bands."""
    node.metadata_props[BANDS_KEY] = f"{count} {source}"


def split_into_bands(found: Quantized) -> list[Banded]:
    """Rewrite every segment that is noted on the nodes of the model; a note that fits no segment is passed over."""
    graph = found.model.graph
    done = []
    for node in [node for node in graph if BANDS_KEY in node.metadata_props]:
        count, _, source = node.metadata_props[BANDS_KEY].partition(" ")
        segment = _segment(graph, source, node)
        if segment is not None and count.isdecimal() and len(segment.bands(max(1, int(count)))) > 1:
            done.append(_split(found, segment, int(count)))
    return done


def _segment(graph: ir.Graph, source: str, last: ir.Node) -> Segment | None:
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        if value.name == source:
            return next((found for found in segments_from(graph, value) if found.nodes[-1] is last), None)
    return None


def _split(found: Quantized, segment: Segment, count: int) -> Banded:
    graph, result = found.model.graph, segment.result
    parts = [_Band(found, segment, band).computed() for band in segment.bands(count)]
    whole = new_node("Concat", parts, {"axis": 2}, name=f"{result.name}_bands", like=result)
    graph.insert_after(segment.nodes[-1], whole)
    joined = whole.outputs[0]
    joined.name, result.name = result.name, f"{result.name}_whole"
    for use in [use for use in result.uses() if use.node is not whole]:
        use.node.replace_input_with(use.idx, joined)
    if id(result) in found.grids:
        found.grids[id(joined)] = found.grids[id(result)]
    for node in reversed(segment.nodes):
        found.grids.pop(id(node.outputs[0]), None)
        graph.remove(node, safe=True)
    return Banded(segment.source, joined)


class _Band:
    """The nodes that compute the rows `band` of the result of a segment, put before its last node."""

    def __init__(self, found: Quantized, segment: Segment, band: Rows) -> None:
        self.found, self.segment, self.band = found, segment, band
        self.rows = segment.rows(band)
        self.made: dict[int, tuple[ir.Value, Rows]] = {}
        self.slices: dict[tuple[int, Rows], ir.Value] = {}

    def computed(self) -> ir.Value:
        """Append the nodes; the value of these rows."""
        source = self.segment.source
        self.made[id(source)] = source, (0, shape_of(source)[2])
        for node in self.segment.nodes:
            self._append(node)
        return self.made[id(self.segment.result)][0]

    def _append(self, node: ir.Node) -> None:
        old = node.outputs[0]
        rows = self.rows[id(old)]
        inputs = [self._read(value, rows_read(node, rows)) for value in node.inputs]
        copy = new_node(node.op_type, inputs, _attributes(node, rows), name=node.name or old.name or "", like=old)
        copy.domain, copy.version = node.domain, node.version
        copy.metadata_props.update({key: text for key, text in node.metadata_props.items() if key != BANDS_KEY})
        copy.metadata_props[ROWS_KEY] = f"rows {rows[0]}-{rows[1] - 1} of {shape_of(old)[2]}"
        self._place(copy, old, rows)
        self.made[id(old)] = copy.outputs[0], rows

    def _read(self, value: ir.Value | None, rows: Rows) -> ir.Value | None:
        """`rows` of `value`; a constant is as it is."""
        if value is None or value.const_value is not None:
            return value
        made, known = self.made[id(value)]
        if known == rows:
            return made
        if (id(value), rows) not in self.slices:
            numbers = {"first": rows[0] - known[0], "last": rows[1] - known[0], "axis": 2}
            graph = self.found.model.graph
            bounds = [new_constant(graph, f"{made.name}_{key}", np.array([number])) for key, number in numbers.items()]
            part = new_node("Slice", [made, *bounds], name=f"{made.name}_rows", like=value)
            self._place(part, value, rows)
            self.slices[id(value), rows] = part.outputs[0]
        return self.slices[id(value), rows]

    def _place(self, node: ir.Node, like: ir.Value, rows: Rows) -> None:
        """Put `node` into the graph, its result on the grid of `like` and named after it and its rows."""
        made = node.outputs[0]
        made.name = f"{like.name}@{rows[0]}:{rows[1]}/{self.band[0]}{':rows' * (node.op_type == 'Slice')}"
        shape = shape_of(like)
        made.shape = ir.Shape((*shape[:2], rows[1] - rows[0], *shape[3:]))
        if id(like) in self.found.grids and node.op_type != "Slice":
            self.found.grids[id(made)] = self.found.grids[id(like)]
        self.found.model.graph.insert_before(self.segment.nodes[-1], node)


def _attributes(node: ir.Node, rows: Rows) -> Mapping[str, object]:
    attributes: dict[str, object] = {name: attribute.value for name, attribute in node.attributes.items()}
    if node.op_type in ("Conv", "MaxPool", "AveragePool"):
        attributes["pads"] = pads_for(node, rows)
    return attributes
