"""Keeps what networks were seen to lose in the user's cache: other budgets on the same rows begin sooner."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgeprune.cache import Cache, content_key
from edgeprune.data.samples import Samples
from edgeprune.passes.unit_errors import UnitErrors
from edgeprune.pattern import Level
from edgeprune.road.table_store import kept_table, model_content, sources

if TYPE_CHECKING:
    import onnx_ir as ir

_SOURCES = ("ir", "passes", "road")


class _Order(msgspec.Struct):
    order: list[int]
    errors: list[float]


def kept_layer_errors(
    model: ir.Model,
    samples: Samples,
    levels: Mapping[str, Sequence[Level]],
    seed: int,
    make: Callable[[], dict[str, tuple[float, ...]]],
    cache: Cache | None = None,
) -> dict[str, tuple[float, ...]]:
    """What each of `levels` costs `model`, as seen on `samples`, from the cache; else what `make` gives."""
    asked = {name: [(str(level.pattern), level.density) for level in each] for name, each in levels.items()}
    key = _key(model, samples, seed, asked)
    return kept_table("layer-errors", key, dict[str, tuple[float, ...]], make, cache)


def kept_unit_errors(
    model: ir.Model,
    samples: Samples,
    steps: Mapping[str, int],
    seed: int,
    make: Callable[[], Mapping[str, UnitErrors]],
    cache: Cache | None = None,
) -> dict[str, UnitErrors]:
    """What units of each group cost `model`, so many of `steps` at a time, from the cache; else what `make` gives."""

    def made() -> dict[str, _Order]:
        return {name: _Order(each.order.tolist(), each.errors.tolist()) for name, each in make().items()}

    found = kept_table("unit-errors", _key(model, samples, seed, dict(steps)), dict[str, _Order], made, cache)
    return {name: UnitErrors(np.array(each.order, np.int64), np.array(each.errors)) for name, each in found.items()}


def _key(model: ir.Model, samples: Samples, seed: int, asked: Any) -> str:
    rows = hashlib.sha256()
    for name, array in sorted(samples.inputs.items()):
        rows.update(f"{name} {array.dtype} {array.shape} {samples.reset_every}\n".encode())
        rows.update(np.ascontiguousarray(array).data)
    facts = msgspec.json.encode(asked)
    return content_key(model_content(model), rows.digest(), facts, str(seed), sources(*_SOURCES))
