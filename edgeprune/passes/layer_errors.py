"""What pruning a layer to each of several levels would cost, estimated layer by layer on the dense network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.weights import WeightedLayer, output_positions, read_bias, read_weight, weighted_layers
from edgeprune.passes.criteria.alps import Alps
from edgeprune.passes.criteria.auto import Auto
from edgeprune.passes.criteria.criterion import Criterion, MaskProblem, Quadratic, Saliencies
from edgeprune.passes.criteria.curvature import damped
from edgeprune.passes.criteria.named import criterion_named, saliencies
from edgeprune.passes.finite import check_finite
from edgeprune.passes.layer_inputs import layer_inputs
from edgeprune.passes.least_squares import fit_kept
from edgeprune.passes.loss_meter import LossMeter
from edgeprune.passes.prune import check_levels
from edgeprune.passes.statistics import InputMoments
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent

Weighting = Literal["measured", "fisher", "relative"]

ROWS = 256
POSITIONS = 8192
STEPS = 40
"""Masks are judged here, not used: fewer steps of the optimisation tell levels apart as well."""

_SMALLEST = float(np.finfo(np.float32).tiny)

MEASURED_ROWS = 256
MEASURED_WORK = 4e12
"""Candidates are measured on fewer rows where these would take more multiply-accumulates."""
ANCHORS = 3
"""Of each layer's candidates so many are measured; the others go by these."""


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
    weights = _fisher(model, samples, seed) if weighting != "relative" else None
    rows = _measured_rows(model, len(candidates))
    meter = LossMeter(model, samples, rows, threads) if weighting == "measured" else None
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
            for layer, trials in zip(part, pool.map(_Layer.trials, part), strict=True):
                errors = [trial.error for trial in trials]
                found[layer.layer.name] = tuple(errors if meter is None else layer.measured(trials, meter))
    progress("layer errors", len(candidates), len(candidates), "")
    return found


@dataclass(frozen=True)
class _Trial:
    """A candidate's weights [groups, F, out] and its estimated error."""

    weights: np.ndarray
    error: float


@dataclass(frozen=True)
class _Layer:
    """One layer, what it reads, and how its candidates are judged; `weights` are those of output channels by name."""

    layer: WeightedLayer
    moments: InputMoments
    levels: Sequence[Level]
    criterion: Criterion
    saliencies: Saliencies
    weights: Mapping[str, np.ndarray] | None

    def trials(self) -> list[_Trial]:
        """The weights and the estimated error of every level."""
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
            fitted = _fitted(problem, self.criterion.choose(problem).mask)
            change = fitted - start
            squares = np.sum(change * (self.moments.second @ change), axis=1)
            found.append(_Trial(fitted.astype(np.float32), float(np.sum(counts * squares))))
        return found

    def measured(self, trials: Sequence[_Trial], meter: LossMeter) -> list[float]:
        """The errors of the trials, scaled to what a few of them cost in the whole network."""
        errors = np.array([trial.error for trial in trials])
        anchors = anchors_of(errors)
        layer = next(one for one in meter.layers if one.name == self.layer.name)
        costs = [self._cost(trials[index].weights, layer, meter) for index in anchors]
        return [float(error) for error in scaled(errors, errors[anchors], np.array(costs))]

    def _cost(self, weights: np.ndarray, layer: WeightedLayer, meter: LossMeter) -> float:
        """The loss in the whole network; the bias makes up for the change of the output's mean."""
        weight, bias = read_weight(layer), read_bias(layer)
        if layer.bias is None or bias is None:
            return meter.loss(layer, weights.reshape(weight.shape))
        change = weights - weight.reshape(weights.shape)
        moved = self.moments.mean[:, None, :] @ change
        return meter.loss(layer, weights.reshape(weight.shape), bias - moved.reshape(-1))

    def _output_weights(self, start: np.ndarray) -> np.ndarray:
        """What a squared change of each output of one inference costs, [groups, out]."""
        shape = (len(start), start.shape[2])
        fisher = None if self.weights is None else self.weights.get(self.layer.name)
        if fisher is not None:
            return 0.5 * output_positions(self.layer) * fisher.reshape(shape)
        power = float(np.sum(start * (self.moments.second @ start)))
        return np.full(shape, 0.5 / max(power, _SMALLEST))


def anchors_of(errors: np.ndarray) -> np.ndarray:
    """Which candidates to measure: at most ANCHORS of those that cost something, spread evenly from the largest on."""
    ranked = np.argsort(errors, kind="stable")
    ranked = ranked[errors[ranked] > 0]
    places = np.linspace(len(ranked) - 1, len(ranked) / (2 * ANCHORS), ANCHORS).round().astype(int)
    return ranked[np.unique(places)] if len(ranked) else ranked


def scaled(errors: np.ndarray, anchors: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Estimates scaled so that those of `anchors` (ascending) become their `costs`, made to ascend too.

    In between on a line in logarithms; beyond the ends in proportion. Zero stays zero.
    """
    usable = costs > _SMALLEST
    if not usable.any():
        return errors
    known, level = np.log(anchors[usable]), np.log(np.maximum.accumulate(costs[usable]))
    result = np.zeros(len(errors))
    positive = errors > 0
    logarithms = np.log(errors[positive])
    beyond = logarithms - np.clip(logarithms, known[0], known[-1])
    result[positive] = np.exp(np.interp(logarithms, known, level) + beyond)
    return result


def _measured_rows(model: ir.Model, count: int) -> int:
    """On how many rows the candidates of `count` layers are measured; what comes after a layer is half the network."""
    layers = weighted_layers(model)
    work = float(sum(read_weight(layer).size * output_positions(layer) for layer in layers))
    return min(MEASURED_ROWS, max(32, int(MEASURED_WORK / max(1.0, work * ANCHORS * count / 2))))


def _fitted(problem: MaskProblem, mask: np.ndarray) -> np.ndarray:
    """The best weights inside `mask`, [groups, F, out]."""
    if mask.all():
        return problem.start
    quadratic = problem.quadratic
    parts = zip(quadratic.second, quadratic.cross, mask, problem.start, strict=True)
    return np.stack([fit_kept(*part) for part in parts])


def _fisher(model: ir.Model, samples: Samples, seed: int) -> dict[str, np.ndarray] | None:
    """The mean squared gradient at every output channel of each layer; None where the model cannot be trained."""
    from edgeprune.passes.gradients import LossGradients

    try:
        return LossGradients(model, samples, rows=ROWS, drawn=True, seed=seed).output_squares()
    except EdgepruneError:
        return None
