"""What pruning a layer to each of several levels would cost, estimated layer by layer on the dense network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.weights import WeightedLayer, output_positions, read_weight
from edgeprune.passes.criteria.alps import Alps
from edgeprune.passes.criteria.criterion import Criterion, MaskProblem, Quadratic, Saliencies
from edgeprune.passes.criteria.curvature import damped
from edgeprune.passes.criteria.named import criterion_named, saliencies
from edgeprune.passes.finite import check_finite
from edgeprune.passes.layer_inputs import layer_inputs
from edgeprune.passes.least_squares import fit_kept
from edgeprune.passes.prune import check_levels
from edgeprune.passes.statistics import InputMoments
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent

Weighting = Literal["fisher", "relative"]

ROWS = 256
POSITIONS = 8192
STEPS = 40
"""Masks are judged here, not used: fewer steps of the optimisation tell levels apart as well."""


def layer_errors(
    model: ir.Model,
    samples: Samples,
    candidates: Mapping[str, Sequence[Level]],
    criterion: str = "auto",
    weighting: Weighting = "fisher",
    *,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = silent,
) -> dict[str, tuple[float, ...]]:
    """About how much the loss of `model` grows when a layer alone goes to each of its candidate levels.

    By layer name, in the order of the candidates. Masks are chosen by `criterion` and the kept weights fitted by
    least squares on the inputs that the layer gets in `model`. The change dW of its weights costs half the sum over
    output channels c of F_c (dW' H dW)_cc for every output position, H the moments of the inputs, and F_c the mean
    squared gradient of the log-likelihood at that output (the diagonal of the Fisher information), so that the
    errors of different layers may be added. Where gradients cannot be had (an op that cannot be trained), or with
    the weighting "relative", a layer's error is that of its output relative to the output's power.

    Layers that cannot be fitted get no entry: those with more inputs than have moments. Raises EdgepruneError
    (layer-unknown, not-finite, criterion-unknown).
    """
    check_levels(model, dict.fromkeys(candidates, Level))  # type: ignore[arg-type]
    check_finite(model, samples)
    judge = criterion_named(criterion)
    judge = Alps(STEPS) if isinstance(judge, Alps) else judge
    given = saliencies(model, samples, criterion, seed) if judge.up_front else {}
    weights = _fisher(model, samples, seed) if weighting == "fisher" else None
    found: dict[str, tuple[float, ...]] = {}
    with threadpool_limits(1 if threads > 1 else threads, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        layers = layer_inputs(model, samples, rows=ROWS, positions=POSITIONS, seed=seed, threads=threads)
        wanted = (
            _Layer(layer, moments, candidates[layer.name], judge, given, weights)
            for layer, moments in layers
            if layer.name in candidates
        )
        while part := list(islice(wanted, threads)):
            progress("layer errors", len(found), len(candidates), part[0].layer.name)
            found.update(pool.map(_Layer.errors, part))
    progress("layer errors", len(candidates), len(candidates), "")
    return found


@dataclass(frozen=True)
class _Layer:
    """One layer, what it reads, and how its candidates are judged; `weights` are those of output channels by name."""

    layer: WeightedLayer
    moments: InputMoments
    levels: Sequence[Level]
    criterion: Criterion
    saliencies: Saliencies
    weights: Mapping[str, np.ndarray] | None

    def errors(self) -> tuple[str, tuple[float, ...]]:
        """The layer's name and the errors of its levels."""
        weight = read_weight(self.layer)
        groups, taps, inputs, outputs = weight.shape
        start = weight.reshape(groups, -1, outputs).astype(np.float64)
        second = damped(self.moments.second, self.moments.power)
        quadratic = Quadratic(second, second @ start)
        saliency = self.saliencies.get(self.layer.name)
        scores = None if saliency is None else saliency.reshape(start.shape)
        counts = self._output_weights(start)
        found = []
        for level in self.levels:
            problem = MaskProblem(quadratic, start, self.moments.power, (groups, taps, inputs, outputs), level, scores)
            found.append(float(np.sum(counts * self._squares(problem, self.criterion.choose(problem).mask))))
        return self.layer.name, tuple(found)

    def _squares(self, problem: MaskProblem, mask: np.ndarray) -> np.ndarray:
        """The mean squared change of every output, [groups, out], with the best weights inside `mask`."""
        if mask.all():
            return np.zeros((len(mask), mask.shape[2]))
        quadratic = problem.quadratic
        parts = zip(quadratic.second, quadratic.cross, mask, problem.start, strict=True)
        change = np.stack([fit_kept(*part) for part in parts]) - problem.start
        return np.asarray(np.sum(change * (self.moments.second @ change), axis=1))

    def _output_weights(self, start: np.ndarray) -> np.ndarray:
        """What a squared change of each output of one inference costs, [groups, out]."""
        shape = (len(start), start.shape[2])
        fisher = None if self.weights is None else self.weights.get(self.layer.name)
        if fisher is not None:
            return 0.5 * output_positions(self.layer) * fisher.reshape(shape)
        power = float(np.sum(start * (self.moments.second @ start)))
        return np.full(shape, 0.5 / max(power, float(np.finfo(np.float32).tiny)))


def _fisher(model: ir.Model, samples: Samples, seed: int) -> dict[str, np.ndarray] | None:
    """The mean squared gradient at every output channel of each layer; None where the model cannot be trained."""
    from edgeprune.passes.gradients import LossGradients

    try:
        return LossGradients(model, samples, rows=ROWS, drawn=True, seed=seed).output_squares()
    except EdgepruneError:
        return None
