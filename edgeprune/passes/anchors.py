"""Estimated errors are scaled to what a few of the candidates cost in the whole network."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.weights import output_positions, read_weight, weighted_layers

ANCHORS = 3
"""Of each set of candidates so many are measured; the others go by these."""

MEASURED_ROWS = 256
MEASURED_WORK = 4e12
"""Candidates are measured on fewer rows where these would take more multiply-accumulates."""

_SMALLEST = float(np.finfo(np.float32).tiny)


def anchors_of(errors: np.ndarray) -> np.ndarray:
    """Which candidates to measure: at most ANCHORS of those that cost something, spread evenly from the largest on."""
    ranked = np.argsort(errors, kind="stable")
    ranked = ranked[errors[ranked] > 0]
    places = np.linspace(len(ranked) - 1, len(ranked) / (2 * ANCHORS), ANCHORS).round().astype(int)
    return ranked[np.unique(places)] if len(ranked) else ranked


def scaled(errors: np.ndarray, anchors: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Estimates scaled so that those of `anchors` (ascending) become their `costs`, made to ascend too.

    In between on a line in logarithms; beyond the ends in proportion. Zero stays zero.
    """
    usable = costs > _SMALLEST
    if not usable.any():
        return errors
    known, level = np.log(anchors[usable]), np.log(np.maximum.accumulate(costs[usable]))
    result = np.zeros(len(errors))
    positive = errors > 0
    logarithms = np.log(errors[positive])
    beyond = logarithms - np.clip(logarithms, known[0], known[-1])
    result[positive] = np.exp(np.interp(logarithms, known, level) + beyond)
    return result


def measured_rows(model: ir.Model, count: int) -> int:
    """On how many rows the candidates of `count` layers are measured; what comes after a layer is half the network."""
    layers = weighted_layers(model)
    work = float(sum(read_weight(layer).size * output_positions(layer) for layer in layers))
    return min(MEASURED_ROWS, max(32, int(MEASURED_WORK / max(1.0, work * ANCHORS * count / 2))))
