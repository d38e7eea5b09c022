"""Runs a model over many rows piece by piece, so that a pass can look inside and change what comes next."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.execute import Session, start
from edgeprune.ir.ports import dtype_name, input_specs, static_shape
from edgeprune.ir.sharing import share

STACKED_BYTES = 1 << 22
"""About how many bytes the largest tensors of a piece of the model take in one run of several rows."""


class SegmentedRun:
    """The rows of `samples` on their way through `model`.

    Nodes run in graph order, each once per row, with the weights they have when `advance` reaches them. Only
    tensors that a later node or a model output reads are held. Rows are shared among `threads`; the results are the
    same bits for any number of them.
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

    def branch(self) -> SegmentedRun:
        """A run that goes on from here by itself; tensors are shared, and so is the model."""
        other = copy.copy(self)
        other._held = dict(self._held)
        return other

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
        inputs = {name: self._held[name] for name in read if name in self._held}
        graph = ir.convenience.extract(self._model.graph, list(inputs), [str(value.name) for value in produced])
        piece = ir.Model(graph, ir_version=self._model.ir_version)
        count = len(next(iter(self._held.values())))
        rows = {
            str(value.name): np.empty((count, *static_shape(value)), np.dtype(dtype_name(value))) for value in produced
        }
        alone = _Alone(piece, inputs, rows)
        if not inputs or not _run_stacked(piece, alone, inputs, rows, self._threads):
            share(self._threads, alone.run, range(count))
        return rows


class _Alone:
    """A piece of a model that runs one row at a time."""

    def __init__(self, piece: ir.Model, inputs: dict[str, np.ndarray], rows: dict[str, np.ndarray]) -> None:
        self._session = Session(piece)
        self._inputs, self._rows = inputs, rows

    def outputs(self, index: int) -> dict[str, np.ndarray]:
        return self._session.run({name: array[index] for name, array in self._inputs.items()})

    def run(self, index: int) -> None:
        for name, array in self.outputs(index).items():
            self._rows[name][index] = array


def _run_stacked(
    piece: ir.Model, alone: _Alone, inputs: dict[str, np.ndarray], rows: dict[str, np.ndarray], threads: int
) -> bool:
    """Fill `rows` by runs of several rows along the batch axis; False where `piece` does not give the same so.

    The first and the last row of the first run are compared with runs of their own. Changes the shapes in `piece`.
    """
    count = len(next(iter(rows.values())))
    step = min(count, max(1, STACKED_BYTES // max(1, _largest(piece))))
    if step == 1 or any(array.ndim < 2 or array.shape[1] != 1 for array in (*inputs.values(), *rows.values())):
        return False
    wanted = {index: alone.outputs(index) for index in {0, step - 1}}
    try:
        stacked = _Stacked(piece, inputs, rows, step)
        stacked.run(0)
    except (EdgepruneError, RuntimeError, ValueError):
        return False
    if not all(_close(rows[name][index], array) for index, row in wanted.items() for name, array in row.items()):
        return False
    share(threads, stacked.run, range(step, count, step))
    return True


def _largest(piece: ir.Model) -> int:
    """The bytes of the largest tensor of one row, among those whose shapes are known."""
    made = (value for node in piece.graph for value in node.outputs)
    known = (value for value in made if value.shape is not None and value.shape.is_static())
    return max((_bytes(value) for value in known), default=0)


class _Stacked:
    """A piece of a model with an open batch axis that reads and writes arrays in place, `step` rows in a run."""

    def __init__(self, piece: ir.Model, inputs: dict[str, np.ndarray], rows: dict[str, np.ndarray], step: int) -> None:
        for value in piece.graph.inputs:
            value.shape = ir.Shape(["rows", *static_shape(value)[1:]])
        for value in (value for node in piece.graph for value in node.outputs):
            value.shape = None
        self._session = start(ir.to_proto(piece).SerializeToString(), 1)
        self._inputs = {name: array[:, 0] for name, array in inputs.items()}
        self._rows = {name: array[:, 0] for name, array in rows.items()}
        self._step = step

    def run(self, begin: int) -> None:
        binding = self._session.io_binding()
        for name, array in self._inputs.items():
            binding.bind_cpu_input(name, array[begin : begin + self._step])
        for name, array in self._rows.items():
            part = array[begin : begin + self._step]
            binding.bind_output(name, "cpu", 0, part.dtype, part.shape, part.ctypes.data)
        self._session.run_with_iobinding(binding)


def _close(found: np.ndarray, wanted: np.ndarray) -> bool:
    scale = float(np.abs(wanted).max(initial=0)) if wanted.dtype.kind == "f" else 0.0
    return bool(np.allclose(found, wanted, rtol=1e-4, atol=1e-5 * scale))


def peak_bytes(model: ir.Model, stops: Sequence[int]) -> int:
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
