"""int8 depthwise convolution on cores with Helium: sixteen channels at a time, padded rows as a ring in scratch.

Where an image has fewer channels than a vector has lanes, a divisor of them, several pixels share a vector.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder

from edgeprune.kernels import script
from edgeprune.kernels.abi import Kernel
from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.depthwise_mve_assembly import (
    COPY,
    FILL,
    LANES,
    ORDER,
    ROW,
    RowOfOutputs,
    row_functions,
)
from edgeprune.kernels.fixed_point.depthwise_ring import Ring
from edgeprune.kernels.fixed_point.pack_product import rescale
from edgeprune.kernels.fixed_point.product_template import importing
from edgeprune.kernels.script import Memory

_LARGEST = 2**31 - 1


def build_vector_depthwise(
    problem: Depthwise, weights: np.ndarray, bias: np.ndarray | None, requantize: Requantize
) -> Kernel | None:
    """The kernel of `problem`, None where this family does not compute it; arguments as of `build_fixed_depthwise`."""
    row, ring, wide = _row(problem, requantize), Ring(problem, phases=0), weights.astype(np.int64)
    start = (np.zeros(len(wide), np.int64) if bias is None else bias) - problem.x.format.zero * wide.sum(axis=1)
    dense = problem.x.pixel_stride == problem.x.channels
    reach = np.abs(start) + 128 * np.abs(wide).sum(axis=1)
    exact = _is_int8(wide) and _pairs_fit(wide) and reach.max(initial=0) << row.raised <= _LARGEST
    if not (row.possible and dense and exact):
        return None
    y = problem.y
    macs = y.batch * y.height * y.width * y.channels * problem.taps
    stream = _stream(problem, weights.astype(np.int8), start, requantize)
    return Kernel(
        _function(problem, row), y.batch, (stream,), "fixed depthwise vectors",
        macs, macs, scratch_bytes=_slot_bytes(ring) * ring.slots + LANES, overlaps=(ring.overlap(),),
    )  # fmt: skip


def _row(problem: Depthwise, requantize: Requantize) -> RowOfOutputs:
    x, y = problem.x, problem.y
    step = problem.strides[1] * x.channels
    flat = step < LANES and LANES % step == 0 and problem.strides[1] == 1 and y.pixel_stride == y.channels
    return RowOfOutputs(
        kernel=problem.kernel,
        vectors=-(-y.channels // LANES),
        tap=problem.dilations[1] * x.channels,
        step=LANES if flat else step,
        stride=LANES if flat else y.pixel_stride,
        size=y.width * y.channels if flat else y.channels,
        flat=flat,
        raised=_raised(requantize),
        zero=requantize.zero,
        low=requantize.low,
        high=requantize.high,
    )


def _raised(requantize: Requantize) -> int:
    """Bits by which sums are too few for the high word of a product to round them."""
    return max(0, 1 - int(rescale(requantize, packed=False).shifts.min(initial=1)))


def _is_int8(weights: np.ndarray) -> bool:
    return bool(weights.min(initial=0) >= -128 and weights.max(initial=0) <= 127)


def _pairs_fit(weights: np.ndarray) -> bool:
    """Whether any products of two taps that follow each other sum to an int16."""
    least, most = np.minimum(-128 * weights, 127 * weights), np.maximum(-128 * weights, 127 * weights)
    sums = [array[:, 0:-1:2] + array[:, 1::2] for array in (least, most)]
    return bool(sums[0].min(initial=0) >= -(2**15) and sums[1].max(initial=0) < 2**15)


def _slot_bytes(ring: Ring) -> int:
    return ring.positions * ring.problem.x.channels


def _stream(problem: Depthwise, weights: np.ndarray, start: np.ndarray, requantize: Requantize) -> np.ndarray:
    """What `RowOfOutputs` takes, int32: channels filled up to whole vectors, or repeated by pixels that share one."""
    scaled, raised = rescale(requantize, packed=False), _raised(requantize)
    channels, lanes = len(weights), np.arange(-(-len(weights) // LANES) * LANES)
    shares = channels < LANES and LANES % channels == 0
    lanes = lanes % channels if shares else np.minimum(lanes, channels - 1)
    parts = []
    for vector in lanes.reshape(-1, LANES):
        wide = [values[vector[list(ORDER)]].astype("<i4") for values in (start, scaled.values, -scaled.shifts - raised)]
        parts += [wide[0].tobytes(), weights[vector].T.tobytes(), wide[1].tobytes(), wide[2].tobytes()]
    return np.frombuffer(b"".join(parts), np.int32)


@lru_cache(maxsize=512)
def _function(problem: Depthwise, row: RowOfOutputs) -> Any:
    """The function over (x, stream, scratch, y); one unit is one image."""
    ring = Ring(problem, phases=0)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        kernel = _Rows(problem, ring, row, memories)
        with importing([row.function(), *row_functions()]):
            kernel.fill(0, ring.slots * _slot_bytes(ring))
            with script.serial(begin, end) as image:
                ring.walk(image, lambda source, slot: kernel.take(image, source, slot), kernel.blank,
                          lambda number, slots: kernel.outputs(image, number, slots))  # fmt: skip

    return script.kernel_function(["int8", "int32", "int8", "int8"], body)


class _Rows:
    """What is done with rows; columns beside the image are filled once."""

    def __init__(self, problem: Depthwise, ring: Ring, row: RowOfOutputs, memories: list[Memory]) -> None:
        self._problem, self._ring, self._row = problem, ring, row
        self._x, self._stream, self._scratch, self._y = memories

    def fill(self, first: Any, count: int) -> None:
        """`count` bytes of scratch become the input's zero."""
        _call(FILL, _address(self._scratch, first), self._problem.x.format.zero, count)

    def blank(self, slot: Any) -> None:
        """A row of zeros."""
        self.fill(slot * _slot_bytes(self._ring), _slot_bytes(self._ring))

    def take(self, image: Any, source: Any, slot: Any) -> None:
        """An input row between the zeros beside it."""
        (first, last), channels = self._ring.columns, self._problem.x.channels
        to = slot * _slot_bytes(self._ring) + first * channels
        where = element(self._problem.x, image, 0, source, first - self._problem.pads[1])
        _call(COPY, _address(self._scratch, to), _address(self._x, where), (last - first) * channels)

    def outputs(self, image: Any, number: Any, slots: Any) -> None:
        """A row of outputs from the slots of its rows of taps."""
        count = -(-self._row.size // LANES) if self._row.flat else self._problem.y.width
        rows = [_address(self._scratch, slot * _slot_bytes(self._ring)) for slot in slots]
        place = _address(self._y, element(self._problem.y, image, 0, number, 0))
        _call(ROW, _address(self._stream, 0), place, count, *rows)


def _call(name: str, *arguments: Any) -> None:
    builder.evaluate(tirx.call_extern("int32", name, *arguments))


def _address(memory: Memory, index: Any) -> Any:
    return tirx.address_of(memory.buffer[index])
