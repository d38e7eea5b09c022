"""What recovery training asks of its rows, labels and first loss, and the errors that say so."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.data import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.metric import check_labels
from edgeprune.passes.finite import check_finite, require_finite

_WITHOUT = "or --epochs 0 to prune without training"


def require_rows(train: Samples, validate: Samples, processes: int) -> None:
    """Raise EdgepruneError (data-empty) without rows to judge on, or a row to train on for each process."""
    if train.count < processes:
        what = "there is no row to train on" if train.count == 0 else f"{train.count} rows for {processes} processes"
        raise _empty(what, "train")
    if validate.count == 0:
        raise _empty("recovery training is judged on validate rows, and there is none", "validate")


def require_finite_rows(train: Samples) -> None:
    """Raise EdgepruneError (not-finite) where a training row holds NaN or infinity."""
    for name, array in train.inputs.items():
        if array.dtype.kind == "f":
            hint = f"mend or leave out the rows that hold them, {_WITHOUT}"
            require_finite(array, f"input '{name}' of the training rows", f"input '{name}'", hint)


def require_labels(train: Samples, classes: int) -> None:
    """Raise EdgepruneError (labels-misfit) unless every training row has one class number below `classes`."""
    if train.labels is None:
        return
    check_labels(train.labels.reshape(-1), classes)
    if train.labels.size != train.count:
        what = f"{train.labels.size} labels for {train.count} training rows"
        raise EdgepruneError("labels-misfit", what, where="train rows", hint="give each row one class number")


def explain_first_loss(original: ir.Model, pruned: ir.Model) -> EdgepruneError:
    """Why the very first loss is not finite (later ones come from the training).

    Raises EdgepruneError (not-finite) where a weight is NaN or infinite.
    """
    for model in (original, pruned):
        check_finite(model, Samples({}))
    return EdgepruneError(
        "training-diverged",
        "the loss is not finite in the first step of the recovery training",
        where="recovery training",
        hint=f"the model's own outputs overflow on these rows: check the [preprocess] of the card, {_WITHOUT}",
    )


def _empty(what: str, section: str) -> EdgepruneError:
    hint = f"give the data card a [{section}] section with rows, {_WITHOUT}"
    return EdgepruneError("data-empty", what, where=f"{section} rows", hint=hint)
