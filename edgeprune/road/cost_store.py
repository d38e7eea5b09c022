"""Keeps cost tables in the user's cache: those of a model on a target, as one machine measured them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache as remembered
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgeprune.cache import Cache, content_key
from edgeprune.road.table_store import kept_table, model_content, sources
from edgeprune.search.costs import CostTable
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

_SOURCES = ("lowering", "bench", "road", "search", "emulate", "kernels")


def kept_costs(
    model: ir.Model, target: Target, threads: int, cache: Cache | None, make: Callable[[], CostTable], basis: str = ""
) -> CostTable:
    """The table of `model` on `target` from `cache`; where there is none that can be read, what `make` gives.

    `basis` names what else it depends on.
    """
    facts = msgspec.json.encode(target)
    key = content_key(model_content(model), facts, processor(), str(threads), kernel_sources(), basis)
    return kept_table("costs", key, CostTable, make, cache)


@remembered
def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def kernel_sources() -> bytes:
    """The code that makes kernels and times them."""
    return sources(*_SOURCES)
