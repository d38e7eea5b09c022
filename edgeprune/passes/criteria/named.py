"""Criteria by the names that a user gives them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.options import CRITERIA
from edgeprune.passes.criteria.criterion import Criterion

_CLASSES = {
    "auto": "auto:Auto",
    "magnitude": "magnitude:Magnitude",
    "wanda": "wanda:Wanda",
    "apoz": "apoz:Apoz",
    "taylor": "taylor:Taylor",
    "taylor2": "taylor2:Taylor2",
    "fisher": "fisher:Fisher",
    "ablation": "ablation:Ablation",
    "batchnorm": "batchnorm:BatchNorm",
    "sparsegpt": "sparsegpt:SparseGpt",
    "obs": "obs:Obs",
    "alps": "alps:Alps",
}
"""The module in this package and the class in it; a module is imported when its criterion is asked for."""


def criterion_named(name: str) -> Criterion:
    """The criterion called `name`, one of options.CRITERIA. Raises EdgepruneError (criterion-unknown, usage)."""
    if name not in _CLASSES:
        what = f"'{name}' is not a criterion"
        hint = nearest(name, CRITERIA)
        raise EdgepruneError("criterion-unknown", what, where="--criterion", hint=hint, exit_code=2)
    module, _, kind = _CLASSES[name].partition(":")
    found = getattr(importlib.import_module(f"edgeprune.passes.criteria.{module}"), kind)
    return cast(Callable[[], Criterion], found)()


def saliencies(model: ir.Model, samples: Samples, criterion: str, seed: int = 0) -> dict[str, np.ndarray]:
    """How much every weight of every layer matters to the criterion of that name: [groups, taps, in, out] by layer.

    For `global_levels(scores=...)`, or to sum over what a unit owns. Layers that the criterion cannot judge (too
    many inputs for their moments) go by squared weights. Raises EdgepruneError (criterion-unknown, not-finite).
    """
    found = criterion_named(criterion).saliencies(model, samples, seed)
    return {
        layer.name: found[layer.name] if layer.name in found else read_weight(layer) ** 2
        for layer in weighted_layers(model)
    }
