"""Least-squares refit of the kept weights on calibration inputs, layer by layer, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from edgeprune.data.samples import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.mask import mask_from_scores
from edgeprune.passes.calibration_road import CalibrationRoad, rows_that_fit
from edgeprune.passes.criteria.criterion import Choice, Criterion, MaskProblem, Quadratic, Saliencies
from edgeprune.passes.criteria.named import criterion_named, saliencies
from edgeprune.passes.finite import check_finite, require_finite
from edgeprune.passes.fit import LayerFit, LayerMoments, Solution, best_on
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
    of `levels` (by node name) first loses weights down to its level; `criterion` (a name of options.CRITERIA) says
    which, by the `saliencies` given or by its own. Other layers keep the zeros they have. On rows that were held back
    the fit has to be better than none; it goes only part of the way where that is better. With the criterion "auto"
    it has to be better than pruning by size too, or the layer is pruned by size.

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
    criterion: str = "auto"
    saliencies: Saliencies | None = None

    def __call__(
        self, model: ir.Model, samples: Samples, *, original: ir.Model | None = None, progress: Progress = silent
    ) -> ir.Model:
        """A refitted copy of `model`, towards the outputs of `original` (None: of `model`) on the rows of `samples`.

        Both models have the same nodes. Raises EdgepruneError: layer-unknown where a level names no layer, not-finite
        where weights or inputs hold NaN or infinity, and what the criterion raises.
        """
        reference = model if original is None else original
        fitted = copy_model(model)
        check_levels(fitted, self.levels)
        check_finite(model, samples)
        with threadpool_limits(self.threads, user_api="blas"):
            rows = samples.slice(0, rows_that_fit(reference, min(self.samples, samples.count), self.memory))
            criterion = criterion_named(self.criterion)
            given = self.saliencies
            if self.levels and given is None and criterion.up_front:
                given = saliencies(model, rows, self.criterion, self.seed)
            road = CalibrationRoad(reference, fitted, rows, self.threads)
            tasks = [
                _Task(layer, self.levels.get(layer.name), criterion, None if given is None else given.get(layer.name))
                for layer in weighted_layers(fitted)
            ]
            self._treat_all(tasks, road, progress)
        return fitted

    def _treat_all(self, tasks: list[_Task], road: CalibrationRoad, progress: Progress) -> None:
        generator = np.random.default_rng(self.seed)
        changed = False
        for index, task in enumerate(tasks):
            layer = task.layer
            progress("refit", index, len(tasks), layer.name)
            changed = changed or task.level is not None
            changed = changed or not np.array_equal(read_weight(layer), road.original_weight(layer))
            for note in self._treat(task, road, generator) if changed else ():
                progress("refit", index, len(tasks), f"{layer.name}: {note}")
        progress("refit", len(tasks), len(tasks), "")

    def _treat(self, task: _Task, road: CalibrationRoad, generator: np.random.Generator) -> list[str]:
        """Prune and fit one layer; notes where it was not done as asked."""
        reason = _unfit(task.layer)
        if reason:
            scores = task.weight**2 if task.saliency is None else task.saliency
            write_weight(task.layer, task.weight * task.kept(scores))
            notes = [f"{task.unfitted}, {reason}"]
        else:
            notes = self._fit(task, road, generator)
        if task.level is not None:
            note_pattern(task.layer, task.level)
        return notes

    def _fit(self, task: _Task, road: CalibrationRoad, generator: np.random.Generator) -> list[str]:
        """Prune and fit one layer; notes where that was not done as asked or did not help."""
        layer, weight, bias = task.layer, task.weight, read_bias(task.layer)
        shape = (len(weight), -1, weight.shape[3])
        centred = layer.bias is not None and bias is not None
        observed, judge = observe(layer, *road.reach(layer), positions=self._positions(weight), generator=generator)
        require_finite(observed.inputs, f"the inputs of node '{layer.name}'", f"node {layer.name}")
        start_bias = np.zeros((len(weight), 1, weight.shape[3])) if bias is None else bias.reshape(len(weight), 1, -1)
        start = Solution(weight.reshape(shape).astype(np.float64), start_bias.astype(np.float64))
        problem = LayerFit(start.weights, start.bias, observed, centred, self.damping)
        moments = problem.moments()
        choice = task.choose(moments, start.weights)
        rival = task.kept(weight**2).reshape(choice.mask.shape) if self.criterion == "auto" else choice.mask
        plain = Solution(start.weights * rival, start.bias)
        solution, changed = best_on(judge, problem.solve(moments, choice.mask), plain, start)
        write_weight(layer, solution.weights.reshape(weight.shape))
        if centred:
            write_bias(layer, solution.bias.reshape(-1))
        unhelpful = "" if changed else f"{task.unfitted}, the refit was no better on held-back rows"
        return [note for note in (choice.note, unhelpful) if note]

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


@dataclass(frozen=True)
class _Task:
    """One layer, what it keeps, and how that is chosen; without a level it keeps the zeros it has."""

    layer: WeightedLayer
    level: Level | None
    criterion: Criterion
    saliency: np.ndarray | None

    @property
    def weight(self) -> np.ndarray:
        """The weight as it is now, [groups, taps, in, out]."""
        return read_weight(self.layer)

    @property
    def unfitted(self) -> str:
        """What happened to the layer where it was not fitted."""
        if self.level is None:
            return "left as it was"
        return "pruned by size" if self.saliency is None else "pruned without a refit"

    def kept(self, scores: np.ndarray) -> np.ndarray:
        """The mask of the highest scores, [groups, taps, in, out], or of the zeros that there are."""
        if self.level is None:
            return self.weight != 0
        return mask_from_scores(scores, self.level.pattern, self.level.density)

    def choose(self, moments: LayerMoments, start: np.ndarray) -> Choice:
        """The mask [groups, F, out] by the criterion, or of the zeros that there are."""
        groups, taps, inputs, outputs = self.weight.shape
        if self.level is None:
            return Choice((self.weight != 0).reshape(start.shape))
        saliency = None if self.saliency is None else self.saliency.reshape(start.shape)
        shape = (groups, taps, inputs, outputs)
        quadratic = Quadratic(moments.second, moments.aim.cross)
        return self.criterion.choose(MaskProblem(quadratic, start, moments.seen.power, shape, self.level, saliency))
