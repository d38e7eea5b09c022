"""Models from files, from Python, or as they are."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

Source = str | PathLike[str]


def source_of(model: Source | ir.Model) -> Source | None:
    """Where a model comes from; None for one that is an IR already."""
    return model if isinstance(model, (str, PathLike)) else None


def load_model(
    model: Source | ir.Model, *, arch: str | None = None, dimensions: Mapping[str, int] | None = None
) -> ir.Model:
    """Import a model file or `module.py:callable` to the IR; an IR model is taken as it is.

    `arch` builds the network of a checkpoint; `dimensions` gives sizes to dimensions that the model leaves open.
    """
    if not isinstance(model, (str, PathLike)):
        return model
    from edgeprune.frontend.load import load

    return load(model, arch, dimensions)
