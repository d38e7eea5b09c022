"""What a data card says, and the samples it gives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edgeprune.data.finite import PREPROCESSED, require_finite_rows
from edgeprune.data.preprocess import Preprocess, preprocess_rows
from edgeprune.data.samples import InputSpec, Samples, fit_rows
from edgeprune.data.source import array_names, decode_images, list_images, read_arrays, read_index
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.metric import needs_labels

SPLITS = ("train", "validate", "calibrate", "test")
_STAND_INS = {"train": ("calibrate",), "calibrate": ("train",), "validate": ("train", "calibrate"), "test": ()}
_HELD_BACK = 10
_JUDGED = ("test",)
"""The splits whose rows must have labels where the metric needs some: others are judged by the original's outputs."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One split: an .npz `file`, or a folder of `images` with an `index` CSV and its `label` column; `rows` a slice."""

    file: str | None = None
    images: str | None = None
    index: str | None = None
    label: str | None = None
    rows: str = ":"


@dataclass(frozen=True)
class _Raw:
    """Stored rows by input name, before preprocessing, with their labels; `rows` are their numbers in the file."""

    arrays: dict[str, np.ndarray]
    labels: np.ndarray | None
    rows: np.ndarray


@dataclass(frozen=True)
class Card:
    """A data card that was read and checked; paths in it are relative to its own folder.

    Where a split is asked that the card lacks, `calibrate` stands in for `train` and `train` for `calibrate`.
    Without [validate], the last tenth of the rows of `train`, else `calibrate`, is held back for it and is in no
    other split. `test` is never used for anything else and nothing stands in for it. `reset_every` is that of Samples.
    """

    path: Path
    metric: str
    sections: dict[str, Section]
    preprocess: Preprocess
    label_offset: int = 0
    reset_every: int = 0

    def splits(self) -> tuple[str, ...]:
        """The splits that `load` gives, stand-ins included."""
        return tuple(split for split in SPLITS if self._source(split) is not None)

    def digest(self) -> str:
        """sha256 (hex) of the card and of every data file its splits use."""
        total = hashlib.sha256(self.path.read_bytes())
        files: set[Path] = set()
        for section in self.sections.values():
            files.update(self._files(section))
        for file in sorted(files):
            total.update(hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()

    def load(self, split: str, inputs: Sequence[InputSpec], limit: int | None = None) -> Samples:
        """The rows of `split`, preprocessed to fit `inputs`; with `limit`, that many spread evenly over the split.

        Raises EdgepruneError: card-invalid, data-file-missing, data-file-corrupt, data-key-missing, data-shape,
        data-dtype, data-image-undecodable, labels-misfit, not-finite.
        """
        source = self._source(split)
        if source is None:
            raise self._split_missing(split)
        section = self.sections[source]
        where = f"{self.path} [{source}]"
        if len(inputs) > 1 and (section.images is not None or self.preprocess.changes_values):
            raise self._several_inputs(inputs, where)
        raw = self._read(section, source, split, inputs, limit)
        arrays = {spec.name: self._fed(raw, spec, where) for spec in inputs}
        return Samples(arrays, self._offset(raw.labels), tuple(inputs), self.reset_every)

    def _fed(self, raw: _Raw, spec: InputSpec, where: str) -> np.ndarray:
        """The rows of one input as the model takes them."""
        rows = fit_rows(preprocess_rows(raw.arrays[spec.name], self.preprocess, where), spec, where)
        require_finite_rows(rows, raw.rows, f"what [preprocess] makes of '{spec.name}'", where, PREPROCESSED)
        return rows

    def _source(self, split: str) -> str | None:
        return next((name for name in (split, *_STAND_INS.get(split, ())) if name in self.sections), None)

    def _offset(self, labels: np.ndarray | None) -> np.ndarray | None:
        if labels is None or labels.dtype.kind not in "biu":
            return labels
        classes = labels.reshape(-1) if labels.size == len(labels) else labels
        return classes.astype(np.int64) + self.label_offset

    def _read(self, section: Section, source: str, split: str, inputs: Sequence[InputSpec], limit: int | None) -> _Raw:
        if section.images is not None:
            return self._read_images(section, source, split, inputs[0].name, limit)
        assert section.file is not None
        path = self.path.parent / section.file
        names = {spec.name: spec.name for spec in inputs}
        if len(inputs) == 1 and inputs[0].name not in array_names(path):
            names = {inputs[0].name: "x"}
        required = needs_labels(self.metric) and source in _JUDGED
        keys = [*names.values(), *(["y"] if required else [])]
        arrays = read_arrays(path, keys, optional=["y"])
        count = self._common_count(arrays, path)
        chosen = self._rows(section, source, split, count, limit)
        held = {key: array[chosen] for key, array in arrays.items()}
        for key, array in held.items():
            if key in names.values() or needs_labels(self.metric):
                require_finite_rows(array, chosen, f"'{key}'", str(path))
        labels = held["y"] if "y" in held and "y" not in names.values() else None
        return _Raw({name: held[key] for name, key in names.items()}, labels, chosen)

    def _read_images(self, section: Section, source: str, split: str, name: str, limit: int | None) -> _Raw:
        folder = self.path.parent / (section.images or "")
        labels: np.ndarray | None = None
        if section.index is None:
            paths = list_images(folder)
        else:
            paths, labels = read_index(self.path.parent / section.index, folder, section.label)
        if labels is None and needs_labels(self.metric) and source in _JUDGED:
            hint = "give `index`, a CSV file, and `label`, its column of class numbers"
            what = f"metric '{self.metric}' needs labels"
            raise EdgepruneError("data-key-missing", what, where=f"{self.path} [{source}]", hint=hint)
        chosen = self._rows(section, source, split, len(paths), limit)
        images = decode_images([paths[row] for row in chosen], self.preprocess.size)
        return _Raw({name: images}, None if labels is None else labels[chosen], chosen)

    def _rows(self, section: Section, source: str, split: str, count: int, limit: int | None) -> np.ndarray:
        rows = np.arange(count)[parse_rows(section.rows, f"{self.path} [{source}]")]
        if "validate" not in self.sections and source == self._source("validate"):
            held_back = max(1, len(rows) // _HELD_BACK)
            rows = rows[len(rows) - held_back :] if split == "validate" else rows[: len(rows) - held_back]
        if len(rows) == 0:
            what = f"rows = \"{section.rows}\" leaves no row of {count} for '{split}'"
            hint = 'rows is a Python slice such as "0:100" or "1::2"'
            raise invalid_card(f"{self.path} [{source}]", what, hint)
        if limit is None or limit >= len(rows):
            return rows
        return rows[np.arange(limit) * len(rows) // max(limit, 1)]

    def _common_count(self, arrays: dict[str, np.ndarray], path: Path) -> int:
        counts = {key: len(array) if array.ndim else 0 for key, array in arrays.items()}
        if len(set(counts.values())) == 1:
            return next(iter(counts.values()))
        told = ", ".join(f"{key}: {count}" for key, count in counts.items())
        rows = {count for key, count in counts.items() if key != "y"}
        code = "labels-misfit" if len(rows) == 1 else "data-shape"
        hint = "every array holds one row a sample along its first axis"
        raise EdgepruneError(code, f"the arrays differ in their number of rows ({told})", where=str(path), hint=hint)

    def _files(self, section: Section) -> list[Path]:
        if section.file is not None:
            files = [self.path.parent / section.file]
        else:
            files = list_images(self.path.parent / (section.images or ""))
            files += [self.path.parent / section.index] if section.index is not None else []
        return [file for file in files if file.is_file()]

    def _split_missing(self, split: str) -> EdgepruneError:
        if split not in SPLITS:
            what, hint = f"there is no split '{split}'", nearest(split, SPLITS)
            return EdgepruneError("split-unknown", what, where="--split", hint=hint, exit_code=2)
        hint = f"add a [{split}] section" + ("; nothing else may stand in for test" if split == "test" else "")
        return EdgepruneError("card-invalid", f"the card has no [{split}] section", where=str(self.path), hint=hint)

    def _several_inputs(self, inputs: Sequence[InputSpec], where: str) -> EdgepruneError:
        names = ", ".join(spec.name for spec in inputs)
        what = f"[preprocess] and images describe one input, and the model has {len(inputs)} ({names})"
        hint = "store ready arrays, named as the inputs, in one .npz file and drop [preprocess]"
        return EdgepruneError("card-invalid", what, where=where, hint=hint)


def parse_rows(text: str, where: str) -> slice:
    """The Python slice written as `text`. Raises EdgepruneError (card-invalid) naming `where`."""
    parts = text.split(":")
    try:
        if len(parts) not in (2, 3):
            raise ValueError(text)
        bounds = [int(part) if part.strip() else None for part in parts]
        if len(bounds) == 3 and bounds[2] == 0:
            raise ValueError(text)
    except ValueError as error:
        hint = 'write a Python slice such as "0:100", "1::2" or "-50:"'
        raise invalid_card(where, f'rows = "{text}" is no slice', hint) from error
    return slice(*bounds)


def invalid_card(where: Path | str, what: str, hint: str) -> EdgepruneError:
    """The error of a card that says something wrong at `where`."""
    return EdgepruneError("card-invalid", what, where=str(where), hint=hint)
