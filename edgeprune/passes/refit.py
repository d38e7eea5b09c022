"""Least-squares refit of the kept weights on calibration inputs, layer by layer, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from edgeprune.data.samples import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.segments import peak_bytes
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.mask import mask_from_scores
from edgeprune.passes.calibration_road import CalibrationRoad
from edgeprune.passes.fit import Keep, LayerFit, Solution, best_on
from edgeprune.passes.observations import observe
from edgeprune.passes.prune import check_levels, note_pattern
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent

REFIT_INPUTS = 4608
"""Layers with more inputs to one output (taps times input channels) are not refitted: the moments grow squared."""

MOMENT_OPERATIONS = 1e11
"""Positions are fewer where the moments of a layer's inputs would take more multiplications than this."""


@dataclass(frozen=True)
class Refit:
    """Make every layer give what it gave in the original network, from what the pruned layers before it give.

    Layers go in graph order. In each, the inputs X come from the network as pruned and refitted so far and the
    wanted outputs Z from the original network; the kept weights and the bias minimise |X W + b - Z|^2, behind the
    rectifier where one follows, plus `damping` times the mean input power times their distance from what they were.
    Where the output goes straight into a residual sum, Z also makes up for the error of the other operand. A layer
    of `levels` (by node name) first loses weights down to its level: those whose loss the others can best make up
    for. Other layers keep the zeros they have. On rows that were held back the fit has to be better than pruning by
    size, or the layer is pruned by size; it goes only part of the way where that is better.

    At most `samples` rows are used, fewer where their tensors would take more than `memory` bytes, and at most
    `positions` output positions of a layer. Layers that share a weight or have more than REFIT_INPUTS inputs are
    pruned by size and not refitted; progress notes them.
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
        with threadpool_limits(self.threads, user_api="blas"):
            road = CalibrationRoad(reference, fitted, samples.slice(0, self._rows(reference, samples)), self.threads)
            self._treat_all(weighted_layers(fitted), road, progress)
        return fitted

    def _rows(self, original: ir.Model, samples: Samples) -> int:
        """How many rows are used: both networks hold theirs at the same time."""
        stops = [index + 1 for index, node in enumerate(original.graph) if node.op_type in ("Conv", "Gemm", "MatMul")]
        fitting = self.memory // (2 * max(1, peak_bytes(original, [0, *stops])))
        return min(self.samples, samples.count, max(1, fitting))

    def _treat_all(self, layers: list[WeightedLayer], road: CalibrationRoad, progress: Progress) -> None:
        generator = np.random.default_rng(self.seed)
        changed = False
        for index, layer in enumerate(layers):
            progress("refit", index, len(layers), layer.name)
            level = self.levels.get(layer.name)
            changed = changed or level is not None
            changed = changed or not np.array_equal(read_weight(layer), road.original_weight(layer))
            note = self._treat(layer, level, road, generator) if changed else ""
            if note:
                progress("refit", index, len(layers), f"{layer.name}: {note}")
        progress("refit", len(layers), len(layers), "")

    def _treat(
        self, layer: WeightedLayer, level: Level | None, road: CalibrationRoad, generator: np.random.Generator
    ) -> str:
        """Prune and fit one layer; a note where it was not fitted."""
        note = _unfit(layer)
        if note:
            write_weight(layer, read_weight(layer) * _kept(read_weight(layer), level, read_weight(layer) ** 2))
        elif not self._fit(layer, level, road, generator):
            note = "the refit was no better on held-back rows"
        if level is not None:
            note_pattern(layer, level)
        return f"{'pruned by size' if level is not None else 'left as it was'}, {note}" if note else ""

    def _fit(
        self, layer: WeightedLayer, level: Level | None, road: CalibrationRoad, generator: np.random.Generator
    ) -> bool:
        """Prune and fit one layer; whether the fit was better than pruning by size."""
        weight, bias = read_weight(layer), read_bias(layer)
        shape = (len(weight), -1, weight.shape[3])
        centred = layer.bias is not None and bias is not None
        observed, judge = observe(layer, *road.reach(layer), positions=self._positions(weight), generator=generator)
        start_bias = np.zeros((len(weight), 1, weight.shape[3])) if bias is None else bias.reshape(len(weight), 1, -1)
        start = Solution(weight.reshape(shape).astype(np.float64), start_bias.astype(np.float64))
        keep = _keep(weight, level)
        problem = LayerFit(start.weights, start.bias, observed, centred, self.damping)
        plain = Solution(start.weights * keep(start.weights**2), start.bias)
        solution, changed = best_on(judge, problem.solve(keep, choose=level is not None), plain, start)
        write_weight(layer, solution.weights.reshape(weight.shape))
        if centred:
            write_bias(layer, solution.bias.reshape(-1))
        return changed

    def _positions(self, weight: np.ndarray) -> int:
        inputs = weight.shape[1] * weight.shape[2]
        return min(self.positions, int(MOMENT_OPERATIONS / (len(weight) * inputs**2)))


def _unfit(layer: WeightedLayer) -> str:
    """Why a layer cannot be fitted; empty where it can."""
    if layer.shared:
        return "it shares its weight"
    shape = read_weight(layer).shape
    inputs = shape[1] * shape[2]
    return f"it has {inputs} inputs to one output, more than {REFIT_INPUTS}" if inputs > REFIT_INPUTS else ""


def _keep(weight: np.ndarray, level: Level | None) -> Keep:
    """From scores [groups, F, out] to what `level`, or else the zeros of `weight`, leave."""
    return lambda scores: _kept(weight, level, scores).reshape(scores.shape)


def _kept(weight: np.ndarray, level: Level | None, scores: np.ndarray) -> np.ndarray:
    """The mask of `level`, or of the zeros in `weight`, [groups, taps, in, out]."""
    if level is None:
        return weight != 0
    return mask_from_scores(scores.reshape(weight.shape), level.pattern, level.density)
