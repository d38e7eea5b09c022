"""What a pooling is, and where its windows begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script, vector_math
from edgeprune.kernels.abi import EpilogueStep, View
from edgeprune.kernels.epilogue import element, residuals
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import apart, converted, real, stored


@dataclass(frozen=True)
class Pool:
    """Maximum or average of a window (`kind` "max" or "average"), as ONNX defines it.

    Nothing is assumed of the memory around `x`. `pads` are (top, left, bottom, right); other pairs are (vertical,
    horizontal). Windows that ceil_mode lets hang over the padding show in the size of `y` alone. Both views are
    channels-last, or both planar; residuals have the layout of `y` and do not overlap it. Stored integers are
    compared as they are, and summed as whole numbers whose sum is scaled once; float16 is summed in float32.
    """

    x: View
    y: View
    kind: str
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    count_include_pad: bool
    epilogue: tuple[EpilogueStep, ...] = ()

    @property
    def dtypes(self) -> list[str]:
        """Types of the kernel's pointers (x, residuals..., y)."""
        views = (self.x, *(step.view for step in residuals(self.epilogue)), self.y)
        return [view.format.dtype for view in views]

    @property
    def partial_dtype(self) -> str:
        """The type of partial results: integers wide enough for any sum of a window, float32 for sums of float16."""
        held = self.x.format
        if self.kind == "max":
            return held.dtype
        if not held.quantized:
            return script.FLOAT
        largest = max(held.high - held.zero, held.zero - held.low)
        return "int16" if largest * self.kernel[0] * self.kernel[1] < 2**15 else "int32"

    def vector_lanes(self, lanes: int) -> int:
        """Partial results in a register of `lanes` float32 values."""
        return lanes * 4 // np.dtype(self.partial_dtype).itemsize

    def partials(self, vectors: int, lanes: int) -> Memory:
        """That many vectors of partial results, before anything is taken in."""
        memory = script.local_array(vectors * lanes, self.partial_dtype)
        self.clear(memory, vectors, lanes)
        return memory

    def clear(self, memory: Memory, vectors: int, lanes: int) -> None:
        """Make `memory` partial results before anything is taken in."""
        for vector in range(vectors):
            memory.store(vector * lanes, script.splat(self._identity, lanes), lanes)

    @property
    def _identity(self) -> Any:
        """The value that changes no result."""
        dtype = self.partial_dtype
        if not self.x.format.quantized:
            return tirx.const(float("-inf") if self.kind == "max" else 0.0, dtype)
        return tirx.const(int(np.iinfo(dtype).min) if self.kind == "max" else 0, dtype)

    def taken(self, value: Any) -> Any:
        """What a loaded value adds to a partial result, of the same type."""
        held = self.x.format
        if self.kind == "max":
            return value
        whole = converted(value, self.partial_dtype)
        return whole - vector_math.constant(held.zero, whole, self.partial_dtype) if held.zero else whole

    def combine(self, left: Any, right: Any) -> Any:
        """Two partial results as one."""
        return tirx.max(left, right) if self.kind == "max" else left + right

    def window(self, axis: int, output: Any) -> Window:
        """The taps of output row (`axis` 0) or column (1) `output`, an integer or an expression, inside the image."""
        stride, dilation, taps = self.strides[axis], self.dilations[axis], self.kernel[axis]
        first = output * stride - self.pads[axis]
        size = (self.x.height, self.x.width)[axis]
        low = larger(0, (dilation - 1 - first) // dilation)
        high = smaller(taps, (size - first + dilation - 1) // dilation)
        padded = smaller(taps, (size + self.pads[axis + 2] - first + dilation - 1) // dilation)
        return Window(first, low, high, padded if self.count_include_pad else high - low)

    def interior(self, axis: int) -> tuple[int, int]:
        """The outputs [first, last) of `axis` whose windows lie wholly inside the image."""
        size, outputs = (self.x.height, self.x.width)[axis], (self.y.height, self.y.width)[axis]
        reach = (self.kernel[axis] - 1) * self.dilations[axis]
        first = min(outputs, -(-self.pads[axis] // self.strides[axis]))
        last = (size - 1 - reach + self.pads[axis]) // self.strides[axis] + 1
        return first, max(first, min(outputs, last))

    def store(
        self, memories: Sequence[Memory], value: Any, count: Any, at: Sequence[Any], lanes: int, along: str
    ) -> None:
        """Write `lanes` results at (image, channel, row, column): an average divides by `count`."""
        held = self.x.format
        if self.kind == "max" and held == self.y.format and not self.epilogue:
            memories[-1].store(element(self.y, *at), value, lanes)
            return
        if self.kind == "average":
            value = converted(value, script.FLOAT) * script.splat(reciprocal(count, held.scale), lanes)
            value = apart(value) if held.quantized else value
        else:
            value = real(value, held)
        value = script.finish(self.epilogue, value, memories[1:-1], at, lanes, along)
        memories[-1].store(element(self.y, *at), stored(value, self.y.format), lanes)


@dataclass(frozen=True)
class Window:
    """One axis of a window: position of tap 0 in the image, taps [low, high) inside it, and how many count."""

    first: Any
    low: Any
    high: Any
    count: Any


def smaller(left: Any, right: Any) -> Any:
    """The minimum of two integers or int32 expressions."""
    return min(left, right) if isinstance(left, int) and isinstance(right, int) else tirx.min(left, right)


def larger(left: Any, right: Any) -> Any:
    """The maximum of two integers or int32 expressions."""
    return max(left, right) if isinstance(left, int) and isinstance(right, int) else tirx.max(left, right)


def reciprocal(count: Any, scale: float) -> Any:
    """`scale` over an integer or int32 expression, as float32."""
    if isinstance(count, int):
        return scale / count
    return script.let(tirx.FloatImm(script.FLOAT, scale) / tirx.Cast(script.FLOAT, count))
