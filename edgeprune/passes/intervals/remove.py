"""Removes what a quantized model computes for nothing, without changing one bit of what it gives."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.ir.canonical_fold import remove_unused
from edgeprune.ir.copy import copy_model
from edgeprune.ir.cost import model_cost
from edgeprune.ir.dependency.groups import resolve
from edgeprune.ir.ports import static_shape
from edgeprune.ir.quantization import is_quantized
from edgeprune.passes.intervals.clamps import drop_clamps
from edgeprune.passes.intervals.constants import replace_constants
from edgeprune.passes.intervals.fold import fold
from edgeprune.passes.intervals.propagate import propagate
from edgeprune.passes.intervals.units import find_dead_units
from edgeprune.passes.select_units import SelectUnits


@dataclass(frozen=True)
class LayerRemoval:
    """What went of one layer: output channels and multiply-accumulates, before and after."""

    name: str
    op: str
    channels_before: int
    channels_after: int
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class Removal:
    """A model without dead work, and what went: layer by layer, clamps that never acted, values that never varied."""

    model: ir.Model
    layers: tuple[LayerRemoval, ...] = ()
    clamps: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()

    @property
    def macs_before(self) -> int:
        """Multiply-accumulates of the model as it came."""
        return sum(layer.macs_before for layer in self.layers)

    @property
    def macs_after(self) -> int:
        """Multiply-accumulates of what is left."""
        return sum(layer.macs_after for layer in self.layers)

    @property
    def channels_removed(self) -> int:
        """Output channels that went, over all layers."""
        return sum(layer.channels_before - layer.channels_after for layer in self.layers)

    @property
    def changed(self) -> bool:
        """Whether anything went."""
        return bool(self.channels_removed or self.clamps or self.constants)


def remove_dead(model: ir.Model) -> Removal:
    """`model` without what can never matter, bit for bit; `model` itself where all of it does.

    That is also where it is not quantized, or where shapes are open.

    Channels that always store one value, or that nothing gives a weight, go from the layers that make and read them;
    what a constant added stays in the bias, as an integer. The sums of integers are equal then for every input;
    a runtime that sums in float32 may add what is left in another order.
    """
    if not is_quantized(model) or not _has_fixed_shapes(model):
        return Removal(model)
    left, clamps, constants = copy_model(model), [], []
    while True:
        bounds = propagate(left)
        found = [*drop_clamps(left, bounds)]
        varying = [*replace_constants(left, bounds)]
        clamps += found
        constants += varying
        if found or varying:
            remove_unused(left)
            continue
        dead = find_dead_units(left, resolve(left), bounds)
        if not dead.kept:
            break
        for part in dead.contributions:
            fold(left.graph, part)
        left = SelectUnits(dead.kept)(left)
    removal = Removal(left, _layers(model, left), tuple(clamps), tuple(constants))
    return removal if removal.changed else Removal(model, removal.layers)


def _has_fixed_shapes(model: ir.Model) -> bool:
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs if value.name)]
    return all(value.shape is not None and value.shape.is_static() for value in values)


def _layers(before: ir.Model, after: ir.Model) -> tuple[LayerRemoval, ...]:
    left = {layer.name: layer.dense_macs for layer in model_cost(after).layers}
    channels, kept = _channels(before), _channels(after)
    return tuple(
        LayerRemoval(
            layer.name,
            layer.op,
            channels[layer.name],
            kept.get(layer.name, 0),
            layer.dense_macs,
            left.get(layer.name, 0),
        )
        for layer in model_cost(before).layers
    )


def _channels(model: ir.Model) -> dict[str, int]:
    """By name, the output channels of every layer."""
    sizes = {}
    for node in model.graph:
        shape = static_shape(next(value for value in node.outputs if value.name))
        sizes[str(node.name)] = (shape[1] if node.op_type.startswith("Conv") else shape[-1]) if shape else 1
    return sizes
