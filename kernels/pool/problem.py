"""What a pooling is, and where its windows begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import EpilogueStep, View
from edgeprune.kernels.epilogue import element, residuals
from edgeprune.kernels.script import Memory


@dataclass(frozen=True)
class Pool:
    """Maximum or average of a window (`kind` "max" or "average"), as ONNX defines it.

    Nothing is assumed of the memory around `x`. `pads` are (top, left, bottom, right); other pairs are (vertical,
    horizontal). Windows that ceil_mode lets hang over the padding show in the size of `y` alone. Both views are
    channels-last, or both planar; residuals have the layout of `y` and do not overlap it.
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
        return [script.FLOAT] * (2 + len(residuals(self.epilogue)))

    @property
    def identity(self) -> float:
        """The value that changes no result."""
        return float("-inf") if self.kind == "max" else 0.0

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
        if self.kind == "average":
            value = value * script.splat(reciprocal(count), lanes)
        value = script.finish(self.epilogue, value, memories[1:-1], at, lanes, along)
        memories[-1].store(element(self.y, *at), value, lanes)


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


def reciprocal(count: Any) -> Any:
    """One over an integer or int32 expression, as float32."""
    if isinstance(count, int):
        return 1.0 / count
    return script.let(tirx.FloatImm(script.FLOAT, 1.0) / tirx.Cast(script.FLOAT, count))
