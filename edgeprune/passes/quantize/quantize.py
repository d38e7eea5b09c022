"""Quantizes a float network to eight bits without training, written as QDQ ONNX."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.quantization import Grid, write_pair
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.weights import read_bias, read_weight, weighted_layers
from edgeprune.passes.quantize.calibration_rows import check_rows
from edgeprune.passes.quantize.clipping import grid_for
from edgeprune.passes.quantize.histograms import histograms
from edgeprune.passes.quantize.placement import Placement, place
from edgeprune.passes.quantize.weights import least_squares_scale, nearest, store_bias, store_weight, widened
from edgeprune.progress import Progress, silent


@dataclass(frozen=True)
class Quantize:
    """Quantize weights and what they are multiplied with to eight bits."""

    calibration: str = "auto"
    keep_float: Collection[str] = ()
    rows: int = 256
    threads: int = 1

    def __call__(self, model: ir.Model, calibration: Samples, progress: Progress = silent) -> ir.Model:
        """A QDQ copy of `model`."""
        check_rows(model, calibration)
        real = copy_model(with_real_weights(model))
        rows = calibration.slice(0, self.rows)
        placement = place(real, self.keep_float)
        found = histograms(real, placement, rows, self.threads, progress)
        method = "minmax" if self.calibration == "auto" else self.calibration
        grids = [grid_for(histogram, method) for histogram in found]
        return quantized(real, placement, grids)


def quantized(model: ir.Model, placement: Placement, grids: Sequence[Grid]) -> ir.Model:
    """`model`, changed in place: pairs at the points of `placement`, weights rounded to the nearest."""
    for layer in weighted_layers(model):
        if layer.name not in placement.layers:
            continue
        weight, bias = read_weight(layer), read_bias(layer)
        input_scale = grids[placement.layers[layer.name]].scale
        scale = least_squares_scale(weight)
        if bias is not None:
            scale = widened(scale, bias, input_scale)
        store_weight(layer, nearest(weight, scale))
        store_bias(layer, scale, input_scale)
    for point in placement.points:
        write_pair(model.graph, point.value, grids[point.grid], point.uses)
    return model
