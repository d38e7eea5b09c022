"""The table that a budget is solved on: the error and the cost of every level of every layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from edgeprune.ir.cost import model_cost
from edgeprune.ir.ports import static_shape
from edgeprune.options import Options
from edgeprune.passes.layer_errors import layer_errors
from edgeprune.pattern import Level, Pattern
from edgeprune.progress import Progress
from edgeprune.road.costing import costs_for
from edgeprune.road.error_store import kept_layer_errors
from edgeprune.road.judging import Judge, cores_of
from edgeprune.search.candidates import LayoutTable, Work, layout_table, levels_to_try
from edgeprune.search.costs import CostTable
from edgeprune.search.energy import EnergyModel, Precision, energy_model
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

_ACTIVATION_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 2}
"""Of one element as it is stored between layers: integers are kept centred in two bytes where words are of pairs."""

ERROR_ROWS = 256
"""Calibration rows that layer errors are measured on."""


def tables_for(
    judge: Judge, target: Target, patterns: Sequence[Pattern], options: Options, progress: Progress
) -> tuple[list[LayoutTable], CostTable]:
    """One table for each layout, and the costs they were made from."""
    model = judge.original
    costs = cost_table(judge, target, options, progress)
    levels = levels_to_try(costs.layers, patterns)
    errors = errors_of(judge, levels, options, progress)
    precision = judge.write.precision
    work, energy = work_of(model, costs.layers, precision), energy_of(costs, target, options, precision)
    return [layout_table(layout, levels, errors, work, energy) for layout in costs.layouts], costs


def cost_table(judge: Judge, target: Target, options: Options, progress: Progress) -> CostTable:
    """What every layer of the judge's original costs at every level."""
    return costs_for(
        judge.original, target, threads=options.threads, seed=options.seed, write=judge.write, progress=progress
    )


def errors_of(
    judge: Judge, levels: Mapping[str, Sequence[Level]], options: Options, progress: Progress
) -> dict[str, tuple[float, ...]]:
    """What the network loses, in nats a row, where a layer alone goes to each of its `levels`."""
    model, rows = judge.original, judge.rows("calibrate", ERROR_ROWS)

    def make() -> dict[str, tuple[float, ...]]:
        return layer_errors(model, rows, levels, seed=options.seed, threads=cores_of(options), progress=progress)

    return kept_layer_errors(model, rows, levels, options.seed, make)


def energy_of(costs: CostTable, target: Target, options: Options, precision: Precision = "fp32") -> EnergyModel | None:
    """The energy model, for weights as many as the dense model has; None where nothing is known of the target."""
    if target.energy is None and options.energy is None and options.objective != "energy":
        return None
    return energy_model(target, costs.size({}), precision=precision, threads=options.threads)


def work_of(model: ir.Model, names: Collection[str], precision: Precision = "fp32") -> dict[str, Work]:
    """Multiply-accumulates and bytes of activations of the layers in `names`."""
    size = _ACTIVATION_BYTES[precision]
    macs = {layer.name: layer.dense_macs for layer in model_cost(model).layers}
    found = {}
    for node in model.graph:
        if node.name in names:
            values = [node.inputs[0], node.outputs[0]]
            elements = sum(_elements(value) for value in values if value is not None)
            found[str(node.name)] = Work(macs.get(str(node.name), 0), size * elements)
    return found


def _elements(value: ir.Value) -> int:
    count = 1
    for size in static_shape(value):
        count *= size
    return count
