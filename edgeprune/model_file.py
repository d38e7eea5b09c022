"""A model as a user names it: a file or a callable, with what is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelFile:
    """The model `spec` names: a file, or `module.py:callable`. It may stand wherever a path of a model may.

    `arch` is the `module.py:callable` that builds the network of a checkpoint; `dimensions` gives sizes to the
    dimensions that the model leaves open, by name (`sequence`) or by input and axis (`input:1`).
    """

    spec: str
    arch: str | None = None
    dimensions: Mapping[str, int] = field(default_factory=dict)

    def __fspath__(self) -> str:
        return self.spec

    def __str__(self) -> str:
        return self.spec


def callable_parts(spec: str) -> tuple[str, str] | None:
    """The Python file and the name of the callable in it, where `spec` is `module.py:callable`; else None."""
    file, colon, name = spec.rpartition(":")
    return (file, name) if colon and file.endswith(".py") and "/" not in name else None
