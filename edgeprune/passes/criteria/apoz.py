"""Weights matter by how often what they read, and the unit that they write, is not zero.

After Hu et al. 2016, "Network trimming" (the average percentage of zeros, APoZ, of a unit's outputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers
from edgeprune.passes.criteria.criterion import ByScore
from edgeprune.passes.layer_inputs import calibration_run

_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Gelu", "Elu")


@dataclass(frozen=True)
class Apoz(ByScore):
    """The size of a weight times the shares of nonzero values at its input and of its unit.

    The paper ranks whole units by the share alone; the size tells the weights of one unit apart.
    """

    rows: int = 128

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """|w| times both shares, over the rows and positions of a channel. A unit's outputs are those of the
        activation where one alone reads it."""
        layers = weighted_layers(model)
        read = [layer.node.inputs[0] for layer in layers]
        written = [_activated(layer.node.outputs[0]) for layer in layers]
        axes = {
            str(value.name): _axis(layer) for layer, value in zip(layers * 2, [*read, *written], strict=True) if value
        }
        shares = self._shares(model, samples, axes)
        found = {}
        for layer, source, result in zip(layers, read, written, strict=True):
            weight = read_weight(layer)
            groups, _, inputs, outputs = weight.shape
            before = shares[str(source.name)].reshape(groups, 1, inputs, 1) if source is not None else 1.0
            after = shares[str(result.name)].reshape(groups, 1, 1, outputs)
            found[layer.name] = (np.abs(weight) * before * after).astype(np.float32)
        return found

    def _shares(self, model: ir.Model, samples: Samples, axes: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The share of nonzero values in every channel of the values named in `axes`, with the axis of channels."""
        nodes = list(model.graph)
        stops = [index + 1 for index, node in enumerate(nodes) if any(out.name in axes for out in node.outputs)]
        run = calibration_run(model, samples, stops, self.rows)
        found = {
            str(value.name): _share(run.held(value), axes[str(value.name)])
            for value in model.graph.inputs
            if value.name in axes
        }
        for stop in stops:
            run.advance(stop)
            for value in nodes[stop - 1].outputs:
                if value.name in axes:
                    found[str(value.name)] = _share(run.held(value), axes[str(value.name)])
        return found


def _share(rows: np.ndarray | None, axis: int) -> np.ndarray:
    assert rows is not None
    others = tuple(index for index in range(rows.ndim) if index != axis % rows.ndim)
    return np.asarray((rows != 0).mean(axis=others))


def _axis(layer: WeightedLayer) -> int:
    """Where channels are in rows of what the layer reads and writes."""
    return -1 if layer.kind == "linear" else 2


def _activated(value: ir.Value) -> ir.Value:
    """What an activation that alone reads `value` makes of it, else `value`."""
    uses = [usage.node for usage in value.uses()]
    alone = len(uses) == 1 and uses[0].op_type in _ACTIVATIONS and not value.is_graph_output()
    return uses[0].outputs[0] if alone else value
