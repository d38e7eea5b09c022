"""The int8 product one multiplication at a time, for cores without SMLAD and as its twin on any machine.

Two output channels times two pixels are summed at once, over the same blocks of four along the reduction as
elsewhere; blocks of zeros are skipped. Pixels whose elements do not lie in line are gathered to scratch first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.pack_product import Sums, rescale
from edgeprune.kernels.fixed_point.product_loop import BLOCK
from edgeprune.kernels.fixed_point.product_variant import first_channels, kept_blocks, reduction_blocks
from edgeprune.kernels.fixed_point.wide_weights import repeated_blocks
from edgeprune.kernels.script import Memory, either, kernel_function, let, local_array, serial

PLAIN_AT_ONCE = 2
"""Output channels, and pixels, whose sums are held at once."""

_RECORD = 3
_BLOCK_INSTRUCTIONS, _BLOCK_PER_MAC = 14.0, 1.5
_TILE_INSTRUCTIONS, _RESULT_INSTRUCTIONS = 40.0, 12.0
_ELEMENT_INSTRUCTIONS = 5.0


@dataclass(frozen=True)
class Plain:
    """A product done plainly; `sparse`: blocks are skipped; `wide`: results need all 64 bits, else the high word."""

    problem: Conv2d
    sparse: bool
    wide: bool
    zero: int
    low: int
    high: int

    @property
    def channels(self) -> int:
        """Output channels at once."""
        return min(PLAIN_AT_ONCE, self.problem.group_outputs)

    @property
    def pixels(self) -> int:
        """Output pixels at once."""
        return min(PLAIN_AT_ONCE, self.problem.pixels)

    @property
    def tiles(self) -> int:
        """Tiles of channels in a group."""
        return -(-self.problem.group_outputs // self.channels)

    @property
    def in_line(self) -> bool:
        """Whether the elements of a pixel follow each other in whole blocks as they are."""
        problem = self.problem
        at_places = problem.kernel == problem.strides == (1, 1) and not any(problem.halo())
        return at_places and problem.group_inputs % BLOCK == 0 and not repeated_blocks(problem)

    @property
    def early(self) -> int:
        """Channels of a group that are written before its input has been read for the last time."""
        firsts = first_channels(self.problem.group_outputs, self.channels)
        return int(firsts[-2]) + self.channels if self.in_line and len(firsts) > 1 else 0

    @property
    def patch(self) -> int:
        """Bytes of a pixel's elements."""
        return reduction_blocks(self.problem) * BLOCK

    @property
    def scratch_bytes(self) -> int:
        """Scratch for the pixels at once."""
        return 0 if self.in_line else self.patch * self.pixels


def pack_plain(plain: Plain, sums: Sums, requantize: Requantize) -> tuple[np.ndarray, ...]:
    """Weights int8 [blocks][channels][4], how many blocks are skipped before each as uint16, the first block of each
    tile int32 [tiles + 1], and start, value, shift of each channel."""
    kept = kept_blocks(sums.weights, plain.channels)
    if not plain.sparse:
        kept = np.ones_like(kept)
    words, firsts = np.moveaxis(sums.blocks(), 2, 3), first_channels(plain.problem.group_outputs, plain.channels)
    weights, skips, begins = [], [], [0]
    for group, tiles in enumerate(kept):
        for first, used in zip(firsts, tiles, strict=True):
            weights.append(words[group, used, first : first + plain.channels].ravel())
            skips.append(np.diff(np.flatnonzero(used), prepend=-1) - 1)
            begins.append(begins[-1] + int(used.sum()))
    factors = rescale(requantize, packed=False)
    shifts = factors.shifts + 32 if plain.wide else factors.shifts
    records = np.stack([sums.start(packed=False), factors.values, shifts], axis=1)
    index = np.concatenate(skips).astype(np.uint16) if plain.sparse else np.zeros(1, np.uint16)
    packed = np.concatenate([*weights, np.zeros(1, np.int64)]).astype(np.int8)
    return packed, index, np.array(begins, np.int32), records.astype(np.int32).ravel()


@dataclass(frozen=True)
class _Memories:
    x: Memory
    weights: Memory
    skips: Memory
    begins: Memory
    records: Memory
    scratch: Memory
    y: Memory


@lru_cache(maxsize=512)
def plain_function(plain: Plain) -> Any:
    """The PrimFunc; a unit is a tile of output pixels."""
    problem = plain.problem
    dtypes = ["int8", "int8", "uint16", "int32", "int32", *(["int8"] if plain.scratch_bytes else []), "int8"]

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        x, weights, skips, begins, records = memories[:5]
        own = _Memories(x, weights, skips, begins, records, memories[-2], memories[-1])
        with serial(begin, end) as number:
            start = let(tirx.min(number * plain.pixels, problem.pixels - plain.pixels))
            with serial(0, problem.groups) as group:
                if not plain.in_line:
                    with serial(0, plain.pixels) as pixel:
                        _gather(plain, own, let(start + pixel), group, let(pixel * plain.patch))
                with serial(0, plain.tiles) as tile:
                    _tile(plain, own, start, group, tile)

    return kernel_function(dtypes, body)


