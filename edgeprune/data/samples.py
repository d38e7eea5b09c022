"""Rows ready to be fed to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.errors import EdgepruneError


@dataclass(frozen=True)
class InputSpec:
    """One model input: its name, its static shape with the batch axis, its dtype as numpy names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row: without the leading axis where that is 1."""
        return self.shape[1:] if self.shape[:1] == (1,) else self.shape


@dataclass(frozen=True)
class Samples:
    """Rows by input name, each array (count, *row shape), with labels (count, ...) where there are some.

    `specs` are the model's inputs where they are known; `row` then gives arrays of exactly their shapes. Where
    the model remembers, rows follow one another, and it forgets before every `reset_every`-th, by default before the
    first alone.
    """

    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None = None
    specs: tuple[InputSpec, ...] = ()
    reset_every: int = 0

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(next(iter(self.inputs.values()))) if self.inputs else 0

    def row(self, index: int) -> dict[str, np.ndarray]:
        """What the model takes for row `index`: arrays with a batch axis of 1."""
        shapes = {spec.name: spec.shape for spec in self.specs}
        return {
            name: array[index].reshape(shapes.get(name, (1, *array.shape[1:]))) for name, array in self.inputs.items()
        }

    def slice(self, start: int, stop: int) -> Samples:
        """Rows [start, stop), sharing memory with these."""
        labels = None if self.labels is None else self.labels[start:stop]
        return Samples({name: array[start:stop] for name, array in self.inputs.items()}, labels, self.specs)

    def spread(self, count: int) -> Samples:
        """`count` rows spread evenly over these, or all where there are no more."""
        if count >= self.count:
            return self
        chosen = np.arange(count) * self.count // max(count, 1)
        labels = None if self.labels is None else self.labels[chosen]
        return Samples({name: array[chosen] for name, array in self.inputs.items()}, labels, self.specs)

    def begins(self, index: int) -> bool:
        """Whether a model that remembers forgets before row `index`."""
        return index % self.reset_every == 0 if self.reset_every else index == 0


def fit_rows(array: np.ndarray, spec: InputSpec, where: str) -> np.ndarray:
    """`array` as (count, *spec.row_shape) of `spec.dtype`; rows may also carry a batch axis of 1.

    Raises EdgepruneError: data-shape names both shapes, data-dtype says which values do not fit.
    """
    row_shape = tuple(array.shape[1:])
    if row_shape not in (spec.row_shape, spec.shape):
        raise EdgepruneError(
            "data-shape",
            f"rows of shape {list(row_shape)} do not fit input '{spec.name}' of shape {list(spec.shape)}",
            where=where,
            hint=_shape_hint(row_shape, spec),
        )
    return _cast(array.reshape(len(array), *spec.row_shape), spec, where)


def _shape_hint(row_shape: tuple[int, ...], spec: InputSpec) -> str:
    if math.prod(row_shape) != math.prod(spec.row_shape):
        return "use the card that belongs to this model, or resize in [preprocess]"
    if len(row_shape) == 3 and (row_shape[2], *row_shape[:2]) == spec.row_shape:
        return 'set layout = "NCHW" in [preprocess]'
    if len(row_shape) == 3 and (*row_shape[1:], row_shape[0]) == spec.row_shape:
        return 'set layout = "NHWC" in [preprocess]'
    return f"set shape = {list(spec.row_shape)} in [preprocess]"


def _cast(array: np.ndarray, spec: InputSpec, where: str) -> np.ndarray:
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "biuf":
        raise _dtype_error(array, spec, where)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = np.ascontiguousarray(array.astype(wanted))
    if wanted.kind in "biu" and not np.array_equal(cast, array):
        raise _dtype_error(array, spec, where)
    return cast


def _dtype_error(array: np.ndarray, spec: InputSpec, where: str) -> EdgepruneError:
    return EdgepruneError(
        "data-dtype",
        f"{array.dtype} values do not fit input '{spec.name}' of dtype {spec.dtype}",
        where=where,
        hint="store real-valued input for float models, whole numbers in range for integer inputs",
    )


def random_samples(
    inputs: Sequence[InputSpec], count: int, seed: int, limits: Mapping[str, int] | None = None
) -> Samples:
    """`count` rows of seeded noise: normal for floats, the whole range for 8-bit integers, 0 or 1 for the rest.

    An integer input in `limits` gets numbers from 0 up to, not including, its limit: indices such as tokens.
    """
    generator = np.random.default_rng(seed)
    limits = limits or {}
    arrays = {
        spec.name: _noise((count, *spec.row_shape), np.dtype(spec.dtype), limits.get(spec.name), generator)
        for spec in inputs
    }
    return Samples(arrays, None, tuple(inputs))


def _noise(
    shape: tuple[int, ...], dtype: np.dtype[Any], limit: int | None, generator: np.random.Generator
) -> np.ndarray:
    if dtype.kind == "f":
        return generator.standard_normal(shape, dtype=np.float32).astype(dtype)
    if limit is not None and dtype.kind in "iu":
        return generator.integers(0, min(limit, np.iinfo(dtype).max), shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        extent = np.iinfo(dtype)
        return generator.integers(extent.min, extent.max, shape, dtype=dtype, endpoint=True)
    return generator.integers(0, 2, shape).astype(dtype)
