"""Least-squares refit of the kept weights on calibration inputs, layer by layer, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.segments import SegmentedRun, peak_bytes
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.mask import mask_from_scores
from edgeprune.passes.least_squares import fit_kept
from edgeprune.passes.prune import check_levels, note_pattern
from edgeprune.passes.selection import choose_mask
from edgeprune.passes.statistics import LayerStatistics, gather_statistics
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent

REFIT_INPUTS = 6144
"""Layers with more inputs to one output (taps times input channels) are not refitted: the moments grow squared."""

SELECTION_INPUTS = 2304
"""In layers with more inputs, weights are chosen by squared weight times input power instead."""


@dataclass(frozen=True)
class Refit:
    """Make every layer give what it gave in the original network, from what the pruned layers before it give.

    Layers go in graph order. In each, the inputs X come from the network as pruned and refitted so far and the
    wanted outputs Z from the original network; the kept weights and the bias minimise |X W + b - Z|^2 plus `damping`
    times the mean input power times their distance from what they were. Where the output goes straight into a
    residual sum, Z also makes up for the error of the other operand. A layer of `levels` (by node name) first loses
    weights down to its level: those whose loss the others can best make up for. Other layers keep the zeros they
    have. At most `samples` rows are used, fewer where their tensors would take more than `memory` bytes, and at most
    `positions` output positions of a layer (or eight for each of its inputs).

    Layers that share a weight or have more than REFIT_INPUTS inputs are pruned by size and not refitted.
    """

    levels: Mapping[str, Level] = field(default_factory=dict)
    damping: float = 0.01
    samples: int = 512
    positions: int = 32768
    memory: int = 1 << 30
    seed: int = 0
    threads: int = 1

    def __call__(
        self, model: ir.Model, samples: Samples, *, original: ir.Model | None = None, progress: Progress = silent
    ) -> ir.Model:
        """A refitted copy of `model`, towards the outputs of `original` (None: of `model`) on the rows of `samples`.

        Both models have the same nodes. Raises EdgepruneError (layer-unknown) where a level names no layer.
        """
        reference = model if original is None else original
        fitted = copy_model(model)
        check_levels(fitted, self.levels)
        road = _Road(reference, fitted, samples.slice(0, self._rows(reference, samples)), self.threads)
        layers = weighted_layers(fitted)
        generator = np.random.default_rng(self.seed)
        changed = False
        for index, layer in enumerate(layers):
            progress("refit", index, len(layers), layer.name)
            level = self.levels.get(layer.name)
            changed = (
                changed or level is not None or not np.array_equal(read_weight(layer), road.original_weight(layer))
            )
            if changed:
                self._treat(layer, level, road, generator)
        progress("refit", len(layers), len(layers), "")
        return fitted

    def _rows(self, original: ir.Model, samples: Samples) -> int:
        """How many rows are used: both networks hold theirs at the same time."""
        stops = [index + 1 for index, node in enumerate(original.graph) if node.op_type in ("Conv", "Gemm", "MatMul")]
        fitting = self.memory // (2 * max(1, peak_bytes(original, [0, *stops])))
        return min(self.samples, samples.count, max(1, fitting))

    def _treat(self, layer: WeightedLayer, level: Level | None, road: _Road, generator: np.random.Generator) -> None:
        weight = read_weight(layer)
        if layer.shared or weight.shape[1] * weight.shape[2] > REFIT_INPUTS:
            write_weight(layer, weight * _kept(weight, level, weight**2))
        else:
            self._fit(layer, level, road, generator)
        if level is not None:
            note_pattern(layer, level)

    def _fit(self, layer: WeightedLayer, level: Level | None, road: _Road, generator: np.random.Generator) -> None:
        weight = read_weight(layer)
        positions = max(self.positions, 8 * weight.shape[1] * weight.shape[2])
        bias = layer.bias is not None and read_bias(layer) is not None
        inputs, targets = road.reach(layer)
        statistics = gather_statistics(layer, inputs, targets, bias=bias, positions=positions, generator=generator)
        fitted = fitted_weights(weight, level, statistics, self.damping)
        write_weight(layer, fitted.reshape(weight.shape))
        if bias:
            write_bias(layer, (statistics.mean_out - (statistics.mean_in[:, None] @ fitted)[:, 0]).reshape(-1))


class _Road:
    """The calibration rows on their way through the original network and the one being fitted, side by side."""

    def __init__(self, original: ir.Model, fitted: ir.Model, rows: Samples, threads: int) -> None:
        self._before = SegmentedRun(original, rows, threads)
        self._after = SegmentedRun(fitted, rows, threads)
        self._layers = {layer.name: layer for layer in weighted_layers(original)}
        self._before_positions = {node.name: index for index, node in enumerate(original.graph)}
        self._after_positions = {node.name: index for index, node in enumerate(fitted.graph)}

    def original_weight(self, layer: WeightedLayer) -> np.ndarray:
        """The weight that `layer` had in the original network."""
        return read_weight(self._layers[layer.name])

    def reach(self, layer: WeightedLayer) -> tuple[np.ndarray, np.ndarray]:
        """The inputs that `layer` gets in the fitted network and the outputs it should give, rows first."""
        self._after.advance(self._after_positions[layer.node.name])
        self._before.advance(self._before_positions[layer.node.name] + 1)
        inputs = self._after.held(layer.node.inputs[0])
        targets = self._before.held(self._layers[layer.name].node.outputs[0])
        assert inputs is not None and targets is not None
        correction = self._residual_error(layer)
        return inputs, targets if correction is None else targets + correction

    def _residual_error(self, layer: WeightedLayer) -> np.ndarray | None:
        """What the other operand of a residual sum lacks in the fitted network; None where there is no such sum."""
        output = layer.node.outputs[0]
        uses = [usage.node for usage in output.uses()]
        if len(uses) != 1 or uses[0].op_type != "Add" or output.is_graph_output():
            return None
        other = next((value for value in uses[0].inputs if value is not output), None)
        before, after = self._before.held(other), self._after.held(other)
        if other is None or other.shape != output.shape or before is None or after is None:
            return None
        return before - after


def fitted_weights(weight: np.ndarray, level: Level | None, statistics: LayerStatistics, damping: float) -> np.ndarray:
    """The fitted weights [groups, taps * in, out] that `level`, or else the zeros of `weight`, leave."""
    start = weight.reshape(len(weight), -1, weight.shape[3]).astype(np.float64)
    power = np.diagonal(statistics.second, axis1=1, axis2=2)
    ridge = damping * float(power.mean()) + np.finfo(np.float32).tiny
    second = statistics.second + ridge * np.eye(start.shape[1])
    cross = statistics.cross + ridge * start
    if level is not None and start.shape[1] <= SELECTION_INPUTS:
        chosen = choose_mask(second, cross, lambda scores: _kept(weight, level, scores).reshape(start.shape))
    else:
        chosen = _kept(weight, level, start**2 * power[:, :, None]).reshape(start.shape)
    return np.stack([fit_kept(*parts) for parts in zip(second, cross, chosen, start, strict=True)])


def _kept(weight: np.ndarray, level: Level | None, scores: np.ndarray) -> np.ndarray:
    """The mask of `level`, or of the zeros in `weight`, [groups, taps, in, out]."""
    if level is None:
        return weight != 0
    return mask_from_scores(scores.reshape(weight.shape), level.pattern, level.density)
