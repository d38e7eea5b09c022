"""Which units of a model can be removed, and what goes with each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.ir.dependency.branches import Branch, find_branches
from edgeprune.ir.dependency.labels import FIXED, varying
from edgeprune.ir.dependency.rules import MOVING, RULES
from edgeprune.ir.dependency.slices import UnitSlice
from edgeprune.ir.dependency.trace import Trace, Use, trace_model

__all__ = ["Group", "Groups", "Kind", "Resolved", "UnitSlice", "Unresolved", "find_groups", "resolve"]

Kind = Literal["channel", "head", "layer"]
_MAKERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Gather", "LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Group:
    """Units of one kind, `size` of them, named after the first node that makes them.

    A residual branch is a group of its own, of kind "layer" and size 1, named after the sum it ends in.

    `interchangeable` says whether all units sit at the same places of every tensor, so that putting them in another
    order costs nothing; otherwise it may take a Gather. `sections` are sets of units that fill a tensor alone: of each,
    one must be kept.
    """

    name: str
    kind: Kind
    size: int
    slices: tuple[UnitSlice, ...]
    interchangeable: bool = True
    sections: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Unresolved:
    """Units made by node `name` that cannot be removed, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Groups:
    """All units of a model: channels and heads by the order in which nodes make them, then residual branches."""

    groups: tuple[Group, ...]
    unresolved: tuple[Unresolved, ...]

    def __getitem__(self, name: str) -> Group:
        """The group `name`. Raises EdgepruneError (group-unknown, group-unresolved)."""
        for group in self.groups:
            if group.name == name:
                return group
        reasons = [each.reason for each in self.unresolved if each.name == name]
        if reasons:
            raise EdgepruneError(
                "group-unresolved", f"nothing of '{name}' can be removed", where=f"group '{name}'", hint=reasons[0]
            )
        raise EdgepruneError(
            "group-unknown",
            f"the model has no group '{name}'",
            where=f"group '{name}'",
            hint=nearest(name, (group.name for group in self.groups)),
        )


@dataclass(frozen=True)
class Resolved:
    """A traced model: its groups, its branches, and for every label the group (-1: none) and the unit in it."""

    trace: Trace
    groups: Groups
    branches: tuple[Branch, ...]
    group_of: np.ndarray
    unit_of: np.ndarray


def find_groups(model: ir.Model) -> Groups:
    """What of `model` (canonical) can be removed as channels, heads or residual branches, and what cannot."""
    return resolve(model).groups


def resolve(model: ir.Model) -> Resolved:
    """Trace `model` and number its units; labels are those of the values of this very model."""
    trace = trace_model(model, RULES, MOVING)
    vectors = [(use, trace.use_vector(use)) for use in trace.uses]
    heads = {int(root) for layer in trace.heads for root in np.unique(trace.labels.roots(layer))}
    group_of, unit_of = np.full(trace.labels.count, -1), np.full(trace.labels.count, -1)
    groups: list[Group] = []
    unresolved: dict[Unresolved, None] = {}
    for name, roots in _made(vectors).items():
        free = [root for root in roots if trace.labels.reason(root) is None]
        reasons = dict.fromkeys(trace.labels.reason(root) for root in roots)
        unresolved.update((Unresolved(name, reason), None) for reason in reasons if reason is not None)
        if len(free) > 1:
            group_of[free], unit_of[free] = len(groups), np.arange(len(free))
            kind: Kind = "head" if heads & set(free) else "channel"
            groups.append(Group(name, kind, len(free), ()))
        elif free or not roots:
            unresolved[Unresolved(name, "its units can only be removed all at once")] = None
    places = [vector for _, vector in vectors] + list(_value_vectors(trace, model))
    found = [_sliced(group, place, vectors, places, group_of, unit_of) for place, group in enumerate(groups)]
    branches = tuple(find_branches(model))
    found.extend(Group(branch.name, "layer", 1, branch.slices()) for branch in branches)
    return Resolved(trace, Groups(tuple(found), tuple(unresolved)), branches, group_of, unit_of)


def _made(vectors: Iterable[tuple[Use, np.ndarray]]) -> dict[str, list[int]]:
    """The units that each node makes first; none for a node whose elements are all one unit."""
    made: dict[str, list[int]] = {}
    seen: set[int] = {FIXED}
    for use, vector in vectors:
        if use.role == "out" and use.node.op_type in _MAKERS:
            new = [root for root in dict.fromkeys(vector.tolist()) if root not in seen]
            seen.update(new)
            if new or not np.any(vector):
                made.setdefault(str(use.node.name), []).extend(new)
    return made


def _value_vectors(trace: Trace, model: ir.Model) -> Iterator[np.ndarray]:
    """The labels along every axis of every tensor that a node makes."""
    for value in (output for node in model.graph for output in node.outputs):
        yield from (layer.reshape(-1) for layer in trace.layers(value) if len(varying(layer)) == 1)


def _sliced(
    group: Group,
    place: int,
    vectors: Iterable[tuple[Use, np.ndarray]],
    places: Iterable[np.ndarray],
    group_of: np.ndarray,
    unit_of: np.ndarray,
) -> Group:
    """`group` with what its units own, and how they lie."""
    slices = []
    for use, vector in vectors:
        units = np.where(group_of[vector] == place, unit_of[vector], -1)
        if np.any(units >= 0):
            slices.append(UnitSlice(str(use.node.name), use.index, use.axis, use.role, units))
    interchangeable = True
    sections: dict[tuple[int, ...], None] = {}
    for vector in places:
        own = unit_of[vector][group_of[vector] == place]
        if len(own):
            counts = np.bincount(own, minlength=group.size)
            interchangeable = interchangeable and bool(np.all(counts == counts[0]))
            if len(own) == len(vector) and np.any(counts == 0):
                sections[tuple(np.flatnonzero(counts).tolist())] = None
    return Group(group.name, group.kind, group.size, tuple(slices), interchangeable, tuple(sections))
