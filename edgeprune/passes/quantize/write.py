"""Writes a network whose grids are known in QDQ form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.quantization import Grid, write_pair
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers
from edgeprune.passes.quantize.placement import Placement, place
from edgeprune.passes.quantize.reconstruct import Reconstruct, add_bias
from edgeprune.passes.quantize.weights import (
    IntegerWeight,
    drop,
    least_squares_scale,
    nearest,
    store_bias,
    store_weight,
    widened,
)
from edgeprune.progress import Progress, silent


@dataclass(frozen=True)
class GridChoice:
    """A float network, where its values are quantized, the grids by number.

    `way` is the method and the share that they were chosen by, `loss` what they cost at the outputs.
    """

    model: ir.Model
    placement: Placement
    grids: tuple[Grid, ...]
    keep_float: frozenset[str] = frozenset()
    way: tuple[str, float] = ("minmax", 100.0)
    loss: float = 0.0

    @property
    def scales(self) -> Mapping[str, float]:
        """By layer name, the scale of what each int8 layer reads."""
        return {name: self.grids[number].scale for name, number in self.placement.layers.items()}


def quantized(
    choice: GridChoice,
    reconstruct: Reconstruct | None = None,
    rows: Samples | None = None,
    progress: Progress = silent,
) -> ir.Model:
    """A QDQ copy of the network; weights go to the nearest, or to what `reconstruct` finds on `rows`.

    What several layers share is stored once, and goes to the nearest.
    """
    model, scales = copy_model(choice.model), choice.scales
    layers = [layer for layer in weighted_layers(model) if layer.name in scales]
    first: dict[int, WeightedLayer] = {}
    again = {layer.name: other for layer in layers if (other := first.setdefault(id(layer.weight), layer)) != layer}
    layers = [layer for layer in layers if layer.name not in again]
    sharing = [layer for layer in weighted_layers(model) if layer.name in again]
    placement = place(model, choice.keep_float)
    for point in placement.points:
        write_pair(model.graph, point.value, choice.grids[point.grid], point.uses)
    integers: Mapping[str, IntegerWeight] = {}
    if reconstruct is not None and rows is not None:
        for layer in layers if reconstruct.correct_bias else ():
            if not layer.shared:
                add_bias(layer)
        integers = reconstruct(choice.model, model, scales, rows, progress)
    for layer in layers:
        if layer.name in integers:
            store_bias(layer, integers[layer.name].scale, scales[layer.name])
            store_weight(layer, integers[layer.name])
        else:
            store_nearest(layer, scales[layer.name])
    for layer in sharing:
        _share(layer, again[layer.name])
    return model


def _share(layer: WeightedLayer, other: WeightedLayer) -> None:
    """Let `layer` read what is stored of the equal parameters of `other`."""
    graph, before = layer.node.graph, layer.node.inputs[1:]
    assert isinstance(graph, ir.Graph)
    for index, value in enumerate(other.node.inputs[1:], 1):
        layer.node.replace_input_with(index, value)
    for value in before:
        if value is not None:
            drop(graph, value)


def store_nearest(layer: WeightedLayer, input_scale: float) -> None:
    """Make `layer` read int8 weights and an int32 bias, each the nearest; `input_scale` is that of what it reads."""
    chosen = _nearest(layer, input_scale)
    store_bias(layer, chosen.scale, input_scale)
    store_weight(layer, chosen)


def _nearest(layer: WeightedLayer, input_scale: float) -> IntegerWeight:
    weight, bias = read_weight(layer), read_bias(layer)
    scale = least_squares_scale(weight)
    return nearest(weight, scale if bias is None else widened(scale, bias, input_scale))
