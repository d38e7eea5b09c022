"""Metrics: one number for how good a model's outputs are, and how much of it a change costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.errors import EdgepruneError, nearest

METRICS = ("top1", "top5", "auc", "mse", "fidelity")

Outputs = Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray


@dataclass(frozen=True)
class Score:
    """A metric's value over `samples` rows; `top1_agreement` with a reference (0 to 1) where that was asked for."""

    metric: str
    value: float
    samples: int
    top1_agreement: float | None = None


def better(metric: str) -> str:
    """ "higher" or "lower": the direction in which `metric` improves. Raises EdgepruneError (metric-unknown)."""
    _require_known(metric)
    return "lower" if metric == "mse" else "higher"


def needs_labels(metric: str) -> bool:
    """Whether `metric` compares with labels rather than with a reference model."""
    return metric != "fidelity"


def drop_points(metric: str, before: float, after: float) -> float:
    """What is lost from `before` to `after`, in points; negative for a gain.

    A point is 0.01 of the rates (top1, top5, auc) and of fidelity, and 1 % of the value before for mse.
    """
    if better(metric) == "higher":
        return (before - after) * 100.0
    if before == 0.0:
        return 0.0 if after == 0.0 else float("inf")
    return (after - before) / before * 100.0


def score(metric: str, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None) -> float:
    """The value of `metric`; see `evaluate`."""
    return evaluate(metric, outputs, labels, reference).value


def evaluate(metric: str, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None) -> Score:
    """Score stacked output rows.

    `outputs` is one array (count, ...), several by name, or a sequence of rows of the first output. Metrics with
    labels judge the first output; fidelity compares every output with `reference`, which has the same form.
    Raises EdgepruneError: metric-unknown, labels-misfit, labels-missing, reference-missing.
    """
    _require_known(metric)
    arrays = _stacked(outputs)
    first = next(iter(arrays.values()))
    if metric == "fidelity":
        if reference is None:
            hint = "name the model to compare with"
            raise EdgepruneError("reference-missing", "fidelity needs the outputs of a reference model", hint=hint)
        cosine, agreement = fidelity(arrays, _stacked(reference))
        return Score(metric, cosine, len(first), agreement)
    if labels is None:
        hint = 'store labels as `y` in the data file, or set metric = "fidelity"'
        raise EdgepruneError("labels-missing", f"metric '{metric}' needs labels", where="data card", hint=hint)
    if len(labels) != len(first):
        raise _misfit(f"{len(labels)} labels for {len(first)} rows of output")
    judges = {"top1": top1, "top5": top5, "auc": auc, "mse": mse}
    return Score(metric, judges[metric](first, labels), len(first))


