"""What a model in firmware says of itself: `edge_model` of edge_model.h, read from the linked program."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.elf import Elf
from edgeprune.errors import EdgepruneError

_TENSOR = struct.Struct("<2Ii2IfiI")
_MODEL = struct.Struct("<3IiIiIi")


@dataclass(frozen=True)
class BareTensor:
    """One input or output in the arena, dense and row-major.

    `dtype`, as numpy names it, is stored in `size` bytes; where `scale` is not 0, real = (stored - zero) * scale.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    scale: float
    zero: int
    offset: int

    def stored(self, real: np.ndarray) -> bytes:
        """The bytes of one row of real values: times 1 / scale, rounded half to even, clipped to the type.

        Compiled models of every other machine store their inputs in the same way.
        """
        values = np.asarray(real).reshape(self.shape)
        if self.scale:
            limits = np.iinfo(self.dtype)
            steps = np.rint(values.astype(np.float32) * (np.float32(1) / np.float32(self.scale)))
            values = np.clip(steps + np.float32(self.zero), limits.min, limits.max)
        return np.ascontiguousarray(values, self._order()).tobytes()

    def real(self, content: bytes) -> np.ndarray:
        """The real values, of `shape`, that `content` stores."""
        values = np.frombuffer(content, self._order()).reshape(self.shape)
        if not self.scale:
            return values.astype(self.dtype)
        return (values.astype(np.int32) - self.zero).astype(np.float32) * np.float32(self.scale)

    def _order(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")


@dataclass(frozen=True)
class BareModel:
    """A model as firmware holds it; `steps` are the names of what runs in order, `arena_bytes` the memory it wants.

    `keeps`: whether something goes from one run to the next.
    """

    name: str
    target: str
    arena_bytes: int
    inputs: tuple[BareTensor, ...]
    outputs: tuple[BareTensor, ...]
    steps: tuple[str, ...]
    keeps: bool = False


def read_bare_model(elf: Elf, steps: Sequence[str], keeps: bool = False) -> BareModel:
    """The facts of the model in `elf`; `steps` are the names of what it runs, which are not stored there.

    `keeps`: whether something goes from one run to the next, which is not stored there either.

    Raises EdgepruneError: elf-invalid; firmware-facts where it runs more steps or fewer.
    """
    words = _MODEL.unpack(elf.read(elf.symbol("edge_model"), _MODEL.size))
    name, target, arena_bytes, input_count, inputs, output_count, outputs, step_count = words
    if step_count != len(steps):
        what = f"the library has {step_count} steps, and the package tells of {len(steps)}"
        raise EdgepruneError("firmware-facts", what, where="libmodel.a", hint="compile the package again")
    return BareModel(
        name=elf.text(name),
        target=elf.text(target),
        arena_bytes=arena_bytes,
        inputs=tuple(_tensor(elf, inputs + index * _TENSOR.size) for index in range(input_count)),
        outputs=tuple(_tensor(elf, outputs + index * _TENSOR.size) for index in range(output_count)),
        steps=tuple(steps),
        keeps=keeps,
    )


def _tensor(elf: Elf, address: int) -> BareTensor:
    name, dtype, rank, shape, size, scale, zero, offset = _TENSOR.unpack(elf.read(address, _TENSOR.size))
    sizes = struct.unpack(f"<{rank}i", elf.read(shape, 4 * rank)) if rank else ()
    return BareTensor(elf.text(name), elf.text(dtype), sizes, size, scale, zero, offset)
