"""Saliencies from the second moments of a layer's inputs, shared by the criteria that look at curvature."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.weights import read_weight
from edgeprune.passes.layer_inputs import layer_inputs

DAMPING = 0.01
"""The ridge, as a share of the mean input power, that makes moments positive definite."""


def damped(second: np.ndarray, power: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """Moments [groups, F, F] with a ridge of `damping` times the mean `power` [groups, F] of the inputs."""
    ridge = damping * float(power.mean()) + float(np.finfo(np.float32).tiny)
    return second + ridge * np.eye(second.shape[1])


def single_saliencies(model: ir.Model, samples: Samples, seed: int) -> dict[str, np.ndarray]:
    """What the layer's output changes by when one weight goes and the others make up for it: w^2 / (H^-1)_jj.

    H are the moments of the layer's inputs (Hassibi and Stork 1992, "Second order derivatives for network pruning").
    Layers with too many inputs to one output are left out.
    """
    found = {}
    for layer, moments in layer_inputs(model, samples, seed=seed):
        weight = read_weight(layer)
        inverse = np.linalg.inv(damped(moments.second, moments.power))
        freed = np.diagonal(inverse, axis1=1, axis2=2).reshape(*weight.shape[:3], 1)
        found[layer.name] = (weight**2 / freed).astype(np.float32)
    return found