def top1(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows (count, classes) whose largest output is the label's; rows that hold NaN count as wrong.

    A whole number in place of the outputs is the class itself.
    """
    if outputs.dtype.kind in "biu" and outputs.size == len(outputs):
        check_labels(labels, max(int(labels.max(initial=0)), int(outputs.max(initial=0))) + 1)
        return float(np.mean(outputs.reshape(-1) == labels))
    return _top(outputs, labels, 1)


def top5(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows (count, classes) whose label is among the five largest outputs."""
    return _top(outputs, labels, 5)


def auc(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The area under the receiver operating characteristic of one output, or of the second of two.

    It is the chance that a row labelled 1 scores above one labelled 0, ties counting half (Mann-Whitney U).
    """
    columns = outputs.reshape(len(outputs), -1).astype(np.float64)
    if columns.shape[1] not in (1, 2):
        raise _misfit(f"auc judges one output or two, and there are {columns.shape[1]}")
    scores = columns[:, 0] if columns.shape[1] == 1 else columns[:, 1] - columns[:, 0]
    truth = np.asarray(labels).reshape(-1)
    if not np.isin(truth, (0, 1)).all() or truth.min() == truth.max():
        raise _misfit("auc wants labels 0 and 1, both of them")
    positive = truth == 1
    scores = np.where(np.isnan(scores), np.where(positive, -np.inf, np.inf), scores)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    wins = float(ranks[positive].sum()) - positive.sum() * (positive.sum() + 1) / 2.0
    return float(wins / (positive.sum() * (~positive).sum()))


def mse(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The mean squared difference of outputs and labels of the same number of values a row."""
    given, wanted = outputs.reshape(len(outputs), -1), np.asarray(labels).reshape(len(labels), -1)
    if given.shape != wanted.shape:
        raise _misfit(f"labels of {wanted.shape[1]} values a row for outputs of {given.shape[1]}")
    return float(np.mean(np.square(given.astype(np.float64) - wanted)))


def fidelity(outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> tuple[float, float | None]:
    """Mean cosine similarity over rows and outputs (-1 to 1), and top-1 agreement of the first output (0 to 1).

    Rows of (positions, values), such as the tokens of a text, are compared position by position; rows of one value
    together, as one vector over all rows. Zeros are like zeros (1) and unlike anything else (0); what holds no finite
    number is 0. Agreement is the share of positions whose largest class is the same; classes lie along the first axis
    of (channels, height, width) rows and along the last axis of others. It is None where there is one class. Whole
    numbers, such as those of classes, are alike where they are equal.
    """
    if set(outputs) != set(reference):
        raise _misfit(f"outputs {sorted(outputs)} compared with outputs {sorted(reference)}")
    for name in outputs:
        if outputs[name].shape != reference[name].shape:
            raise _misfit(f"output '{name}' has shape {outputs[name].shape}, the reference {reference[name].shape}")
    cosine = float(np.mean([_likeness(outputs[name], reference[name]) for name in outputs]))
    first = next(iter(reference))
    return cosine, _agreement(outputs[first], reference[first])


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Raises EdgepruneError (labels-misfit) unless every label is a whole number in [0, classes)."""
    if labels.dtype.kind not in "biu" or labels.ndim != 1:
        raise _misfit(f"labels of dtype {labels.dtype} and shape {list(labels.shape)} are no class numbers")
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise _misfit(f"labels from {labels.min()} to {labels.max()} for {classes} outputs")


def _top(outputs: np.ndarray, labels: np.ndarray, count: int) -> float:
    rows = outputs.reshape(len(outputs), -1)
    labels = np.asarray(labels)
    check_labels(labels, rows.shape[1])
    if count == 1:
        right = rows.argmax(axis=1) == labels
    else:
        own = rows[np.arange(len(rows)), labels]
        ahead = (rows > own[:, None]).sum(axis=1)
        earlier = (rows == own[:, None]) & (np.arange(rows.shape[1]) < labels[:, None])
        right = ahead + earlier.sum(axis=1) < count
    return float(np.mean(right & ~np.isnan(rows).any(axis=1)))


def _compared(outputs: np.ndarray) -> np.ndarray:
    """The vectors that are compared, (count, length)."""
    if outputs.ndim == 3 and outputs.shape[2] > 1:
        return outputs.reshape(-1, outputs.shape[2]).astype(np.float64)
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    return rows.T if rows.shape[1] == 1 else rows


def _likeness(outputs: np.ndarray, reference: np.ndarray) -> float:
    whole = reference.dtype.kind in "biu"
    return float(np.mean(outputs == reference) if whole else _cosine_rows(outputs, reference).mean())


def _cosine_rows(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    a, b = _compared(left), _compared(right)
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        products = np.einsum("ij,ij->i", a, b)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosine = np.divide(products, norms, out=np.zeros(len(a)), where=np.isfinite(norms) & (norms > 0))
    return np.where(both_zero, 1.0, np.clip(np.nan_to_num(cosine), -1.0, 1.0))


def _agreement(outputs: np.ndarray, reference: np.ndarray) -> float | None:
    if reference.dtype.kind in "biu":
        return float(np.mean(outputs == reference))
    axis = 1 if outputs.ndim == 4 else -1
    if outputs.ndim < 2 or outputs.shape[axis] < 2:
        return None
    same = outputs.argmax(axis=axis) == reference.argmax(axis=axis)
    return float(np.mean(same & ~np.isnan(outputs).any(axis=axis)))


def _stacked(outputs: Outputs) -> dict[str, np.ndarray]:
    if isinstance(outputs, Mapping):
        arrays = {name: np.asarray(array) for name, array in outputs.items()}
    else:
        arrays = {"output": np.asarray(outputs)}
    first = next(iter(arrays.values()), np.empty(0))
    if len(np.atleast_1d(first)) == 0:
        raise _misfit("there is no row of output to judge")
    return arrays


def _require_known(metric: str) -> None:
    if metric not in METRICS:
        what = f"there is no metric '{metric}'"
        raise EdgepruneError("metric-unknown", what, where="metric", hint=nearest(metric, METRICS))


def _misfit(what: str) -> EdgepruneError:
    hint = "use the card that belongs to this model; label_offset in [preprocess] shifts class numbers"
    return EdgepruneError("labels-misfit", what, where="labels and outputs", hint=hint)
