"""One function for all int8 products whose tiles are done alike: it reads the sizes of its problem from memory.

Code is half of what a small network takes in flash; with the sizes among the constants, layers share it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather import Gather, blank, hidden, repeats, zero_halves
from edgeprune.kernels.fixed_point.gather_assembly import (
    blank_function,
    spread_function,
    spread_name,
    tail_function,
    tail_name,
)
from edgeprune.kernels.fixed_point.product_assembly import Channels, channels_function
from edgeprune.kernels.fixed_point.product_loop import BLOCK
from edgeprune.kernels.fixed_point.product_template import DTYPES, importing
from edgeprune.kernels.fixed_point.rescaling import kept
from edgeprune.kernels.script import Memory, either, kernel_function, let, serial

_FIELDS = (
    "zero", "pixels", "groups", "inputs", "outputs", "x_offset", "x_pixel", "y_offset", "y_pixel", "turns",
)  # fmt: skip
_TAIL_FIELDS = ("tail_from", "tail_to", "tail_shift")
_WINDOW_FIELDS = (
    "words", "y_width", "y_height", "x_width", "x_height", "x_row", "x_batch", "rows", "columns", "down_stride",
    "right_stride", "down_dilation", "right_dilation", "top", "left", "runs", "run_turns", "run_words", "odd_zero",
    "even_zero",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What code depends on: `pointwise` problems read one pixel for each output pixel, in the same order.

    With `tail` a pixel's last block is not whole. Sizes are int16 where `narrow`, else int32.
    """

    tile: Channels
    repeat: int
    pointwise: bool
    tail: bool
    narrow: bool = True

    @classmethod
    def of(cls, problem: Conv2d, tile: Channels) -> Kind:
        """The kind of `problem`, with narrow sizes."""
        tail = problem.group_inputs % BLOCK > 0
        return cls(tile, 1 if tail else repeats(problem.group_inputs // BLOCK), _pixelwise(problem), tail)

    @property
    def fields(self) -> tuple[str, ...]:
        """The sizes in the order in which they are stored."""
        tail = _TAIL_FIELDS if self.tail else ()
        return (*_FIELDS, *tail) if self.pointwise else (*_FIELDS, *_WINDOW_FIELDS)

    @property
    def dtype(self) -> str:
        """How a size is stored."""
        return "int16" if self.narrow else "int32"


def shareable(problem: Conv2d) -> bool:
    """Whether channels come in whole blocks, or each output pixel reads one pixel of more than a block."""
    return problem.group_inputs % BLOCK == 0 or (_pixelwise(problem) and problem.group_inputs > BLOCK)


def _pixelwise(problem: Conv2d) -> bool:
    return problem.kernel == problem.strides == (1, 1) and not any(problem.halo())


def kind_and_sizes(problem: Conv2d, tile: Channels, zero: int, begins: np.ndarray) -> tuple[Kind, np.ndarray]:
    """The kind of `problem`, whose output's zero is `zero`, and its sizes, then where each group's stream begins."""
    kind = Kind.of(problem, tile)
    found = _sizes(problem, kind, zero)
    values = np.array([*(found[name] for name in kind.fields), *begins], np.int64)
    kind = replace(kind, narrow=bool(np.abs(values).max() < 2**15))
    return kind, values.astype(kind.dtype)


def _sizes(problem: Conv2d, kind: Kind, zero: int) -> dict[str, int]:
    x, y, words = problem.x, problem.y, problem.group_inputs // BLOCK
    gather = Gather(problem, kind.tile.loop.pixels, kind.tile.loop.packed)
    run_words = gather.run // BLOCK
    odd, even = (_half(word) for word in zero_halves(x.format.zero, kind.tile.loop.packed))
    return {
        "zero": 2 * zero + 1, "pixels": problem.pixels, "groups": problem.groups, "inputs": problem.group_inputs,
        "outputs": problem.group_outputs, "x_offset": x.offset, "x_pixel": x.pixel_stride, "y_offset": y.offset,
        "y_pixel": y.pixel_stride, "turns": words // kind.repeat, "words": words, "y_width": y.width,
        "y_height": y.height, "x_width": x.width, "x_height": x.height, "x_row": x.row_stride,
        "x_batch": x.batch_stride if x.batch > 1 else 0, "rows": problem.kernel[0], "columns": problem.kernel[1],
        "down_stride": problem.strides[0], "right_stride": problem.strides[1], "down_dilation": problem.dilations[0],
        "right_dilation": problem.dilations[1], "top": problem.pads[0], "left": problem.pads[1],
        "runs": gather.runs[1], "run_turns": run_words // kind.repeat, "run_words": run_words,
        "odd_zero": odd, "even_zero": even, "tail_from": problem.group_inputs - BLOCK,
        "tail_to": words * kind.tile.loop.block_bytes, "tail_shift": 8 * (-problem.group_inputs % BLOCK),
    }  # fmt: skip


def _half(word: int) -> int:
    """The int16 that a word holds twice."""
    return (word & 0xFFFF ^ 0x8000) - 0x8000


@dataclass(frozen=True)
class _Kernel:
    kind: Kind
    x: Memory
    stream: Memory
    sizes: Memory
    scratch: Memory
    y: Memory

    def size(self, name: str) -> Any:
        """One of the sizes."""
        return self.at(self.kind.fields.index(name))

    def at(self, index: Any) -> Any:
        """What is stored with the sizes at `index`."""
        return tirx.Cast("int32", self.sizes.load(index))


@lru_cache(maxsize=512)
def shared_function(kind: Kind) -> Any:
    """The PrimFunc of all problems of this kind; a unit is a tile of output pixels."""
    loop = kind.tile.loop
    functions = [channels_function(kind.tile), spread_function(loop.pixels, kind.repeat, loop.packed)]
    functions.append(blank_function(loop.block_bytes))
    functions += [tail_function(loop.pixels, loop.packed)] if kind.tail else []

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        kernel = _Kernel(kind, *memories)
        with importing(functions), serial(begin, end) as number:
            start = let(tirx.min(number * loop.pixels, kernel.size("pixels") - loop.pixels))
            with serial(0, kernel.size("groups")) as group:
                first = let(kernel.size("x_offset") + group * kernel.size("inputs"))
                with serial(0, hidden(tirx.IntImm("int32", loop.pixels))) as pixel:
                    gather = _same if kind.pointwise else _window
                    gather(kernel, let(start + pixel), first, let(pixel * BLOCK))
                _channels(kernel, start, group)

    x, stream, _, scratch, y = DTYPES
    return kernel_function([x, stream, kind.dtype, scratch, y], body)


def _same(kernel: _Kernel, pixel: Any, first: Any, target: Any) -> None:
    place = let(first + pixel * kernel.size("x_pixel"))
    _spread(kernel, place, target, kernel.size("turns"))
    if kernel.kind.tail:
        loop, size = kernel.kind.tile.loop, kernel.size
        pointers = [_address(kernel.x, place + size("tail_from")), _address(kernel.scratch, target + size("tail_to"))]
        name = tail_name(loop.pixels, loop.packed)
        script.evaluate(tirx.call_extern("int32", name, *pointers, size("tail_shift")))


def _window(kernel: _Kernel, pixel: Any, first: Any, target: Any) -> None:
    """All taps of one output pixel, in runs where they all lie in the image."""
    size, block_bytes = kernel.size, kernel.kind.tile.loop.block_bytes
    line, column = let(tirx.truncdiv(pixel, size("y_width"))), let(tirx.truncmod(pixel, size("y_width")))
    image, row = let(tirx.truncdiv(line, size("y_height"))), let(tirx.truncmod(line, size("y_height")))
    top, left = (
        let(row * size("down_stride") - size("top")),
        let(column * size("right_stride") - size("left")),
    )
    origin = let(first + image * size("x_batch"))
    below = top + (size("rows") - 1) * size("down_dilation")
    beside = left + (size("columns") - 1) * size("right_dilation")
    within = let(tirx.all(top >= 0, below < size("x_height"), left >= 0, beside < size("x_width")))
    names = (("runs", "columns"), ("run_words", "words"), ("run_turns", "turns"))
    columns, words, turns = (kept(tirx.Select(within, size(joined), size(apart))) for joined, apart in names)
    with serial(0, size("rows") * columns) as tap:
        tap_row = let(tirx.truncdiv(tap, columns))
        down = let(top + tap_row * size("down_dilation"))
        right = let(left + (tap - tap_row * columns) * size("right_dilation"))
        to = let(target + tap * words * block_bytes)
        place = origin + down * size("x_row") + right * size("x_pixel")
        inside = tirx.all(down >= 0, down < size("x_height"), right >= 0, right < size("x_width"))
        either(inside, lambda: _spread(kernel, place, to, turns), lambda: _blank(kernel, to))


def _spread(kernel: _Kernel, first: Any, target: Any, turns: Any) -> None:
    loop = kernel.kind.tile.loop
    name = spread_name(loop.pixels, kernel.kind.repeat, loop.packed)
    pointers = [_address(kernel.x, first), _address(kernel.scratch, target)]
    script.evaluate(tirx.call_extern("int32", name, *pointers, turns))


def _blank(kernel: _Kernel, target: Any) -> None:
    halves = [let(kernel.size(name)) for name in ("odd_zero", "even_zero")]
    words = [(half << 16) | (half & 0xFFFF) for half in halves]
    blank(kernel.scratch, target, words, kernel.size("words"), kernel.kind.tile.loop.block_bytes)


def _channels(kernel: _Kernel, start: Any, group: Any) -> None:
    place = kernel.size("y_offset") + start * kernel.size("y_pixel") + group * kernel.size("outputs")
    begin = len(kernel.kind.fields) + group
    pointers = [
        _address(kernel.stream, kernel.at(begin)),
        _address(kernel.stream, kernel.at(begin + 1)),
        _address(kernel.scratch, 0),
        _address(kernel.y, place),
    ]
    tile = kernel.kind.tile
    doubled = [kernel.size("zero")] if tile.brief else []
    script.evaluate(tirx.call_extern("int32", tile.name, *pointers, *doubled, kernel.size("y_pixel")))


def _address(memory: Memory, index: Any) -> Any:
    return tirx.address_of(memory.buffer[index])
