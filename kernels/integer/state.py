"""What the code of an integer kernel works on: its pointers, the sums of a tile, the entry at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.epilogue import residuals
from edgeprune.kernels.integer.dot import Idiom
from edgeprune.kernels.integer.kinds import Kind
from edgeprune.kernels.integer.packing import Layout
from edgeprune.kernels.integer.variant import Part
from edgeprune.kernels.script import Memory


@dataclass(frozen=True)
class Buffers:
    """The pointers that a kernel gets."""

    x: Memory
    residuals: tuple[Memory, ...]
    weights: Memory
    offsets: Memory
    table: Memory
    scales: Memory
    bias: Memory | None
    codes: Memory | None
    y: Memory


@dataclass(frozen=True)
class Sums:
    """The accumulators of a tile, which LLVM keeps in registers: for each chain, pixel and vector of the block one."""

    memory: Memory
    pixels: int
    vectors: tuple[int, ...]

    def _place(self, chain: int, pixel: int, vector: int) -> int:
        return (chain * self.pixels + pixel) * sum(self.vectors) + sum(self.vectors[:vector])

    def load(self, chain: int, pixel: int, vector: int) -> Any:
        """One vector of sums."""
        return self.memory.load(self._place(chain, pixel, vector), self.vectors[vector])

    def store(self, chain: int, pixel: int, vector: int, value: Any) -> None:
        """Replace one vector of sums."""
        self.memory.store(self._place(chain, pixel, vector), value, self.vectors[vector])


@dataclass(frozen=True)
class Entry:
    """The entry at hand: its places in x, and where its weights and codes begin; its `kind`."""

    places: Sequence[Any]
    weights: Any
    codes: Any
    kind: Kind


@dataclass(frozen=True)
class Code:
    """A kernel while its code is emitted; each block has `sections` kinds of entries."""

    problem: Conv2d
    idiom: Idiom
    layout: Layout
    sections: int
    buffers: Buffers


def dtypes(problem: Conv2d, layout: Layout) -> list[str]:
    """Types of the kernel's pointers (x, residuals..., constants, y)."""
    added = [step.view.format.dtype for step in residuals(problem.epilogue)]
    constants = [layout.weights, layout.offsets, "int32", "float32", *(["int32"] if layout.biased else [])]
    constants += [layout.codes] if layout.codes else []
    return [problem.x.format.dtype, *added, *constants, problem.y.format.dtype]


def buffers_of(problem: Conv2d, layout: Layout, memories: Sequence[Memory]) -> Buffers:
    """The pointers of a kernel by what they are for."""
    count = 1 + len(residuals(problem.epilogue))
    weights, offsets, table, scales = memories[count : count + 4]
    bias = memories[count + 4] if layout.biased else None
    return Buffers(
        memories[0],
        tuple(memories[1:count]),
        weights,
        offsets,
        table,
        scales,
        bias,
        memories[-2] if layout.codes else None,
        memories[-1],
    )


def first_channel(part: Part, vector: int) -> int:
    """Where a vector of a block begins among its channels."""
    return sum(part.vectors[:vector])
