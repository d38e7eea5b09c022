"""The lowered program: buffers, constants and an ordered list of calls, before addresses are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.kernels.abi import FLOAT32, Format


@dataclass(frozen=True)
class Port:
    """One model input or output as the user sees it: dense, row-major, `dtype` as numpy names it.

    Where `format` is of integers the buffer holds the numbers as it says, whatever `dtype` is.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: str
    format: Format = FLOAT32


@dataclass(frozen=True)
class Kept:
    """What the program keeps from one run to the next: `result` is `source` in the next run, in the first it is zero.

    Both are scratch memory. Where they are one buffer the program overwrites what it has read for the last time;
    else the result is copied at the end of a run.
    """

    source: Port
    result: Port

    @property
    def copied(self) -> bool:
        """Whether the end of a run copies."""
        return self.source.buffer != self.result.buffer


@dataclass(frozen=True)
class Buffer:
    """A piece of scratch memory that lives from its first to its last step; `size` in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Constant:
    """A packed array of numbers that kernels read, row-major; the library stores it in fewer bytes where it can."""

    name: str
    value: np.ndarray


@dataclass(frozen=True)
class Layer:
    """What `inspect` says of one call: its IR node, ONNX op, pattern, multiply-accumulates and kernel.

    `cycles` is what the kernel's cost model expects of one run on one core, 0 where it has none.
    """

    name: str
    op: str
    kernel: str
    pattern: str = ""
    density: float = 1.0
    macs: int = 0
    dense_macs: int = 0
    cycles: float = 0.0


@dataclass(frozen=True)
class Part:
    """The bytes [begin, end) of `buffer`."""

    buffer: str
    begin: int
    end: int


@dataclass(frozen=True)
class Call:
    """Run kernel `symbol` over [0, units); each argument names a port's buffer, a buffer or a constant.

    `overlaps` has the arguments that the result may overwrite while they are read, by name, and from how many bytes
    behind their beginning on. Of an argument that has one of `parts` the kernel touches nothing else, and is given the
    address where that begins; without `parts` every argument is whole.
    """

    symbol: str
    arguments: tuple[str, ...]
    writes: tuple[str, ...]
    units: int
    layer: Layer
    overlaps: tuple[tuple[str, int], ...] = ()
    parts: tuple[Part | None, ...] = ()


@dataclass(frozen=True)
class ClearHalo:
    """Fill the border of every image in `buffer`: `images` x `rows` x `columns` cells of `cell` bytes.

    `top`, `bottom` (rows), `left` and `right` (columns) count what is cleared at each side; every byte becomes `fill`.
    """

    buffer: str
    images: int
    rows: int
    columns: int
    cell: int
    top: int
    bottom: int
    left: int
    right: int
    fill: int = 0


Step = Call | ClearHalo


@dataclass(frozen=True)
class Plan:
    """A whole program. `functions` are the TensorIR functions to compile, by symbol; calls may share one.

    What is `kept` is no input and no output.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    buffers: tuple[Buffer, ...]
    constants: tuple[Constant, ...]
    steps: tuple[Step, ...]
    functions: dict[str, Any]
    kept: tuple[Kept, ...] = ()

    @property
    def ports(self) -> tuple[Port, ...]:
        """All that comes in from before a run or goes on after it."""
        states = tuple(port for state in self.kept for port in (state.source, state.result))
        return (*self.inputs, *self.outputs, *states)
