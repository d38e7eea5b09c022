"""Reads stored rows: .npz arrays, and folders of images with an optional CSV index."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgeprune.data.preprocess import resize_image
from edgeprune.errors import EdgepruneError, nearest

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"})


def read_arrays(path: Path, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The arrays `keys`, and those of `optional` that are there, of the .npz file `path`; never unpickles.

    Raises EdgepruneError: data-file-missing, data-file-corrupt, data-key-missing.
    """
    _require_file(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("one bare array, not an .npz archive")
            for key in keys:
                if key not in stored.files:
                    raise _key_missing(path, key, stored.files)
            return {key: stored[key] for key in [*keys, *(key for key in optional if key in stored.files)]}
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise EdgepruneError(
            "data-file-corrupt",
            f"the data file cannot be read: {error}",
            where=str(path),
            hint="store plain arrays with numpy.savez_compressed; object arrays are refused",
        ) from error


def array_names(path: Path) -> list[str]:
    """The names of the arrays in the .npz file `path`. Raises EdgepruneError (data-file-missing, data-file-corrupt)."""
    _require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        hint = "store arrays with numpy.savez_compressed"
        raise EdgepruneError("data-file-corrupt", f"no .npz archive: {error}", where=str(path), hint=hint) from error


def list_images(folder: Path) -> list[Path]:
    """The image files in `folder`, sorted by name. Raises EdgepruneError (data-file-missing)."""
    if not folder.is_dir():
        raise _file_missing(folder, "folder of images")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise _file_missing(folder, "image in the folder")
    return found


def read_index(index: Path, folder: Path, label: str | None) -> tuple[list[Path], np.ndarray | None]:
    """The images that the CSV `index` lists (column `file`, else its first) and the whole numbers in column `label`.

    Raises EdgepruneError: data-file-missing, data-file-corrupt, data-key-missing, labels-misfit.
    """
    _require_file(index)
    try:
        with index.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "write a CSV file with a header line"
        raise EdgepruneError("data-file-corrupt", f"unreadable index: {error}", where=str(index), hint=hint) from error
    if not columns or not rows:
        hint = "write a header line and one line an image"
        raise EdgepruneError("data-file-corrupt", "the index lists no image", where=str(index), hint=hint)
    if label is not None and label not in columns:
        raise _key_missing(index, label, columns)
    name_column = "file" if "file" in columns else columns[0]
    paths = [folder / (row[name_column] or "") for row in rows]
    return paths, None if label is None else _whole_numbers([row[label] for row in rows], index, label)


def _whole_numbers(texts: Sequence[str | None], index: Path, label: str) -> np.ndarray:
    try:
        return np.array([int(text or "") for text in texts], dtype=np.int64)
    except ValueError as error:
        raise EdgepruneError(
            "labels-misfit",
            f"column '{label}' holds something other than whole numbers: {error}",
            where=str(index),
            hint="store class numbers, counted from 0",
        ) from error


def decode_images(paths: Sequence[Path], size: tuple[int, int] | None) -> np.ndarray:
    """RGB images as uint8 (count, height, width, 3), each resized to `size` as it is read.

    Raises EdgepruneError: data-file-missing, data-image-undecodable, data-shape (sizes differ and no resize is given).
    """
    stack: np.ndarray | None = None
    for position, path in enumerate(paths):
        image = _decode(path)
        image = image if size is None else resize_image(image, size)
        if stack is None:
            stack = np.empty((len(paths), *image.shape), np.uint8)
        if image.shape != stack.shape[1:]:
            raise EdgepruneError(
                "data-shape",
                f"an image of {list(image.shape[:2])} pixels follows images of {list(stack.shape[1:3])}",
                where=str(path),
                hint="set resize in [preprocess]",
            )
        stack[position] = image
    return stack if stack is not None else np.empty((0, 0, 0, 3), np.uint8)


def _decode(path: Path) -> np.ndarray:
    _require_file(path)
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise EdgepruneError(
            "data-image-undecodable",
            f"the image cannot be decoded: {error}",
            where=str(path),
            hint="remove or replace the file",
        ) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise _file_missing(path, "data file")


def _file_missing(path: Path, kind: str) -> EdgepruneError:
    known = [entry.name for entry in path.parent.iterdir()][:1000] if path.parent.is_dir() else []
    hint = "paths in a card are relative to the card"
    if known:
        close = nearest(path.name, known)
        hint = close if close.startswith("did you mean") else hint
    return EdgepruneError("data-file-missing", f"there is no such {kind}", where=str(path), hint=hint)


def _key_missing(path: Path, key: str, known: Sequence[str]) -> EdgepruneError:
    return EdgepruneError("data-key-missing", f"there is no '{key}'", where=str(path), hint=nearest(key, known))
