"""What a squared change of each output of a layer costs the whole network, to the second order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.weights import WeightedLayer, output_positions

_SMALLEST = float(np.finfo(np.float32).tiny)


def output_costs(
    layer: WeightedLayer, start: np.ndarray, second: np.ndarray, fisher: Mapping[str, np.ndarray] | None
) -> np.ndarray:
    """The loss of one inference for a unit of squared change of each output, [groups, out].

    Half the diagonal of the Fisher information, from `fisher_of`, times the positions of the output. Where there is
    none, all outputs count alike, relative to their power, with weights `start` [groups, F, out] on inputs of the
    moments `second` [groups, F, F].
    """
    shape = (len(start), start.shape[2])
    found = None if fisher is None else fisher.get(layer.name)
    if found is not None:
        return 0.5 * output_positions(layer) * found.reshape(shape)
    power = float(np.sum(start * (second @ start)))
    return np.full(shape, 0.5 / max(power, _SMALLEST))


def fisher_of(model: ir.Model, samples: Samples, rows: int, seed: int) -> dict[str, np.ndarray] | None:
    """The mean squared gradient at every output channel of each layer; None where the model cannot be trained."""
    from edgeprune.passes.gradients import LossGradients

    try:
        return LossGradients(model, samples, rows=rows, drawn=True, seed=seed).output_squares()
    except EdgepruneError:
        return None
