"""Measures what a change of one layer's weights does to the outputs of the whole network."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.weights import WeightedLayer, read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.passes.layer_inputs import calibration_run
from edgeprune.passes.output_loss import output_kind, output_loss


class LossMeter:
    """Runs what comes after a layer with other weights in it; layers are visited in graph order."""

    def __init__(self, model: ir.Model, samples: Samples, rows: int, threads: int = 1) -> None:
        self._model = copy_model(model)
        self._kind = output_kind(model, samples)
        self._places = {node.name: index for index, node in enumerate(model.graph)}
        self.layers = weighted_layers(self._model)
        stops = [self._places[layer.node.name] for layer in self.layers]
        self._run = calibration_run(self._model, samples, stops, rows, threads=threads)
        self._wanted = self._outputs()

    def loss(self, layer: WeightedLayer, weight: np.ndarray, bias: np.ndarray | None = None) -> float:
        """The loss in nats a row (see `output_loss`) with `weight` [groups, taps, in, out] and `bias` [channels].

        `layer` is one of `layers`, not before the last one asked about. The model has its own weights afterwards.
        """
        self._run.advance(self._places[layer.node.name])
        before, before_bias = read_weight(layer), read_bias(layer)
        write_weight(layer, weight)
        if bias is not None:
            write_bias(layer, bias)
        found = self._outputs()
        write_weight(layer, before)
        if bias is not None and before_bias is not None:
            write_bias(layer, before_bias)
        return output_loss(self._kind, found, self._wanted)

    def _outputs(self) -> dict[str, np.ndarray]:
        run = self._run.branch()
        run.advance(len(self._places))
        held = {str(value.name): run.held(value) for value in self._model.graph.outputs}
        return {name: rows for name, rows in held.items() if rows is not None}
