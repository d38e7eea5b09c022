"""What tracing through a model finds: labels of every tensor, and the constants that units own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.labels import FIXED, Labels, compress, lines, varying
from edgeprune.ir.dependency.slices import Role
from edgeprune.ir.dependency.stored import is_shared, stored
from edgeprune.ir.ports import static_shape

Layers = tuple[np.ndarray, ...]
"""Independent cuts of one tensor, each an array of labels that broadcasts to it; no two differ along one axis."""


@dataclass(frozen=True)
class Use:
    """Axis `axis` of what is at input `index` of `node` follows axis `value_axis` of `value`.

    It holds the first `length` labels of that axis (0: all of them), `repeats` times in a row.
    """

    node: ir.Node
    index: int
    axis: int
    role: Role
    value: ir.Value
    value_axis: int
    repeats: int = 1
    length: int = 0


class Trace:
    """The labels of every tensor of a model, node by node."""

    def __init__(self) -> None:
        self.labels = Labels()
        self.uses: list[Use] = []
        self.heads: list[np.ndarray] = []
        self._layers: dict[int, Layers] = {}
        self._settled: dict[int, tuple[int, Layers]] = {}

    def layers(self, value: ir.Value | None) -> Layers:
        """The labels of `value`, every label by its root; none where nothing of it can be removed."""
        if value is None or id(value) not in self._layers:
            return ()
        version, layers = self._settled.get(id(value), (-1, ()))
        if version != self.labels.version:
            found = (compress(self.labels.roots(layer)) for layer in self._layers[id(value)])
            layers = tuple(layer for layer in found if np.any(layer != FIXED))
            self._settled[id(value)] = self.labels.version, layers
        return layers

    def put(self, value: ir.Value, layers: Layers) -> None:
        """Set the labels of `value`; where two would cut along one axis, the later is pinned."""
        kept: list[np.ndarray] = []
        for layer in map(compress, layers):
            if not np.any(layer != FIXED):
                continue
            taken = {axis for each in kept for axis in varying(each)}
            if taken & set(varying(layer)):
                self.pin(layer, f"two cuts meet along one axis of tensor '{value.name}'")
            else:
                kept.append(layer)
        self._layers[id(value)] = tuple(kept)
        self._settled.pop(id(value), None)

    def copy(self, value: ir.Value, new: ir.Value) -> None:
        """Give `new`, which takes the place of `value`, the same labels."""
        self._layers[id(new)] = self._layers.get(id(value), ())
        self._settled.pop(id(new), None)

    def fresh(self, value: ir.Value, *axes: int) -> None:
        """Give every place on `axes` of `value` a label of its own, next to the labels it has."""
        shape = static_shape(value)
        sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
        own = self.labels.fresh(int(np.prod(sizes))).reshape(sizes)
        self.put(value, (*self.layers(value), own))

    def use(self, node: ir.Node, index: int, axis: int, role: Role, value: ir.Value, value_axis: int) -> None:
        """Note that a constant follows `value`; nothing is noted where the input is missing or computed."""
        self.note(Use(node, index, axis, role, value, value_axis))

    def note(self, use: Use) -> None:
        """Note `use`, where its input is a constant, plain or quantized; one that other nodes read too is pinned."""
        source = use.node.inputs[use.index] if use.index < len(use.node.inputs) else None
        if stored(source) is None:
            return
        if is_shared(source):
            self.clear_of(use.value, (use.value_axis,), f"{where(use.node)} shares quantized constants with others")
        self.uses.append(use)

    def pin(self, layer: np.ndarray, reason: str) -> None:
        """Let nothing remove what `layer` labels."""
        self.labels.pin(layer, reason)

    def pin_value(self, value: ir.Value | None, reason: str) -> None:
        """Let nothing remove anything of `value`."""
        for layer in self.layers(value):
            self.pin(layer, reason)

    def clear_of(self, value: ir.Value | None, axes: tuple[int, ...], reason: str) -> Layers:
        """The labels of `value`, made such that nothing differs along `axes`.

        What differs along other axes too is tied to differ along those alone; what does not is pinned.
        """
        clear = []
        for layer in self.layers(value):
            others = tuple(axis for axis in varying(layer) if axis not in axes)
            if others != varying(layer) and others:
                clear.append(self.only(layer, others, reason))
            elif others != varying(layer):
                self.pin(layer, reason)
            else:
                clear.append(layer)
        return tuple(clear)

    def only(self, layer: np.ndarray, axes: tuple[int, ...], reason: str) -> np.ndarray:
        """`layer` tied such that it differs along `axes` alone."""
        self.tie(layer, axes, reason)
        roots = self.labels.roots(layer)
        return roots[tuple(slice(None) if axis in axes else slice(1) for axis in range(roots.ndim))]

    def tie(self, layer: np.ndarray, axes: tuple[int, ...], reason: str) -> None:
        """Join all labels of `layer` that share one place on `axes`."""
        together = lines(layer, axes)
        self.labels.join(together, together[:, :1], reason)

    def vector(self, value: ir.Value, axis: int) -> np.ndarray:
        """One root for every place along `axis` of `value`; 0 where nothing can be removed."""
        for layer in self.layers(value):
            if axis in varying(layer):
                return layer.reshape(-1) if varying(layer) == (axis,) else np.zeros(layer.shape[axis], np.int64)
        return np.zeros(static_shape(value)[axis], np.int64)

    def use_vector(self, use: Use) -> np.ndarray:
        """One root for every place along the axis of a constant."""
        whole = self.vector(use.value, use.value_axis)
        return np.tile(whole[: use.length or len(whole)], use.repeats)


Rule = Callable[[Trace, ir.Node], None]
"""Gives the outputs of a node their labels."""


def settle(trace: Trace, model: ir.Model, moving: frozenset[str]) -> None:
    """Join labels until every tensor that an operator works on can be cut along one axis at a time.

    Tensors between the operators of `moving` may be cut in any way: what moves elements can be written anew.
    """
    worked_on = [value for node in model.graph for value in _worked_on(node, moving)]
    values = list({id(value): value for value in worked_on if value is not None}.values())
    while sum(_settle(trace, value) for value in values):
        pass


def _worked_on(node: ir.Node, moving: frozenset[str]) -> list[ir.Value | None]:
    return [] if node.op_type in moving and not node.domain else [*node.inputs, *node.outputs]


def _settle(trace: Trace, value: ir.Value) -> bool:
    """Join labels that differ along several axes, so that as many units as possible remain."""
    changed = False
    for layer in trace.layers(value):
        axes = varying(layer)
        if len(axes) > 1:
            best = max(axes, key=lambda axis: (_distinct(layer, axis), -axis))
            trace.tie(layer, (best,), f"tensor '{value.name}' can only be cut whole")
            changed = True
    return changed


def _distinct(layer: np.ndarray, axis: int) -> int:
    return len(np.unique(lines(layer, (axis,)), axis=0))


def where(node: ir.Node) -> str:
    """How messages name `node`."""
    return f"node '{node.name}' ({node.op_type})"


def unknown(trace: Trace, node: ir.Node) -> None:
    """The rule of every operator without a rule: nothing that it reads can be removed."""
    for value in node.inputs:
        trace.pin_value(value, f"{where(node)} has no rule for removing units")


def trace_model(model: ir.Model, rules: Mapping[str, Rule], moving: frozenset[str]) -> Trace:
    """Trace the labels through `model`, whose shapes are all fixed, by one rule per operator."""
    trace = Trace()
    for node in model.graph:
        rule = rules.get(node.op_type, unknown) if not node.domain else unknown
        rule(trace, node)
    for value in model.graph.outputs:
        trace.pin_value(value, f"model output '{value.name}'")
    settle(trace, model, moving)
    return trace
