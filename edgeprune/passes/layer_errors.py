"""What pruning a layer to each of several levels would cost, estimated layer by layer on the dense network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from edgeprune.data.samples import Samples
from edgeprune.ir.sharing import ahead
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight
from edgeprune.passes.anchors import anchors_of, filled, looked_at, measuring_of, scaled
from edgeprune.passes.calibration_road import rows_that_fit
from edgeprune.passes.criteria.alps import Alps
from edgeprune.passes.criteria.auto import Auto
from edgeprune.passes.criteria.criterion import Criterion, MaskProblem, Quadratic, Saliencies
from edgeprune.passes.criteria.curvature import damped
from edgeprune.passes.criteria.named import criterion_named, saliencies
from edgeprune.passes.finite import check_finite
from edgeprune.passes.layer_inputs import layer_inputs
from edgeprune.passes.least_squares import fit_kept
from edgeprune.passes.loss_meter import LossMeter
from edgeprune.passes.output_costs import fisher_of, output_costs
from edgeprune.passes.prune import check_levels
from edgeprune.passes.statistics import InputMoments
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent

Weighting = Literal["measured", "fisher", "relative"]

ROWS = 256
MEMORY = 1 << 30
"""Fewer rows are looked at where what they hold would take more bytes than this."""
POSITIONS = 8192
WORKERS = 8
"""Layers that are judged at a time: each holds moments that grow with the square of its inputs."""
STEPS = 24
"""Masks are judged here, not used: fewer steps of the optimisation tell levels apart as well."""


def layer_errors(
    model: ir.Model,
    samples: Samples,
    candidates: Mapping[str, Sequence[Level]],
    criterion: str = "auto",
    weighting: Weighting = "measured",
    *,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = silent,
) -> dict[str, tuple[float, ...]]:
    """About how much the loss of `model`, in nats a row, grows when a layer alone goes to each candidate level.

    By layer name, in the order of the candidates. Masks are chosen by `criterion` and the kept weights fitted by
    least squares on the inputs that the layer gets in `model`. With the weighting "fisher" the change dW of its
    weights costs half the sum over output channels c of F_c (dW' H dW)_cc for every output position, H the moments of
    the inputs, and F_c the mean squared gradient of the log-likelihood at that output (the diagonal of the Fisher
    information), so that the errors of different layers may be added. With "measured" some candidates of each layer
    are run through the network, and the estimates of all are scaled to what was found, on a line in logarithms from
    one to the next. With "relative" the error is that of the layer's output relative to the output's power; this
    takes the place of "fisher" where gradients cannot be had (an op that cannot be trained).

    Layers that cannot be fitted get no entry: those with more inputs than have moments. Raises EdgepruneError
    (layer-unknown, not-finite, criterion-unknown).
    """
    check_levels(model, {name: level for name, levels in candidates.items() for level in levels[:1]})
    check_finite(model, samples)
    judge = criterion_named(criterion)
    judge = replace(judge, steps=STEPS) if isinstance(judge, Alps | Auto) else judge
    given = saliencies(model, samples, criterion, seed) if judge.up_front else {}
    measuring = measuring_of(model, len(candidates))
    seen = rows_that_fit(model, min(ROWS, samples.count), MEMORY)
    fisher = fisher_of(model, samples, min(seen, measuring.rows), seed) if weighting != "relative" else None
    meter = LossMeter(model, samples, measuring.rows, threads) if weighting == "measured" else None
    found: dict[str, tuple[float, ...]] = {}
    with threadpool_limits(1, user_api="blas"):
        layers = layer_inputs(model, samples, rows=seen, positions=POSITIONS, seed=seed, threads=threads)
        wanted = (
            _Layer(layer, moments, candidates[layer.name], judge, given, fisher)
            for layer, moments in layers
            if layer.name in candidates
        )
        for layer, trials in ahead(min(threads, WORKERS), _Layer.trials, wanted):
            name, errors = layer.layer.name, np.array([trial.error for trial in trials])
            progress("layer errors", len(found), len(candidates), name)
            if meter is not None:
                errors = layer.measured(trials, meter, measuring.anchors)
            found[name] = filled(layer.levels, errors)
    progress("layer errors", len(candidates), len(candidates), "")
    return found


@dataclass(frozen=True)
class _Trial:
    """A candidate's weights [groups, F, out] and its estimated error."""

    weights: np.ndarray
    error: float


@dataclass(frozen=True)
class _Layer:
    """One layer, what it reads, and how its candidates are judged; `fisher` is that of output channels by name."""

    layer: WeightedLayer
    moments: InputMoments
    levels: Sequence[Level]
    criterion: Criterion
    saliencies: Saliencies
    fisher: Mapping[str, np.ndarray] | None

    def trials(self) -> list[_Trial]:
        """The weights and the estimated error of every level that is looked at."""
        weight = read_weight(self.layer)
        groups, taps, inputs, outputs = weight.shape
        start = weight.reshape(groups, -1, outputs).astype(np.float64)
        second = damped(self.moments.second, self.moments.power)
        quadratic = Quadratic(second, second @ start)
        saliency = self.saliencies.get(self.layer.name)
        scores = None if saliency is None else saliency.reshape(start.shape)
        counts = output_costs(self.layer, start, self.moments.second, self.fisher)
        found = []
        for level in (self.levels[index] for index in looked_at(self.levels)):
            problem = MaskProblem(quadratic, start, self.moments.power, (groups, taps, inputs, outputs), level, scores)
            fitted = _fitted(problem, self.criterion.choose(problem).mask)
            change = fitted - start
            squares = np.sum(change * (self.moments.second @ change), axis=1)
            found.append(_Trial(fitted.astype(np.float32), float(np.sum(counts * squares))))
        return found

    def measured(self, trials: Sequence[_Trial], meter: LossMeter, count: int) -> np.ndarray:
        """The errors of the trials, scaled to what `count` of them cost in the whole network."""
        errors = np.array([trial.error for trial in trials])
        anchors = anchors_of(errors, count)
        layer = next(one for one in meter.layers if one.name == self.layer.name)
        costs = [self._cost(trials[index].weights, layer, meter) for index in anchors]
        return scaled(errors, errors[anchors], np.array(costs))

    def _cost(self, weights: np.ndarray, layer: WeightedLayer, meter: LossMeter) -> float:
        """The loss in the whole network; the bias makes up for the change of the output's mean."""
        weight, bias = read_weight(layer), read_bias(layer)
        if layer.bias is None or bias is None:
            return meter.loss(layer, weights.reshape(weight.shape))
        change = weights - weight.reshape(weights.shape)
        moved = self.moments.mean[:, None, :] @ change
        return meter.loss(layer, weights.reshape(weight.shape), bias - moved.reshape(-1))


def _fitted(problem: MaskProblem, mask: np.ndarray) -> np.ndarray:
    """The best weights inside `mask`, [groups, F, out]."""
    if mask.all():
        return problem.start
    quadratic = problem.quadratic
    parts = zip(quadratic.second, quadratic.cross, mask, problem.start, strict=True)
    return np.stack([fit_kept(*part) for part in parts])
