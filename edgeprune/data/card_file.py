"""Reads data cards: small TOML files that say what data there is, how it is fed, and how it is judged."""

from __future__ import annotations

import sys
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeprune.data.card import SPLITS, Card, Section, invalid_card, parse_rows
from edgeprune.data.preprocess import Preprocess
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.metric import METRICS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_card(path: str | PathLike[str]) -> Card:
    """Read and check the data card at `path`.

    Raises EdgepruneError: card-missing; card-invalid (no TOML, an unknown key, a wrong type, nothing to load).
    """
    path = Path(path)
    table = _read_toml(path)
    known = {"metric", "label_offset", "reset_every", "preprocess", *SPLITS}
    _refuse_unknown(table, known, path, "")
    metric = table.get("metric")
    if metric not in METRICS:
        what = "the card names no metric" if metric is None else f"there is no metric '{metric}'"
        raise invalid_card(path, what, nearest(str(metric or ""), METRICS))
    sections = {split: _section(table[split], path, split) for split in SPLITS if split in table}
    if not sections:
        raise invalid_card(path, "the card has no data section", "add [train], [validate], [calibrate] or [test]")
    steps = _convert(table.get("preprocess", {}), Preprocess, path, "preprocess")
    _check_steps(steps, path)
    return Card(path, metric, sections, steps, _label_offset(table, steps, path), _reset_every(table, path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        near = sorted(entry.name for entry in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        hint = nearest(path.name, near) if near else "give the path of a .toml data card"
        raise EdgepruneError("card-missing", "there is no such data card", where=str(path), hint=hint) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise invalid_card(path, f"the data card cannot be read: {error}", "a card is a TOML file in UTF-8") from error


def _section(table: Any, path: Path, split: str) -> Section:
    section = _convert(table, Section, path, split)
    where = f"{path} [{split}]"
    if (section.file is None) == (section.images is None):
        raise invalid_card(where, "a section gives either `file` or `images`", "keep one of the two")
    if section.file is not None and (section.index is not None or section.label is not None):
        raise invalid_card(where, "`index` and `label` go with `images`", "labels of a `file` are its array `y`")
    if section.label is not None and section.index is None:
        raise invalid_card(where, "`label` names a column of `index`, which is not given", 'add index = "...csv"')
    parse_rows(section.rows, where)
    return section


def _convert(table: Any, kind: Any, path: Path, section: str) -> Any:
    if not isinstance(table, dict):
        raise invalid_card(path, f"'{section}' is a section", f"write [{section}] and its keys below")
    _refuse_unknown(table, set(kind.__struct_fields__), path, section)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise invalid_card(f"{path} [{section}]", str(error), "see the data card section of the README") from error


def _refuse_unknown(table: dict[str, Any], known: set[str], path: Path, section: str) -> None:
    for key in table:
        if key not in known:
            raise invalid_card(f"{path} [{section}]" if section else path, f"unknown key '{key}'", nearest(key, known))


def _check_steps(steps: Preprocess, path: Path) -> None:
    where = f"{path} [preprocess]"
    if steps.size is not None and min(steps.size) < 1:
        raise invalid_card(where, "resize wants at least one pixel", "give a side or [height, width]")
    if steps.std is not None and not np.all(np.asarray(steps.std)):
        raise invalid_card(where, "std holds a zero", "rows are divided by std")
    if steps.shape is not None and min(steps.shape, default=1) < 1:
        raise invalid_card(where, "shape holds a length below 1", "give the shape of one row, without a batch axis")


def _label_offset(table: dict[str, Any], steps: Preprocess, path: Path) -> int:
    above = table.get("label_offset", 0)
    if not isinstance(above, int) or isinstance(above, bool):
        raise invalid_card(path, "label_offset is a whole number", "it is added to every label")
    if above and steps.label_offset:
        raise invalid_card(path, "label_offset is given twice", "keep the one at the top or the one in [preprocess]")
    return above or steps.label_offset


def _reset_every(table: dict[str, Any], path: Path) -> int:
    rows = table.get("reset_every", 0)
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0:
        what = "reset_every is a number of rows"
        raise invalid_card(path, what, "say how many rows one recording has, or leave it out where all are one")
    return rows
