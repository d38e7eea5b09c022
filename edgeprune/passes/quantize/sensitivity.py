"""What it costs to quantize single layers."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.quantization import Grid, write_pair
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.weights import weighted_layers
from edgeprune.passes.quantize.calibration_rows import check_rows
from edgeprune.passes.quantize.clipping import grid_for
from edgeprune.passes.quantize.histograms import histograms
from edgeprune.passes.quantize.judge import OutputJudge
from edgeprune.passes.quantize.placement import place
from edgeprune.passes.quantize.write import store_nearest
from edgeprune.progress import Progress, silent


def layer_sensitivities(
    model: ir.Model,
    calibration: Samples,
    *,
    method: str = "mse",
    rows: int = 128,
    threads: int = 1,
    progress: Progress = silent,
) -> dict[str, float]:
    """By layer name in graph order, what the outputs lose when that layer alone is int8, in nats a row.

    Its input is rounded to the grid that `method` (one of clipping.METHODS) gives, and its weights to the nearest. The
    loss is that of `output_loss`: of classes the divergence, of measured values the relative squared error. Raises
    EdgepruneError: data-missing (no rows), input-mismatch, data-shape, not-finite.
    """
    check_rows(model, calibration)
    real = with_real_weights(model)
    samples = calibration.slice(0, min(rows, calibration.count))
    judge = OutputJudge(real, samples, threads)
    placement = place(real)
    grids = [grid_for(found, method) for found in histograms(real, placement, samples, threads, progress)]
    found = {}
    for index, (name, number) in enumerate(placement.layers.items()):
        progress("layer sensitivities", index, len(placement.layers), name)
        found[name] = judge.loss(_alone(real, name, grids[number]))
    progress("layer sensitivities", len(placement.layers), len(placement.layers), "")
    return found


def _alone(model: ir.Model, name: str, grid: Grid) -> ir.Model:
    """`model` with one layer in int8."""
    result = copy_model(model)
    layer = next(layer for layer in weighted_layers(result) if layer.name == name)
    value = layer.node.inputs[0]
    assert value is not None
    write_pair(result.graph, value, grid, [(layer.node, 0)])
    store_nearest(layer, grid.scale)
    return result
