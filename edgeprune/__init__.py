"""Prune a trained model in the pattern its device can skip, compile it, and measure it there."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.api import advise, compile, prune
    from edgeprune.compiled import Package
    from edgeprune.flow import load_model

__version__ = "0.1.0"
__all__ = ["Package", "advise", "compile", "load_model", "prune"]

_HOMES = {
    "Package": "edgeprune.compiled",
    "advise": "edgeprune.api",
    "compile": "edgeprune.api",
    "load_model": "edgeprune.flow",
    "prune": "edgeprune.api",
}


def __getattr__(name: str) -> Any:
    """Import a verb, or `edgeprune.torch`, on its first use, so that `import edgeprune` stays light."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "torch":
        return import_module("edgeprune.torch")
    raise AttributeError(f"module 'edgeprune' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
