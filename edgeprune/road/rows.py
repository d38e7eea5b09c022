"""The .npz files that `run` reads and writes: one array per model input or output, rows along the first axis."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeprune.data.samples import InputSpec, Samples, fit_rows
from edgeprune.data.source import array_names, read_arrays
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.files import write_bytes


def read_rows(path: Path, inputs: Sequence[InputSpec]) -> Samples:
    """The rows of `path` for a model with `inputs`; a lone input may be called `x`.

    Raises EdgepruneError: data-file-missing, data-key-missing, data-shape, data-dtype, data-empty.
    """
    names = array_names(path)
    keys = {spec.name: spec.name for spec in inputs}
    if len(inputs) == 1 and inputs[0].name not in names:
        keys = {inputs[0].name: "x"}
    unknown = sorted(set(names) - set(keys.values()))
    if unknown and not set(keys.values()) <= set(names):
        what = f"'{unknown[0]}' is not an input of the model"
        raise EdgepruneError("input-unknown", what, where=str(path), hint=nearest(unknown[0], keys))
    arrays = read_arrays(path, list(keys.values()))
    rows = {spec.name: _fitted(arrays[keys[spec.name]], spec, f"{path}: {keys[spec.name]}") for spec in inputs}
    counts = {name: len(array) for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        what = f"the inputs differ in their number of rows ({told})"
        raise EdgepruneError("data-shape", what, where=str(path), hint="give every input one row an inference")
    if not all(counts.values()):
        raise EdgepruneError("data-empty", "there is no row to run", where=str(path), hint="store at least one row")
    return Samples(rows, None, tuple(inputs))


def _fitted(array: np.ndarray, spec: InputSpec, where: str) -> np.ndarray:
    """As `fit_rows`, whose hint speaks of a data card's [preprocess]: here there is none."""
    try:
        return fit_rows(array, spec, where)
    except EdgepruneError as error:
        if error.code != "data-shape":
            raise
        hint = f"store rows of shape {list(spec.row_shape)}, as the model takes them: no card changes them here"
        raise EdgepruneError(error.code, error.what, where=where, hint=hint) from None


def write_rows(path: Path, outputs: Mapping[str, np.ndarray]) -> None:
    """Write `outputs` by name to `path`, whole or not at all. Raises EdgepruneError (output-unwritable)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    write_bytes(path, stream.getvalue())
