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
from edgeprune.kernels.fixed_point.gather import blank, hidden, repeats, zero_halves
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
from edgeprune.kernels.fixed_point.shared_sizes import (
    FIELDS,
    WINDOW_FIELDS,
    Sizes,
    pixelwise,
    problem_sizes,
    stored,
    window,
)
from edgeprune.kernels.fixed_point.wide_weights import repeated_blocks
from edgeprune.kernels.script import Memory, kernel_function, let, serial

_TAIL_FIELDS = ("tail_from", "tail_to", "tail_shift")
_ZERO_FIELDS = ("odd_zero", "even_zero")


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
        return cls(tile, 1 if tail else repeats(problem.group_inputs // BLOCK), pixelwise(problem), tail)

    @property
    def fields(self) -> tuple[str, ...]:
        """The sizes in the order in which they are stored."""
        tail = _TAIL_FIELDS if self.tail else ()
        return (*FIELDS, *tail) if self.pointwise else (*FIELDS, *WINDOW_FIELDS, *_ZERO_FIELDS)

    @property
    def dtype(self) -> str:
        """How a size is stored."""
        return "int16" if self.narrow else "int32"


def shareable(problem: Conv2d) -> bool:
    """Whether channels come in whole blocks, or each output pixel reads one pixel of more than a block; none twice."""
    if repeated_blocks(problem):
        return False
    return problem.group_inputs % BLOCK == 0 or (pixelwise(problem) and problem.group_inputs > BLOCK)


def kind_and_sizes(problem: Conv2d, tile: Channels, zero: int, begins: np.ndarray) -> tuple[Kind, np.ndarray]:
    """The kind of `problem`, whose output's zero is `zero`, and its sizes, then where each group's stream begins."""
    kind = Kind.of(problem, tile)
    values = stored(_sizes(problem, kind, zero), kind.fields, begins)
    return replace(kind, narrow=values.dtype == np.int16), values


def _sizes(problem: Conv2d, kind: Kind, zero: int) -> dict[str, int]:
    odd, even = (_half(word) for word in zero_halves(problem.x.format.zero, kind.tile.loop.packed))
    return {
        **problem_sizes(problem, zero, BLOCK, kind.repeat),
        "odd_zero": odd,
        "even_zero": even,
        "tail_from": problem.group_inputs - BLOCK,
        "tail_to": problem.group_inputs // BLOCK * kind.tile.loop.block_bytes,
        "tail_shift": 8 * (-problem.group_inputs % BLOCK),
    }


def _half(word: int) -> int:
    """The int16 that a word holds twice."""
    return (word & 0xFFFF ^ 0x8000) - 0x8000


@dataclass(frozen=True)
class _Kernel:
    kind: Kind
    x: Memory
    stream: Memory
    size: Sizes
    scratch: Memory
    y: Memory


@lru_cache(maxsize=512)
def shared_function(kind: Kind) -> Any:
    """The PrimFunc of all problems of this kind; a unit is a tile of output pixels."""
    loop = kind.tile.loop
    functions = [channels_function(kind.tile), spread_function(loop.pixels, kind.repeat, loop.packed)]
    functions.append(blank_function(loop.block_bytes))
    functions += [tail_function(loop.pixels, loop.packed)] if kind.tail else []

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        x, stream, sizes, scratch, y = memories
        kernel = _Kernel(kind, x, stream, Sizes(sizes, kind.fields), scratch, y)
        with importing(functions), serial(begin, end) as number:
            start = let(tirx.min(number * loop.pixels, kernel.size("pixels") - loop.pixels))
            with serial(0, kernel.size("groups")) as group:
                first = let(kernel.size("x_offset") + group * kernel.size("inputs"))
                with serial(0, hidden(tirx.IntImm("int32", loop.pixels))) as pixel:
                    gather = _same if kind.pointwise else _window
                    gather(kernel, let(start + pixel), first, let(pixel * BLOCK))
                _channels(kernel, start, group)

    return kernel_function([*DTYPES[:2], kind.dtype, *DTYPES[3:]], body)


def _same(kernel: _Kernel, pixel: Any, first: Any, target: Any) -> None:
    place = let(first + pixel * kernel.size("x_pixel"))
    _spread(kernel, place, target, kernel.size("turns"))
    if kernel.kind.tail:
        loop, size = kernel.kind.tile.loop, kernel.size
        pointers = [_address(kernel.x, place + size("tail_from")), _address(kernel.scratch, target + size("tail_to"))]
        name = tail_name(loop.pixels, loop.packed)
        script.evaluate(tirx.call_extern("int32", name, *pointers, size("tail_shift")))


def _window(kernel: _Kernel, pixel: Any, first: Any, target: Any) -> None:
    def spread(place: Any, to: Any, turns: Any) -> None:
        _spread(kernel, place, to, turns)

    step = kernel.kind.tile.loop.block_bytes
    window(kernel.size, pixel, first, target, step, spread, lambda to: _blank(kernel, to))


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
    pointers = [
        _address(kernel.stream, kernel.size.begin(group)),
        _address(kernel.stream, kernel.size.begin(group + 1)),
        _address(kernel.scratch, 0),
        _address(kernel.y, place),
    ]
    tile = kernel.kind.tile
    doubled = [kernel.size("zero")] if tile.brief else []
    script.evaluate(tirx.call_extern("int32", tile.name, *pointers, *doubled, kernel.size("y_pixel")))


def _address(memory: Memory, index: Any) -> Any:
    return tirx.address_of(memory.buffer[index])
