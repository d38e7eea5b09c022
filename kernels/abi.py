"""What every kernel family takes and gives: views of memory, epilogues, and the built kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Format:
    """How a buffer stores real numbers: real = (stored - zero) * scale, where the buffer holds integers.

    A store rounds half to even and keeps to [low, high] in stored units, as ONNX QuantizeLinear does with the bounds
    of its type. `dtype` is as numpy names it; float32 is stored as it is, float16 as the nearest.
    """

    dtype: str = "float32"
    scale: float = 1.0
    zero: int = 0
    low: int = 0
    high: int = 0

    @property
    def quantized(self) -> bool:
        """Whether integers are stored."""
        return self.dtype not in ("float32", "float16")

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return np.dtype(self.dtype).itemsize


FLOAT32 = Format()
FLOAT16 = Format("float16")


@dataclass(frozen=True)
class View:
    """Where a batch of images lies in one buffer; every figure counts elements, not bytes.

    Element (n, c, y, x) is at `offset + n*batch_stride + c*channel_stride + y*row_stride + x*pixel_stride`.
    Channels-last images have `channel_stride` 1; planar images have `pixel_stride` 1. `offset` is that of the
    first interior element, so a halo of zeros, where the layout gives one, lies at negative y or x and beyond
    height and width; where integers are stored, its cells hold `format.zero`. A matrix (M, K) is an image of one
    row: height 1, width M, channels K.
    """

    batch: int
    channels: int
    height: int
    width: int
    offset: int
    batch_stride: int
    channel_stride: int
    row_stride: int
    pixel_stride: int
    format: Format = FLOAT32


@dataclass(frozen=True)
class Activation:
    """One elementwise step, named by its ONNX op (Relu, Clip, LeakyRelu, Sigmoid, ...), with its two parameters."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True)
class Residual:
    """Adds the values of one more input tensor, of the output's shape, seen through `view`."""

    view: View


@dataclass(frozen=True)
class Rounded:
    """The value becomes the nearest that `format` can store: a tensor that is quantized but never leaves registers."""

    format: Format


EpilogueStep = Activation | Residual | Rounded


LINE_BYTES = 64
"""A line of the cache, as on x86-64 and on the Arm cores that run Linux."""


@dataclass(frozen=True)
class Machine:
    """What a kernel chooser needs of the target: SIMD lanes (float32), number of vector registers, cache bytes.

    `dot` names how it multiplies integers: a row of kernels/integer/dot.py.
    """

    lanes: int
    registers: int
    l1_bytes: int
    l2_bytes: int
    dot: str = "pairs"

    def lanes_of(self, format: Format) -> int:
        """Values of `format` in one vector register."""
        return self.lanes * FLOAT32.itemsize // format.itemsize


@dataclass(frozen=True)
class Kernel:
    """A TensorIR function ready to compile.

    `func` takes plain pointers in this order: the inputs, the residuals in epilogue order, the constants, the
    outputs; then int32 `begin` and `end`. It does the units of work [begin, end) of `units`, which are
    independent, so threads split the range. `constants` are packed arrays of the dtypes that the function takes.
    `cycles` is what the cost model expects of one run on one core, 0 where there is no model. A kernel with
    `scratch_bytes` takes a pointer to that much memory of its own (4-byte aligned) between constants and outputs.
    `overlaps` has, for each input and residual in order, the largest d such that the output may begin d bytes after
    that argument's buffer begins (before it, where d is negative) and still never overwrite what is yet to be read,
    run in order by one thread; None where they must lie apart, which is also meant where it is shorter.
    """

    func: Any
    units: int
    constants: tuple[np.ndarray, ...] = ()
    label: str = ""
    macs: int = 0
    dense_macs: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    cycles: float = 0.0
    scratch_bytes: int = 0
    overlaps: tuple[int | None, ...] = ()
