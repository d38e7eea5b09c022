"""Rounds weights and shifts biases layer by layer, from what the quantized layers before give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from edgeprune.data.samples import Samples
from edgeprune.ir.edit import new_constant
from edgeprune.ir.segments import peak_bytes
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.passes.fit import LayerFit, LayerMoments, Solution
from edgeprune.passes.observations import Observations, observe
from edgeprune.passes.quantize.road import QuantizedRoad
from edgeprune.passes.quantize.rounding import OPERATIONS, operations, round_together
from edgeprune.passes.quantize.weights import IntegerWeight, least_squares_scale, nearest, widened
from edgeprune.progress import Progress, silent

ROUNDINGS = ("auto", "nearest", "obq")
"""How weights are rounded: auto takes what has the lower error of the layer on rows that are held back."""

LARGEST_INPUTS = 4608
MOMENT_OPERATIONS = 5e10
MEMORY = 1 << 30


@dataclass(frozen=True)
class Reconstruct:
    """Choose the integers of every layer in graph order, from the inputs that the rounded layers before it give.

    With "obq" the kept weights first move to what gives the float network's outputs from these inputs (least squares,
    held by `damping`), then each is rounded so that the others make up for it. Zeros stay. With `correct_bias` the
    mean error of each output channel goes into the bias (Nagel et al. 2019, section 4.2), where the layer has one.
    """

    rounding: str = "auto"
    correct_bias: bool = True
    rows: int = 256
    positions: int = 16384
    damping: float = 0.01
    seed: int = 0
    threads: int = 1

    def __call__(
        self,
        original: ir.Model,
        rounded: ir.Model,
        scales: Mapping[str, float],
        samples: Samples,
        progress: Progress = silent,
    ) -> dict[str, IntegerWeight]:
        """By layer name, the integers; `rounded` gets the weights and biases that they stand for, in place.

        `rounded` is `original` with pairs of Q and DQ; `scales` are those of the inputs of the layers to round.
        """
        found: dict[str, IntegerWeight] = {}
        generator = np.random.default_rng(self.seed)
        layers = [layer for layer in weighted_layers(rounded) if layer.name in scales and not layer.shared]
        with threadpool_limits(self.threads, user_api="blas"):
            rows = samples.slice(0, self._rows(original, samples))
            road = QuantizedRoad(original, rounded, rows, self.threads)
            for index, layer in enumerate(layers):
                progress("rounding", index, len(layers), layer.name)
                observed = observe(layer, *road.reach(layer), positions=self._positions(layer), generator=generator)
                chosen, bias = self._choose(layer, scales[layer.name], *observed)
                found[layer.name] = chosen
                _put(layer, chosen, bias, scales[layer.name])
        progress("rounding", len(layers), len(layers), "")
        return found

    def _rows(self, original: ir.Model, samples: Samples) -> int:
        stops = [index + 1 for index, node in enumerate(original.graph) if node.op_type in ("Conv", "Gemm", "MatMul")]
        return max(1, min(self.rows, samples.count, MEMORY // (2 * max(1, peak_bytes(original, [0, *stops])))))

    def _positions(self, layer: WeightedLayer) -> int:
        groups, taps, inputs, _ = read_weight(layer).shape
        return min(self.positions, max(256, int(MOMENT_OPERATIONS / (groups * (taps * inputs) ** 2))))

    def _choose(
        self, layer: WeightedLayer, input_scale: float, observed: Observations, judge: Observations
    ) -> tuple[IntegerWeight, np.ndarray]:
        """The integers, and the bias [groups, 1, out], of the candidate with the least error on `judge`."""
        candidates = self._candidates(layer, input_scale, observed)
        errors = [judge.error(_flat(weight.real()), bias) for weight, bias in candidates]
        return candidates[int(np.argmin(errors))]

    def _candidates(
        self, layer: WeightedLayer, input_scale: float, observed: Observations
    ) -> list[tuple[IntegerWeight, np.ndarray]]:
        weight, bias = read_weight(layer), read_bias(layer)
        fixed = bias is None or layer.bias is None
        start = Solution(
            _flat(weight).astype(np.float64),
            np.zeros((len(weight), 1, weight.shape[3])) if bias is None else _rows_of(bias, weight).astype(np.float64),
        )
        centred = self.correct_bias and not fixed
        rounder = _Rounder(weight, start, observed, centred, input_scale)
        found = []
        if self.rounding != "obq" or not self._fits(weight):
            found += rounder.to_nearest()
        if self.rounding != "nearest" and self._fits(weight):
            problem = LayerFit(start.weights, start.bias, observed, centred, self.damping)
            found += rounder.together(problem, problem.moments())
        return found

    def _fits(self, weight: np.ndarray) -> bool:
        if weight.shape[1] * weight.shape[2] > LARGEST_INPUTS:
            return False
        return sum(operations(mask) for mask in _flat(weight) != 0) <= OPERATIONS


@dataclass(frozen=True)
class _Rounder:
    """Rounds the weights of one layer; with `centred` the bias makes up for the change of the mean."""

    weight: np.ndarray
    start: Solution
    observed: Observations
    centred: bool
    input_scale: float

    def to_nearest(self) -> list[tuple[IntegerWeight, np.ndarray]]:
        """With the bias as it is, and with the bias that has the right mean."""
        power = np.mean(np.square(self.observed.inputs, dtype=np.float64), axis=1).reshape(*self.weight.shape[:3], 1)
        scale = widened(least_squares_scale(self.weight, power + 1e-12), self.start.bias, self.input_scale)
        chosen = nearest(self.weight, scale)
        found = [(chosen, self.start.bias)]
        return [*found, (chosen, self._corrected(chosen))] if self.centred else found

    def together(self, problem: LayerFit, moments: LayerMoments) -> list[tuple[IntegerWeight, np.ndarray]]:
        """From the weights as they are, and from the weights that fit the rounded inputs best."""
        mask = self.start.weights != 0
        fitted = problem.solve(moments, mask)
        power = moments.seen.power.reshape(*self.weight.shape[:3], 1) + 1e-12
        found = []
        for weights in (self.start.weights, fitted.weights):
            shaped = weights.reshape(self.weight.shape)
            scale = widened(least_squares_scale(shaped, power), self.start.bias, self.input_scale)
            whole = [
                round_together(weights[group], moments.second[group], scale[group].reshape(-1), mask[group])
                for group in range(len(weights))
            ]
            chosen = IntegerWeight(np.stack(whole).reshape(self.weight.shape).astype(np.float32), scale)
            found.append((chosen, self._corrected(chosen) if self.centred else self.start.bias))
        return found

    def _corrected(self, chosen: IntegerWeight) -> np.ndarray:
        """The bias [groups, 1, out] with which the mean of the outputs is that of the targets."""
        weights = _flat(chosen.real())
        if self.observed.floor is None:
            apart = self.observed.targets.mean(axis=1, keepdims=True, dtype=np.float64)
            return np.asarray(apart - self.observed.inputs.mean(axis=1, keepdims=True, dtype=np.float64) @ weights)
        bias = self.start.bias
        for _ in range(3):
            attainable = self.observed.attainable(weights, bias)
            bias = bias + (attainable - self.observed.outputs(weights, bias)).mean(axis=1, keepdims=True)
        return bias


def add_bias(layer: WeightedLayer) -> None:
    """Give a Conv or Gemm without a bias one of zeros, so that it can be corrected."""
    graph = layer.node.graph
    if layer.node.op_type == "MatMul" or layer.bias is not None:
        return
    assert isinstance(graph, ir.Graph)
    weight = read_weight(layer)
    zeros = new_constant(graph, f"{layer.weight.name}_bias", np.zeros(weight.shape[0] * weight.shape[3], np.float32))
    layer.node.resize_inputs(3)
    layer.node.replace_input_with(2, zeros)


def _put(layer: WeightedLayer, chosen: IntegerWeight, bias: np.ndarray, input_scale: float) -> None:
    """Give `layer` the real numbers that its integers stand for."""
    write_weight(layer, chosen.real())
    if layer.bias is not None and read_bias(layer) is not None:
        step = np.float32(input_scale) * chosen.scale.reshape(-1)
        write_bias(layer, np.rint(bias.reshape(-1) / step).astype(np.float64) * step)


def _flat(weight: np.ndarray) -> np.ndarray:
    """[groups, taps, in, out] as [groups, F, out]."""
    return weight.reshape(len(weight), -1, weight.shape[3])


def _rows_of(bias: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return bias.reshape(len(weight), 1, -1)