def _gather(plain: Plain, own: _Memories, pixel: Any, group: Any, patch: Any) -> None:
    """The elements of one pixel, in scratch from `patch` on."""
    problem, x = plain.problem, plain.problem.x
    width, height, inputs = problem.y.width, problem.y.height, problem.group_inputs
    line, column = let(tirx.truncdiv(pixel, width)), let(tirx.truncmod(pixel, width))
    image, row = let(tirx.truncdiv(line, height)), let(tirx.truncmod(line, height))
    origin = let(x.offset + image * x.batch_stride + group * inputs)
    with serial(0, problem.kernel[0]) as down, serial(0, problem.kernel[1]) as right:
        at = let(row * problem.strides[0] - problem.pads[0] + down * problem.dilations[0])
        beside = let(column * problem.strides[1] - problem.pads[1] + right * problem.dilations[1])
        first = let(patch + (down * problem.kernel[1] + right) * inputs)

        def copied() -> None:
            place = let(origin + at * x.row_stride + beside * x.pixel_stride)
            with serial(0, inputs) as channel:
                own.scratch.store(first + channel, own.x.load(place + channel))

        def filled() -> None:
            with serial(0, inputs) as channel:
                own.scratch.store(first + channel, tirx.const(x.format.zero, "int8"))

        either(tirx.all(at >= 0, at < x.height, beside >= 0, beside < x.width), copied, filled)
    repeated = repeated_blocks(problem)
    for number, block in enumerate(repeated, reduction_blocks(problem) - len(repeated)):
        own.scratch.store(patch + number * BLOCK, own.scratch.load(patch + block * BLOCK, BLOCK), BLOCK)


def _tile(plain: Plain, own: _Memories, start: Any, group: Any, tile: Any) -> None:
    """A tile of channels for the pixels at hand."""
    problem, channels, pixels = plain.problem, plain.channels, plain.pixels
    own_first = tirx.min(tile * channels, problem.group_outputs - channels)
    first, entry = let(group * problem.group_outputs + own_first), let(group * plain.tiles + tile)
    sums, skipped = local_array(channels * pixels, "int32"), local_array(1, "int32")
    for channel, pixel in product(range(channels), range(pixels)):
        sums.store(channel * pixels + pixel, own.records.load((first + channel) * _RECORD))
    begin, end = let(own.begins.load(entry)), let(own.begins.load(entry + 1))
    skipped.store(0, tirx.IntImm("int32", 0))
    with serial(begin, end) as block:
        if plain.sparse:
            skipped.store(0, skipped.load(0) + tirx.Cast("int32", own.skips.load(block)))
        element = let((block - begin + skipped.load(0)) * BLOCK)
        _block(plain, own, sums, start, group, block, element)
    for channel in range(channels):
        record = let((first + channel) * _RECORD)
        value, shift = let(own.records.load(record + 1)), let(own.records.load(record + 2))
        for pixel in range(pixels):
            result = _finished(plain, sums.load(channel * pixels + pixel), value, shift)
            own.y.store(problem.y.offset + (start + pixel) * problem.y.pixel_stride + first + channel, result)


def _block(plain: Plain, own: _Memories, sums: Memory, start: Any, group: Any, block: Any, element: Any) -> None:
    problem, channels, pixels = plain.problem, plain.channels, plain.pixels
    for offset in range(BLOCK):
        values = []
        for pixel in range(pixels):
            if plain.in_line:
                place = problem.x.offset + (start + pixel) * problem.x.pixel_stride + group * problem.group_inputs
                values.append(let(tirx.Cast("int32", own.x.load(place + element + offset))))
            else:
                values.append(let(tirx.Cast("int32", own.scratch.load(element + (pixel * plain.patch + offset)))))
        for channel in range(channels):
            at = (block * channels + channel) * BLOCK + offset
            factor = let(tirx.Cast("int32", own.weights.load(at)))
            for pixel, value in enumerate(values):
                sums.store(channel * pixels + pixel, sums.load(channel * pixels + pixel) + value * factor)


def _finished(plain: Plain, total: Any, value: Any, shift: Any) -> Any:
    product_ = tirx.Cast("int64", total) * tirx.Cast("int64", value)
    if plain.wide:
        half = tirx.const(1, "int64") << tirx.Cast("int64", shift - 1)
        rescaled = tirx.Cast("int32", (product_ + half) >> tirx.Cast("int64", shift))
    else:
        high = tirx.Cast("int32", product_ >> tirx.const(32, "int64"))
        rescaled = (high + (tirx.IntImm("int32", 1) << (shift - 1))) >> shift
    return tirx.Cast("int8", tirx.max(tirx.min(rescaled + plain.zero, plain.high), plain.low))


def plain_instructions(problem: Conv2d, kept: np.ndarray, channels: int) -> float:
    """Instructions that one run is expected to take on a Cortex-M3; `kept` as `kept_blocks` gives it."""
    pixels = min(PLAIN_AT_ONCE, problem.pixels)
    block = _BLOCK_INSTRUCTIONS + _BLOCK_PER_MAC * BLOCK * channels * pixels
    tiles = kept.shape[0] * kept.shape[1] * (_TILE_INSTRUCTIONS + _RESULT_INSTRUCTIONS * channels * pixels)
    gather = problem.groups * pixels * kept.shape[2] * BLOCK * _ELEMENT_INSTRUCTIONS
    return -(-problem.pixels // pixels) * (float(kept.sum()) * block + tiles + gather)
