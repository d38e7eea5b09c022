"""Keeps tables that took long to make in the user's cache, under all that they depend on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache as remembered
from importlib import resources
from typing import TYPE_CHECKING, TypeVar

import msgspec

from edgeprune import __version__
from edgeprune.cache import Cache, content_key, open_cache

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import onnx_ir as ir

T = TypeVar("T")


def kept_table(kind: str, basis: str, form: type[T], make: Callable[[], T], cache: Cache | None = None) -> T:
    """The table of `basis` from `cache`, by default the user's; where there is none to be read, what `make` gives.

    `form` is the table's type as msgspec writes and reads it.
    """
    cache = open_cache() if cache is None else cache
    key = content_key(basis, __version__)
    data = cache.get(kind, key)
    if data is not None:
        try:
            return msgspec.json.decode(data, type=form)
        except msgspec.DecodeError:
            pass
    table = make()
    cache.put(kind, key, msgspec.json.encode(table))
    return table


def model_content(model: ir.Model) -> bytes:
    """The whole of `model`, weights included; the same model gives the same bytes."""
    from onnx_ir import to_proto

    return to_proto(model).SerializeToString(deterministic=True)


@remembered
def sources(*names: str) -> bytes:
    """The code of the folders `names` of edgeprune."""
    return b"".join(content for name in names for content in _contents(resources.files(f"edgeprune.{name}")))


def _contents(folder: Traversable) -> list[bytes]:
    found: list[bytes] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found += _contents(entry)
        elif entry.name.endswith((".py", ".c", ".h")):
            found.append(entry.read_bytes())
    return found
