"""Keeps cost tables in the user's cache, under all that they depend on."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache as remembered
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgeprune import __version__
from edgeprune.cache import Cache, content_key
from edgeprune.search.costs import CostTable
from edgeprune.target import Target

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import onnx_ir as ir

_KIND = "costs"
_SOURCES = ("kernels", "lowering", "bench", "road", "search", "emulate")


def kept_table(
    model: ir.Model, target: Target, threads: int, cache: Cache, make: Callable[[], CostTable], basis: str = ""
) -> CostTable:
    """The table of `model` on `target` from `cache`; where there is none that can be read, what `make` gives.

    `basis` names what else it depends on.
    """
    key = content_key(_key(model, target, threads), basis)
    data = cache.get(_KIND, key)
    if data is not None:
        try:
            return msgspec.json.decode(data, type=CostTable)
        except msgspec.DecodeError:
            pass
    table = make()
    cache.put(_KIND, key, msgspec.json.encode(table))
    return table


def _key(model: ir.Model, target: Target, threads: int) -> str:
    from onnx_ir import to_proto

    content = to_proto(model).SerializeToString(deterministic=True)
    facts = msgspec.json.encode(target)
    return content_key(content, facts, processor(), str(threads), __version__, kernel_sources())


@remembered
def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@remembered
def kernel_sources() -> bytes:
    """The code that makes kernels and times them."""
    folders = [resources.files("edgeprune").joinpath(name) for name in _SOURCES if name != "kernels"]
    folders.append(resources.files("edgeprune.kernels"))
    return b"".join(content for folder in folders for content in _contents(folder))


def _contents(folder: Traversable) -> list[bytes]:
    found: list[bytes] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found += _contents(entry)
        elif entry.name.endswith((".py", ".c", ".h")):
            found.append(entry.read_bytes())
    return found
