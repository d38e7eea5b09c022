"""What a network loses when units of a group go, one step after the other, in the order in which it loses least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.dependency import Group
from edgeprune.ir.execute import Session
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.passes.anchors import anchors_of, measuring_of, scaled
from edgeprune.passes.finite import check_finite
from edgeprune.passes.layer_inputs import layer_inputs
from edgeprune.passes.output_costs import fisher_of
from edgeprune.passes.output_loss import output_kind, output_loss
from edgeprune.passes.silence_units import SilenceUnits
from edgeprune.passes.unit_readers import Reader, readers_of
from edgeprune.passes.unit_scores import unit_scores
from edgeprune.progress import Progress, silent

ROWS = 256
POSITIONS = 8192


@dataclass(frozen=True)
class UnitErrors:
    """The units of a group in the order in which they go, [size], and the loss once so many steps of them are gone.

    `errors` [steps + 1], nats a row, ascend from 0; the last units of a group of several have none, for one step stays.
    """

    order: np.ndarray
    errors: np.ndarray


def unit_errors(
    model: ir.Model,
    samples: Samples,
    steps: Mapping[str, tuple[Group, int]],
    worth: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = silent,
) -> dict[str, UnitErrors]:
    """The errors of every group of `steps`: by name, the group and how many of its units go at a time.

    Where layers read the units, those go whose loss the readers can best make up for: the next is the one that costs
    their outputs least once the weights that are left are fitted again (Optimal Brain Surgeon, Hassibi and Stork 1992,
    for whole units, as in Kurtic et al. 2023, "ZipLM"), every output counted by its Fisher information. Other units go
    by `worth`, saliencies by layer name [groups, taps, in, out]. Some steps are then run through the network, the
    units silenced and their readers fitted, and the estimates of all are scaled to what was found.

    Raises EdgepruneError: not-finite, saliency-missing.
    """
    check_finite(model, samples)
    measuring = measuring_of(model, 2 * len(steps))
    meter = _Meter(model, samples.slice(0, measuring.rows), measuring.anchors, threads)
    fisher = fisher_of(model, samples, ROWS, seed)
    wanted = {each.node for group, _ in steps.values() for each in group.slices if each.role == "in"}
    seen = layer_inputs(model, samples, rows=ROWS, positions=POSITIONS, seed=seed, threads=threads)
    moments = {layer.name: moments for layer, moments in seen if layer.name in wanted}
    layers = {layer.name: layer for layer in weighted_layers(model)}
    found = {}
    for index, (name, (group, step)) in enumerate(steps.items()):
        progress("judging units", index, len(steps), name)
        readers = readers_of(group, layers, moments, fisher)
        if readers:
            found[name] = _fitted(group, step, readers, meter)
        else:
            found[name] = _by_worth(group, step, unit_scores(model, group, worth), meter)
    progress("judging units", len(steps), len(steps), "")
    return found


class _Meter:
    """Runs the network without some units; `loss` is in nats a row."""

    def __init__(self, model: ir.Model, samples: Samples, anchors: int, threads: int) -> None:
        self._model, self._samples, self._threads = model, samples, threads
        self.anchors = anchors
        self._kind = output_kind(model, samples)
        self._wanted = Session(model).run_rows(samples, threads)

    def loss(self, group: Group, gone: np.ndarray, readers: Sequence[Reader]) -> float:
        kept = np.setdiff1d(np.arange(group.size), gone)
        silenced = SilenceUnits({group.name: kept})(self._model)
        layers = {layer.name: layer for layer in weighted_layers(silenced)}
        for reader in readers:
            _refit(layers[reader.layer.name], reader)
        return output_loss(self._kind, Session(silenced).run_rows(self._samples, self._threads), self._wanted)


def _refit(layer: WeightedLayer, reader: Reader) -> None:
    """Give `layer` the reader's fitted weights; the bias makes up for the change of the output's mean."""
    weight, bias = read_weight(reader.layer), read_bias(reader.layer)
    change = reader.weights - weight.reshape(reader.weights.shape)
    write_weight(layer, reader.weights.reshape(weight.shape).astype(np.float32))
    if layer.bias is not None and bias is not None:
        write_bias(layer, bias - (reader.mean @ change).astype(np.float32))


def _fitted(group: Group, step: int, readers: Sequence[Reader], meter: _Meter) -> UnitErrors:
    """Units that their readers make up for: two walks, the first to see which steps to measure in the second."""
    order, estimates = _walk(group, step, readers)
    anchors = anchors_of(estimates, meter.anchors)
    again, costs = [reader.anew() for reader in readers], {}
    for count in range(1, len(estimates)):
        units = order[(count - 1) * step : count * step]
        for reader in again:
            reader.remove(units)
        if count in anchors:
            costs[count] = meter.loss(group, order[: count * step], again)
    return UnitErrors(order, scaled(estimates, estimates[anchors], np.array([costs[each] for each in anchors])))


def _walk(group: Group, step: int, readers: Sequence[Reader]) -> tuple[np.ndarray, np.ndarray]:
    """The order of the units, and the estimated loss after every step."""
    left, order, errors = np.arange(group.size), np.zeros(0, np.int64), [0.0]
    while len(left) > step:
        costs = sum((reader.costs(left) for reader in readers), np.zeros(len(left)))
        units = left[np.argsort(costs, kind="stable")[:step]]
        errors.append(errors[-1] + sum(reader.remove(units) for reader in readers))
        order, left = np.concatenate([order, units]), np.setdiff1d(left, units)
    return np.concatenate([order, left]), np.maximum.accumulate(np.array(errors))


def _by_worth(group: Group, step: int, worth: np.ndarray, meter: _Meter) -> UnitErrors:
    """Units in the order of their worth, which is scaled to what some steps were found to cost."""
    found = by_scores(worth, step)
    anchors = anchors_of(found.errors, meter.anchors)
    costs = [meter.loss(group, found.order[: count * step], ()) for count in anchors]
    return UnitErrors(found.order, scaled(found.errors, found.errors[anchors], np.array(costs)))


def by_scores(scores: np.ndarray, step: int) -> UnitErrors:
    """Units in the order of their `scores` [size], lowest first; errors are the sums of what is gone."""
    order = np.argsort(scores, kind="stable")
    ends = np.arange(1, len(order) // step - (len(order) > 1) + 1) * step
    sums = np.cumsum(np.maximum(scores[order], 0.0, dtype=np.float64))
    return UnitErrors(order, np.concatenate([[0.0], sums[ends - 1]]))
