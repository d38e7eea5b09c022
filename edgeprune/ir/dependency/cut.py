"""What stays of every tensor when only some units are kept, and in which order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.dependency.groups import Group, Resolved
from edgeprune.ir.dependency.labels import varying
from edgeprune.ir.ports import static_shape


class Cut:
    """The places that stay along every axis, by the labels there.

    `kept` holds the kept units of each group in their new order. Kept units share out the places that all of them
    had: the first place goes to the first unit in the new order.
    """

    def __init__(self, resolved: Resolved, kept: Mapping[str, np.ndarray]) -> None:
        self._resolved = resolved
        places = {group.name: place for place, group in enumerate(resolved.groups.groups)}
        groups = {name: resolved.groups[name] for name in kept}
        self._kept = {places[name]: checked_units(group, kept[name]) for name, group in groups.items()}
        self._moves = {place for place, units in self._kept.items() if np.any(np.diff(units) < 0)}
        self._cut = np.isin(resolved.group_of, list(self._kept))
        self._gone = self._cut.copy()
        for place, units in self._kept.items():
            self._gone &= (resolved.group_of != place) | ~np.isin(resolved.unit_of, units)

    def order(self, labels: np.ndarray, what: str) -> np.ndarray | None:
        """The old places, in their new order, along an axis with `labels`; None where it stays as it is.

        Raises EdgepruneError (group-empty) where nothing would be left.
        """
        order = np.flatnonzero(~self._gone[labels])
        if not len(order):
            raise EdgepruneError(
                "group-empty", f"the kept units leave nothing of {what}", where=what, hint="keep more units"
            )
        group_of, unit_of = self._resolved.group_of[labels], self._resolved.unit_of[labels]
        for place in self._moves & set(group_of[order].tolist()):
            slots = order[group_of[order] == place]
            order[group_of[order] == place] = _shared_out(slots, unit_of[slots], self._kept[place])
        return None if np.array_equal(order, np.arange(len(labels))) else order

    def removed(self, labels: np.ndarray) -> np.ndarray:
        """Which places along an axis with `labels` go."""
        return self._gone[labels]

    def positions(self, value: ir.Value) -> list[np.ndarray] | None:
        """The old places that stay along every axis of `value`, in order; None where what stays is no box."""
        shape = static_shape(value)
        found = [np.arange(size) for size in shape]
        for layer in self._resolved.trace.layers(value):
            axes = varying(layer)
            if len(axes) == 1:
                order = self.order(layer.reshape(-1), f"tensor '{value.name}'")
                found[axes[0]] = found[axes[0]] if order is None else order
            elif axes and np.any(self._cut[layer]):
                return None
        return found


def _shared_out(slots: np.ndarray, units: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`slots`, which belong to `units`, shared out to the same units in the order of `kept`."""
    present, counts = np.unique(units, return_counts=True)
    if not len(present) or np.any(counts != counts[0]):
        return slots
    wanted = kept[np.isin(kept, present)]
    shared = np.empty_like(slots)
    for old, new in zip(present, wanted, strict=True):
        shared[units == old] = slots[units == new]
    return shared


def checked_units(group: Group, kept: np.ndarray) -> np.ndarray:
    """`kept` as unit numbers of `group`. Raises EdgepruneError (units-invalid)."""
    units = np.asarray(kept, dtype=None if len(np.atleast_1d(kept)) else np.int64)
    whole = units.ndim == 1 and np.issubdtype(units.dtype, np.integer)
    least = 0 if group.kind == "layer" else 1
    if (
        not whole
        or len(units) < least
        or len(np.unique(units)) < len(units)
        or np.any((units < 0) | (units >= group.size))
    ):
        raise EdgepruneError(
            "units-invalid",
            f"the kept units of group '{group.name}' are not different numbers from 0 to {group.size - 1}",
            where=f"group '{group.name}'",
            hint=f"give at least {least} of them" if least else "",
        )
    return units.astype(np.int64)
