"""Gives every channel of a pruned network the mean and the variance that it had in the original, without training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from edgeprune.data.samples import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.segments import SegmentedRun
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.passes.calibration_road import CalibrationRoad, rows_that_fit
from edgeprune.passes.finite import check_finite
from edgeprune.passes.observations import Observations, observe
from edgeprune.progress import Progress, silent

HELD_SHARE = 0.25
"""The share of the rows that corrections are judged on."""
HIGHEST_SCALE = 4.0
"""A channel is scaled by this at most, or its inverse: beyond, what is left says little of what was there."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each output channel of a layer, [groups, 1, out]."""

    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True)
class CorrectStatistics:
    """Batch norm's re-estimation and bias correction for networks whose batch norm is folded into the weights.

    Layers go in graph order. The weights of each output channel are scaled, and its bias is shifted, so that its
    outputs have the mean and the variance of the original's (bias correction: Nagel et al., 2019; variance: Jordan
    et al., 2023). A layer keeps both, the shift alone, or nothing: what brings the network's outputs closest to the
    original's on rows that are held back, a quarter of the first `rows` of `samples`, of fewer where their tensors
    would take more than `memory` bytes. At most `positions` output positions of a layer are looked at. Layers without
    a constant bias, and those that share a weight, are left alone.
    """

    samples: Samples
    rows: int = 256
    positions: int = 16384
    memory: int = 1 << 29
    seed: int = 0
    threads: int = 1

    def __call__(self, pruned: ir.Model, original: ir.Model, progress: Progress = silent) -> ir.Model:
        """A corrected copy of `pruned`, which has the nodes of `original`; zeros stay.

        Raises EdgepruneError (not-finite) where weights or inputs hold NaN or infinity.
        """
        count = rows_that_fit(original, min(self.rows, self.samples.count), self.memory)
        held = max(1, int(count * HELD_SHARE))
        check_finite(pruned, self.samples.slice(0, count))
        result = copy_model(pruned)
        with threadpool_limits(self.threads, user_api="blas"):
            road = CalibrationRoad(original, result, self.samples.slice(0, max(1, count - held)), self.threads)
            judge = _Judge(original, result, self.samples.slice(count - held, count), self.threads)
            self._correct_all(weighted_layers(result), road, judge, progress)
        return result

    def _correct_all(
        self, layers: list[WeightedLayer], road: CalibrationRoad, judge: _Judge, progress: Progress
    ) -> None:
        generator = np.random.default_rng(self.seed)
        least, changed = judge.error(), False
        for index, layer in enumerate(layers):
            progress("correcting statistics", index, len(layers), layer.name)
            changed = changed or not np.array_equal(read_weight(layer), road.original_weight(layer))
            if not changed or layer.shared or layer.bias is None or read_bias(layer) is None:
                continue
            observed, _ = observe(layer, *road.reach(layer), positions=self.positions, generator=generator)
            judge.reach(layer)
            least = _correct(layer, observed, judge, least)
        progress("correcting statistics", len(layers), len(layers), "")


class _Judge:
    """How far the outputs of `model` are from the original's on `rows`; layers change in graph order."""

    def __init__(self, original: ir.Model, model: ir.Model, rows: Samples, threads: int) -> None:
        self._wanted = _outputs(original, SegmentedRun(original, rows, threads))
        self._model, self._run = model, SegmentedRun(model, rows, threads)
        self._places = {node.name: index for index, node in enumerate(model.graph)}

    def reach(self, layer: WeightedLayer) -> None:
        """What comes before `layer` stays as it is now."""
        self._run.advance(self._places[layer.node.name])

    def error(self) -> float:
        """The squared distance, relative to the outputs' squares, over all floating-point outputs."""
        found = _outputs(self._model, self._run.branch())
        return float(np.sum([_distance(*pair) for pair in zip(found, self._wanted, strict=True)]))


def _outputs(model: ir.Model, run: SegmentedRun) -> list[np.ndarray]:
    """The floating-point outputs of `model`, of which `run` may have done a part."""
    run.advance(len(model.graph))
    held = [run.held(value) for value in model.graph.outputs]
    return [array.astype(np.float64) for array in held if array is not None and array.dtype.kind == "f"]


def _distance(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sum(np.square(found - wanted)) / max(float(np.sum(np.square(wanted))), 1e-12))


def _correct(layer: WeightedLayer, observed: Observations, judge: _Judge, least: float) -> float:
    """Leave `layer` as it is best by `judge`; the error then, at most `least`."""
    weight, bias = read_weight(layer), read_bias(layer)
    assert bias is not None
    shape = (len(weight), -1, weight.shape[3])
    before = bias.reshape(len(weight), 1, -1)
    found, wanted = _statistics(observed, weight.reshape(shape), before)
    scale = _scale(found, wanted)
    best = weight, bias
    for factor in (scale, np.ones_like(scale)):
        changed = (weight.reshape(shape) * factor).reshape(weight.shape)
        moved = (before - found.mean) * factor + wanted.mean
        write_weight(layer, changed)
        write_bias(layer, moved.reshape(-1))
        error = judge.error()
        if error < least:
            least, best = error, (changed, moved.reshape(-1))
    write_weight(layer, best[0])
    write_bias(layer, best[1])
    return least


def _statistics(observed: Observations, weights: np.ndarray, bias: np.ndarray) -> tuple[Statistics, Statistics]:
    """Of what `weights` [groups, F, out] and `bias` [groups, 1, out] give, and of what is wanted."""
    parts = [(part.outputs(weights, bias), part.targets) for part in observed.chunks()]
    found, wanted = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    return _statistics_of(found), _statistics_of(wanted)


def _statistics_of(outputs: np.ndarray) -> Statistics:
    return Statistics(
        outputs.mean(axis=1, keepdims=True, dtype=np.float64), outputs.std(axis=1, keepdims=True, dtype=np.float64)
    )


def _scale(found: Statistics, wanted: Statistics) -> np.ndarray:
    """Wanted over found deviation; 1 where a channel gives the same everywhere or should."""
    constant = np.minimum(found.deviation, wanted.deviation) <= 1e-6 * np.maximum(found.deviation, wanted.deviation)
    scale = np.divide(wanted.deviation, found.deviation, out=np.ones_like(found.deviation), where=~constant)
    return np.clip(scale, 1 / HIGHEST_SCALE, HIGHEST_SCALE)
