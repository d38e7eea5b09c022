"""Which units of a quantized model nothing depends on: what reads them reads constants, or gives them no weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.groups import Group, Resolved
from edgeprune.ir.dependency.labels import varying
from edgeprune.ir.dependency.moves import MOVES
from edgeprune.ir.dependency.norm import reduced_axes
from edgeprune.ir.dependency.trace import Use
from edgeprune.ir.ports import static_shape
from edgeprune.passes.intervals.fold import Contribution, contribution
from edgeprune.passes.intervals.propagate import Bounds

_APART = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "Conv",
        "Gemm",
        "MatMul",
        "Add",
        "Sub",
        "Mul",
        "Min",
        "Max",
        "Relu",
        "Clip",
        "MaxPool",
        "GlobalMaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Concat",
        "Pad",
        "Identity",
        *MOVES,
    }
)
"""Operators that compute each unit by itself, or sum over units by weights."""
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin")


@dataclass(frozen=True)
class DeadUnits:
    """By group name, the units that stay; and what those that go add to the sums of nodes that read them."""

    kept: dict[str, np.ndarray]
    contributions: tuple[Contribution, ...]


def find_dead_units(model: ir.Model, resolved: Resolved, bounds: Bounds) -> DeadUnits:
    """The units of `model`, of which `resolved` and `bounds` tell, that can go without changing any output."""
    mixed = _mixed_groups(model, resolved)
    places = {group.name: place for place, group in enumerate(resolved.groups.groups)}
    readers = [use for use in resolved.trace.uses if use.role in ("in", "product")]
    parts = [(use, contribution(use, bounds) if use.role == "in" else None) for use in readers]
    kept: dict[str, np.ndarray] = {}
    for group in resolved.groups.groups:
        if group.kind == "channel" and places[group.name] not in mixed:
            dead = np.ones(group.size, bool)
            for use, part in parts:
                for units, blocked in _blocked(use, part, resolved, places[group.name]):
                    dead[units[blocked]] = False
            stay = _staying(group, dead)
            if len(stay) < group.size:
                kept[group.name] = stay
    gone = _gone(resolved, kept, places)
    taken = (
        part.only(gone[resolved.trace.vector(use.value, use.value_axis)]) for use, part in parts if part is not None
    )
    return DeadUnits(kept, tuple(part for part in taken if part is not None))


def _blocked(
    use: Use, part: Contribution | None, resolved: Resolved, place: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The units of group number `place` that `use` reads, and which of them it needs."""
    labels = resolved.trace.vector(use.value, use.value_axis)
    mine = resolved.group_of[labels] == place
    if np.any(mine):
        units = resolved.unit_of[labels][mine]
        yield units, np.ones(len(units), bool) if part is None else ~part.foldable[mine]


def _staying(group: Group, dead: np.ndarray) -> np.ndarray:
    """The units that stay: those not dead, and one of all and of every section."""
    dead = dead.copy()
    for section in (tuple(range(group.size)), *group.sections):
        if dead[list(section)].all():
            dead[section[0]] = False
    return np.flatnonzero(~dead)


def _gone(resolved: Resolved, kept: dict[str, np.ndarray], places: dict[str, int]) -> np.ndarray:
    """For every label, whether its unit goes."""
    gone = np.zeros(len(resolved.group_of), bool)
    for name, units in kept.items():
        gone |= (resolved.group_of == places[name]) & ~np.isin(resolved.unit_of, units)
    return gone


def _mixed_groups(model: ir.Model, resolved: Resolved) -> set[int]:
    """The groups with units that some operator mixes, or may mix."""
    mixed: set[int] = set()
    for node in model.graph:
        for value in (*node.inputs, *node.outputs):
            for layer in resolved.trace.layers(value):
                if not _keeps_apart(node, value, varying(layer)):
                    mixed.update(resolved.group_of[np.unique(layer)].tolist())
    return mixed


def _keeps_apart(node: ir.Node, value: ir.Value | None, axes: tuple[int, ...]) -> bool:
    if node.domain:
        return False
    if node.op_type in _REDUCTIONS:
        reduced = reduced_axes(node)
        return value in node.outputs or (reduced is not None and not set(reduced) & set(axes))
    if node.op_type in ("Gemm", "MatMul") and value is node.inputs[0]:
        assert value is not None
        return axes == (len(static_shape(value)) - 1,)
    return node.op_type in _APART
