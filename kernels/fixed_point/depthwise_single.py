"""Depthwise convolution one product at a time, for cores without a dual multiply-accumulate (and for any other).

Padded rows lie in scratch as they are stored, channels last; weights are int16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder

from edgeprune.kernels import script
from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.depthwise_ring import Ring, offsets_of
from edgeprune.kernels.fixed_point.depthwise_scale import Folded, channel_words, finish, rounding
from edgeprune.kernels.fixed_point.gather import hidden
from edgeprune.kernels.fixed_point.gather_assembly import HIDE_FUNCTION
from edgeprune.kernels.fixed_point.rescaling import kept, whole
from edgeprune.kernels.script import Memory

_PIXELS = 6


def pack_single(folded: Folded) -> list[np.ndarray]:
    """Weights int16 [channel][tap], and int32 bias, value [and shift] of each channel."""
    return [folded.weights.astype(np.int16).ravel(), channel_words(folded).ravel()]


def single_function(problem: Depthwise, requantize: Requantize, shift: int | None) -> Any:
    """The function over (x, weights, channels, scratch, y); one unit is one image."""
    ring = Ring(problem)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        kernel = _Kernel(problem, ring, requantize, shift, *memories)
        hide = builder.attr(whole(0), "pragma_import_llvm", HIDE_FUNCTION)
        with hide, script.serial(begin, end) as image:
            ring.walk(image, lambda row, slot: kernel.take(image, row, slot), kernel.blank,
                      lambda row, slots: kernel.row(image, row, slots))  # fmt: skip

    return script.kernel_function(["int8", "int16", "int32", "int8", "int8"], body)


@dataclass(frozen=True)
class _Kernel:
    problem: Depthwise
    ring: Ring
    requantize: Requantize
    shift: int | None
    x: Memory
    weights: Memory
    entries: Memory
    scratch: Memory
    y: Memory

    @property
    def _slot_size(self) -> int:
        return self.ring.positions * self.problem.x.channels

    def blank(self, slot: Any) -> None:
        """A row of zeros."""
        self._fill(slot * self._slot_size, 0, self.ring.positions)

    def take(self, image: Any, row: Any, slot: Any) -> None:
        """An input row between the zeros beside it."""
        first, last = self.ring.columns
        base = script.let(slot * self._slot_size)
        self._fill(base, 0, first)
        self._fill(base, last, self.ring.positions)
        channels = self.problem.x.channels
        source = script.let(element(self.problem.x, image, 0, row, 0) - self.problem.pads[1] * channels)
        for start, vectors, width in script.vector_pieces((last - first) * channels, 4):
            with script.serial(0, vectors) as vector:
                index = first * channels + start + vector * width
                self.scratch.store(base + index, self.x.load(source + index, width), width)

    def _fill(self, base: Any, first: int, last: int) -> None:
        """Positions [first, last) of the slot at `base` hold zeros."""
        channels = self.problem.x.channels
        zero = tirx.IntImm("int8", self.problem.x.format.zero)
        with script.serial(first * channels, last * channels) as index:
            self.scratch.store(base + index, zero)

    def row(self, image: Any, row: Any, slots: Sequence[Any]) -> None:
        """One output row."""
        offsets = offsets_of(slots, self._slot_size)
        for start, tiles, size in script.tile_runs(self.problem.y.width, _PIXELS):
            with script.serial(0, tiles) as tile, script.serial(0, self.problem.y.channels) as channel:
                self._tile((image, channel, row, start + tile * size), offsets, size)

    def _tile(self, at: Sequence[Any], offsets: Sequence[Any], pixels: int) -> None:
        problem, (image, channel, row, column) = self.problem, at
        width = 2 if self.shift is not None else 3
        base = script.let(channel + column * (problem.strides[1] * problem.x.channels))
        filters = script.let(channel * problem.taps)
        bias = script.let(self.entries.load(channel * width))
        sums = [bias] * pixels
        reads = script.shared_reads(pixels, problem.kernel[1], problem.strides[1], problem.dilations[1])
        for tap_row, offset in enumerate(offsets):
            first = filters + tap_row * problem.kernel[1]
            taps = [_whole(self.weights.load(first + tap)) for tap in range(problem.kernel[1])]
            for position, uses in reads:
                value = _whole(self.scratch.load(base + (offset + position * problem.x.channels)))
                for pixel, tap in uses:
                    sums[pixel] = script.let(sums[pixel] + value * taps[tap])
        value = script.let(self.entries.load(channel * width + 1))
        last = script.let(self.entries.load(channel * width + 2)) if self.shift is None else None
        last = whole(rounding(self.requantize, self.shift)) if self.shift is not None else last
        for pixel, total in enumerate(sums):
            place = element(problem.y, image, channel, row, column + pixel)
            finish(self.y, place, kept(hidden(total)), value, last, self.requantize, self.shift)


def _whole(value: Any) -> Any:
    return script.let(tirx.Cast("int32", value))
