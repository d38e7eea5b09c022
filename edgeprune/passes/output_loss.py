"""What the outputs of a model are, and how far other outputs are from them, as a loss of log-likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples

_SMALLEST = 1e-9


@dataclass(frozen=True)
class OutputKind:
    """What outputs say: the first is a distribution over `classes` along its last axis, or all are measured values.

    With `probabilities` a distribution is given as such, else by its logits. `labelled` says whether there is a
    class number for every row.
    """

    outputs: tuple[str, ...]
    classes: bool
    probabilities: bool
    labelled: bool


def output_kind(model: ir.Model, samples: Samples) -> OutputKind:
    """Classes where the first output ends in a Softmax, or where every row of `samples` has a class number of it."""
    values = [value for value in model.graph.outputs if value.dtype is not None and value.dtype.is_floating_point()]
    producer = values[0].producer()
    probabilities = producer is not None and producer.op_type == "Softmax"
    labelled = _labelled(samples.labels, values[0])
    return OutputKind(tuple(str(value.name) for value in values), probabilities or labelled, probabilities, labelled)


def _labelled(labels: np.ndarray | None, output: ir.Value) -> bool:
    shape = None if output.shape is None else tuple(output.shape)
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or not shape:
        return False
    if any(size != 1 for size in shape[:-1]) or not isinstance(shape[-1], int) or shape[-1] < 2:
        return False
    return bool(labels.min() >= 0 and labels.max() < shape[-1])


def output_loss(kind: OutputKind, found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """How much less likely `found` makes what `wanted` expects, in nats a row; both by output name, rows first.

    For classes the divergence of the distributions; else half the squared difference over the mean square of what is
    wanted (a normal distribution of that variance), summed over the values of a row.
    """
    if kind.classes:
        name = kind.outputs[0]
        after, before = (_log_probabilities(kind, table[name]) for table in (found, wanted))
        return float(np.sum(np.exp(before) * (before - after)) / len(before))
    total = 0.0
    for name in kind.outputs:
        apart = np.asarray(found[name], np.float64) - wanted[name]
        scale = max(float(np.mean(np.square(wanted[name], dtype=np.float64))), _SMALLEST)
        total += float(np.sum(np.square(apart))) / (2 * scale * max(1, len(apart)))
    return total


def _log_probabilities(kind: OutputKind, output: np.ndarray) -> np.ndarray:
    scores = np.asarray(output, np.float64)
    if kind.probabilities:
        scores = np.log(np.maximum(scores, _SMALLEST))
    scores = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))
