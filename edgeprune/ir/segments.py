"""Runs a model over many rows piece by piece, so that a pass can look inside and change what comes next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import dtype_name, input_specs, static_shape


class SegmentedRun:
    """The rows of `samples` on their way through `model`.

    Nodes run in graph order, each once per row, with the weights they have when `advance` reaches them. Only
    tensors that a later node or a model output reads are held.
    """

    def __init__(self, model: ir.Model, samples: Samples, threads: int = 1) -> None:
        self._model = model
        self._threads = threads
        self._nodes = list(model.graph)
        self._done = 0
        specs = input_specs(model)
        shaped = replace(samples, specs=tuple(specs))
        rows = [shaped.row(index) for index in range(samples.count)]
        self._held = {spec.name: np.stack([row[spec.name] for row in rows]) for spec in specs}

    def advance(self, position: int) -> None:
        """Run up to, not including, the node at `position` of the graph."""
        if position <= self._done:
            return
        ran = self._nodes[self._done : position]
        self._done = position
        wanted = self._read_later()
        produced = [value for node in ran for value in node.outputs if value.name in wanted]
        self._held.update(self._run(ran, produced))
        self._held = {name: rows for name, rows in self._held.items() if name in wanted}

    def held(self, value: ir.Value | None) -> np.ndarray | None:
        """Every row of `value`, [rows, *shape]; None where it is not computed yet or no longer read."""
        return None if value is None else self._held.get(str(value.name))

    def _read_later(self) -> set[str]:
        later = (value for node in self._nodes[self._done :] for value in _inputs(node))
        return {str(value.name) for value in (*later, *self._model.graph.outputs)}

    def _run(self, nodes: Iterable[ir.Node], produced: list[ir.Value]) -> dict[str, np.ndarray]:
        if not produced:
            return {}
        read = dict.fromkeys(str(value.name) for node in nodes for value in _inputs(node))
        names = [name for name in read if name in self._held]
        graph = ir.convenience.extract(self._model.graph, names, [str(value.name) for value in produced])
        session = Session(ir.Model(graph, ir_version=self._model.ir_version), self._threads)
        count = len(next(iter(self._held.values())))
        rows: dict[str, np.ndarray] = {}
        for index in range(count):
            for name, array in session.run({name: self._held[name][index] for name in names}).items():
                if name not in rows:
                    rows[name] = np.empty((count, *array.shape), array.dtype)
                rows[name][index] = array
        return rows


def peak_bytes(model: ir.Model, stops: Iterable[int]) -> int:
    """The most bytes that a `SegmentedRun` holds of one row when it stops at the positions `stops`."""
    nodes = list(model.graph)
    last = {value.name: index for index, node in enumerate(nodes) for value in _inputs(node)}
    last |= {value.name: len(nodes) for value in model.graph.outputs}
    made = [(value, -1) for value in model.graph.inputs]
    made += [(value, index) for index, node in enumerate(nodes) for value in node.outputs]
    sizes = [(index, last[value.name], _bytes(value)) for value, index in made if value.name in last]
    return max(sum(size for first, end, size in sizes if first < stop <= end) for stop in stops)


def _bytes(value: ir.Value) -> int:
    return math.prod(static_shape(value)) * np.dtype(dtype_name(value)).itemsize


def _inputs(node: ir.Node) -> list[ir.Value]:
    """What `node` reads, its subgraphs included."""
    values = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            values += [value for inner in attribute.as_graph() for value in _inputs(inner)]
    return values
