"""Follows moved elements back to the values that kernels compute, so that most moves cost nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgeprune.lowering.groups import Group, shape_of
from edgeprune.lowering.movement import ZERO, data_inputs, move_numbers


@dataclass(frozen=True)
class Piece:
    """Part of an assembled value: its elements at `positions` (flat) are the elements `numbers` (flat) of `root`."""

    root: ir.Value
    positions: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class Origin:
    """A moved value: its elements are the elements `numbers` (flat, in the value's shape) of `root`."""

    root: ir.Value
    numbers: np.ndarray


@dataclass
class Trace:
    """Where every value comes from.

    `origins` has the values that are some moved elements of one root. `assemblies` has the values that are put
    together from several roots or from zeros; each is a root itself, and must be stored.
    """

    origins: dict[int, Origin] = field(default_factory=dict)
    assemblies: dict[int, tuple[ir.Value, tuple[Piece, ...]]] = field(default_factory=dict)

    def origin(self, value: ir.Value) -> Origin:
        """The origin of any value; a root is its own."""
        known = self.origins.get(id(value))
        if known is not None:
            return known
        return Origin(value, np.arange(_size(value)).reshape(shape_of(value)))


def trace_movements(groups: Iterable[Group]) -> Trace:
    """Follow every movement group of `groups`, which must be in running order."""
    trace = Trace()
    for group in groups:
        if group.kind == "movement":
            _follow(trace, group.anchor)
    return trace


def keeps_pixels(origin: Origin, shape: tuple[int, ...]) -> bool:
    """Whether every pixel of a value of `shape` [N, C, H, W] is the same pixel of its root, whatever the channel."""
    root_shape = shape_of(origin.root)
    if len(root_shape) != len(shape) or root_shape[2:] != shape[2:]:
        return False
    pixels = int(np.prod(shape[2:]))
    return bool(np.array_equal(origin.numbers % pixels, np.broadcast_to(np.arange(pixels).reshape(shape[2:]), shape)))


def _follow(trace: Trace, node: ir.Node) -> None:
    inputs = data_inputs(node)
    origins = [None if value.const_value is not None else trace.origin(value) for value in inputs]
    roots: list[ir.Value] = []
    starts: dict[int, int] = {}
    total = 0
    numbers = []
    for value, origin in zip(inputs, origins, strict=True):
        if origin is None:
            numbers.append(np.full(shape_of(value), ZERO, dtype=np.int64))
            continue
        if id(origin.root) not in starts:
            starts[id(origin.root)] = total
            roots.append(origin.root)
            total += _size(origin.root)
        numbers.append(origin.numbers.astype(np.int64) + starts[id(origin.root)])
    for output, moved in zip(node.outputs, move_numbers(node, numbers), strict=True):
        if len(roots) == 1 and moved.size and moved.min() >= 0:
            trace.origins[id(output)] = Origin(roots[0], moved)
        else:
            pieces = tuple(_piece(root, starts[id(root)], moved) for root in roots)
            trace.assemblies[id(output)] = (output, pieces)


def _piece(root: ir.Value, start: int, moved: np.ndarray) -> Piece:
    flat = moved.reshape(-1)
    positions = np.flatnonzero((flat >= start) & (flat < start + _size(root)))
    return Piece(root, positions, flat[positions] - start)


def _size(value: ir.Value) -> int:
    return int(np.prod(shape_of(value), dtype=np.int64))
