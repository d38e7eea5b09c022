"""A TFLite file as plain values: what the importer reads, apart from how the file stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point); one pair for the tensor, or one for each index along `axis`."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0

    @property
    def per_tensor(self) -> bool:
        """Whether one pair holds for the whole tensor."""
        return self.scale.size == 1

    def equals(self, other: Quantization | None) -> bool:
        """Whether both store every real number alike."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.per_tensor or self.axis == other.axis)
        )


@dataclass(frozen=True)
class Tensor:
    """A tensor of a subgraph; `kind` is TFLite's name of its type, `dtype` what numpy stores it as, None for handles.

    `data` is the array of a constant, dense whatever the file holds. `quantization` is None for plain numbers.
    """

    name: str
    kind: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    quantization: Quantization | None = None
    variable: bool = False


@dataclass(frozen=True)
class Operator:
    """One operator: TFLite's name (a custom one's own), tensor indices (-1 for one left out), options by name."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    intermediates: tuple[int, ...] = ()
    custom: bool = False


@dataclass(frozen=True)
class Subgraph:
    """Tensors, operators in running order, and the indices of the tensors that go in and out."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
