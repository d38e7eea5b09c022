"""Refuses weights and inputs that hold NaN or infinity before work is spent on them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.weights import read_bias, read_weight, weighted_layers


def check_finite(model: ir.Model, samples: Samples) -> None:
    """Raise EdgepruneError (not-finite) where a weight, a bias or a calibration input is NaN or infinite.

    Constants that no convolution or linear layer holds may be infinite, as in the mask of an attention, but not NaN.
    """
    for layer in weighted_layers(model):
        require_finite(read_weight(layer), f"the weight of node '{layer.name}'", f"node {layer.name}", WEIGHTS)
        bias = read_bias(layer)
        if bias is not None:
            require_finite(bias, f"the bias of node '{layer.name}'", f"node {layer.name}", WEIGHTS)
    for node in model.graph:
        for value in node.inputs:
            held = None if value is None else value.const_value
            if held is not None and held.dtype.is_floating_point() and np.isnan(held.numpy()).any():
                raise _not_finite(f"constant '{held.name}' of node '{node.name}'", "NaN", f"node {node.name}", WEIGHTS)
    for name, array in samples.inputs.items():
        _check_rows(name, array)


WEIGHTS = "export a sound checkpoint: this one was saved after its training diverged, or is damaged"
INPUTS = "mend or leave out these rows of the data"
VALUES = "the network itself makes these values from its inputs: check its weights and the [preprocess] of the card"


def require_finite(array: np.ndarray, what: str, where: str, hint: str = VALUES) -> None:
    """Raise EdgepruneError (not-finite) where `array` holds NaN or infinity; `what` names it in the message."""
    if not np.isfinite(array).all():
        raise _not_finite(what, "NaN" if np.isnan(array).any() else "infinite values", where, hint)


def _check_rows(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    values = "NaN" if np.isnan(array[bad[0]]).any() else "infinite values"
    rows = f"row {bad[0]}" if len(bad) == 1 else f"{len(bad)} rows, the first of them row {bad[0]},"
    raise _not_finite(f"input '{name}', {rows} of the calibration data", values, f"input '{name}'", INPUTS)


def _not_finite(what: str, values: str, where: str, hint: str) -> EdgepruneError:
    verb = "hold" if what.startswith("the inputs") else "holds"
    return EdgepruneError("not-finite", f"{what} {verb} {values}", where=where, hint=hint)
