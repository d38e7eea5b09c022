"""The moments of what every layer of a network reads, without changing the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.segments import SegmentedRun, peak_bytes
from edgeprune.ir.weights import WeightedLayer, read_bias, weighted_layers
from edgeprune.passes.finite import require_finite
from edgeprune.passes.observations import observe_inputs
from edgeprune.passes.statistics import InputMoments, moments_of

LARGEST = 4608
"""Layers with more inputs to one output have no moments here: they grow squared."""


def layer_inputs(
    model: ir.Model,
    samples: Samples,
    *,
    rows: int = 256,
    positions: int = 8192,
    memory: int = 1 << 30,
    seed: int = 0,
    threads: int = 1,
) -> Iterator[tuple[WeightedLayer, InputMoments]]:
    """Every layer with weights in graph order, with the moments of its inputs on the first `rows` rows.

    At most `positions` output positions of a layer are used, and fewer rows where their tensors would take more than
    `memory` bytes. The moments are centred where the layer has a constant bias. Layers with more than LARGEST inputs
    to one output are left out. Raises EdgepruneError (not-finite) where inputs of a layer are not finite.
    """
    layers = weighted_layers(model)
    places = {node.name: index for index, node in enumerate(model.graph)}
    run = calibration_run(model, samples, [places[layer.node.name] for layer in layers], rows, memory, threads)
    generator = np.random.default_rng(seed)
    for layer in layers:
        run.advance(places[layer.node.name])
        inputs = run.held(layer.node.inputs[0])
        assert inputs is not None
        require_finite(inputs, f"the inputs of node '{layer.name}'", f"node {layer.name}")
        seen = observe_inputs(layer, inputs, positions=positions, generator=generator)
        if seen.shape[2] <= LARGEST:
            yield layer, moments_of(seen, centred=layer.bias is not None and read_bias(layer) is not None)


def calibration_run(
    model: ir.Model, samples: Samples, stops: Sequence[int], rows: int, memory: int = 1 << 30, threads: int = 1
) -> SegmentedRun:
    """A run of the first `rows` rows, of fewer where their tensors would take more than `memory` bytes at a stop."""
    fitting = max(1, memory // max(1, peak_bytes(model, [0, *stops])))
    return SegmentedRun(model, samples.slice(0, min(rows, samples.count, fitting)), threads)
