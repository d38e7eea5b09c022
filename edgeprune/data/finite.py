"""Refuses rows that hold NaN or infinity, by the place where they are stored."""

from __future__ import annotations

import numpy as np

from edgeprune.errors import EdgepruneError

STORED = "mend these rows, or leave them out with `rows` in the card"
PREPROCESSED = "compare [preprocess] of the card with the stored values"


def require_finite_rows(array: np.ndarray, rows: np.ndarray, what: str, where: str, hint: str = STORED) -> None:
    """Refuse `array` (count, ...), whose rows are called `rows`, where a value is NaN or infinite.

    Raises EdgepruneError (not-finite) naming `what`, `where` and the first such row.
    """
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    values = "NaN" if np.isnan(array[bad[0]]).any() else "infinite values"
    more = f" ({len(bad)} rows do)" if len(bad) > 1 else ""
    message = f"{what}, row {rows[bad[0]]}, holds {values}{more}"
    raise EdgepruneError("not-finite", message, where=where, hint=hint)
