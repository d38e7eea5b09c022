"""The int8 product on cores with SMLAD as TensorIR: a tile of pixels is gathered once, then meets all channels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather import Gather, gather_tile, hidden, repeats, rolled, spread_counts
from edgeprune.kernels.fixed_point.gather_assembly import (
    HIDE_FUNCTION,
    blank_function,
    fill_function,
    spread_function,
)
from edgeprune.kernels.fixed_point.gather_lines import Lines
from edgeprune.kernels.fixed_point.product_assembly import Channels, channels_function
from edgeprune.kernels.script import Memory, kernel_function, let, local_array, serial

DTYPES = ("int8", "int32", "int32", "int8", "int8")
"""x, stream, where each group begins in it and twice the output's zero plus one, scratch, y."""


@lru_cache(maxsize=512)
def product_function(problem: Conv2d, tile: Channels) -> Any:
    """The PrimFunc of `problem`; a unit is a tile of output pixels, or a row where inputs lie in lines."""
    return _by_rows(problem, tile) if tile.loop.line else _by_tiles(problem, tile)


def _by_tiles(problem: Conv2d, tile: Channels) -> Any:
    loop = tile.loop
    gather = Gather(problem, loop.pixels, loop.packed)
    counts = sorted({repeats(words) for words in spread_counts(gather)})
    spreads = [spread_function(loop.pixels, count, loop.packed) for count in counts]
    spreads.append(blank_function(loop.block_bytes))

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        x, scratch = memories[0], memories[3]
        with importing([channels_function(tile), *spreads]), serial(begin, end) as number:
            start = tile_start(number, problem.pixels, loop.pixels)
            with rolled(problem.groups) as group:
                gather_tile(gather, x, scratch, start, group)
                _channels(problem, tile, memories, start, group, 0)

    return kernel_function(DTYPES, body)


def _by_rows(problem: Conv2d, tile: Channels) -> Any:
    lines, width, pixels = Lines(problem, tile.loop.packed), problem.y.width, tile.loop.pixels

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        x, scratch = memories[0], memories[3]
        with importing([channels_function(tile), lines.spread.function(), fill_function(4)]):
            lines.blank(scratch)
            with serial(begin, end) as number, rolled(problem.groups) as group:
                image, row = let(tirx.truncdiv(number, problem.y.height)), let(tirx.truncmod(number, problem.y.height))
                lines.gather(x, scratch, image, row, group)
                with rolled(-(-width // pixels)) as part:
                    column = tile_start(part, width, pixels)
                    _channels(problem, tile, memories, number * width + column, group, column * 4)

    return kernel_function(DTYPES, body)


def importing(functions: list[str]) -> Any:
    """A scope in which these LLVM functions may be called."""
    return script.attr(tirx.IntImm("int32", 0), "pragma_import_llvm", "\n".join([*functions, HIDE_FUNCTION]))


def _channels(problem: Conv2d, tile: Channels, memories: list[Memory], pixel: Any, group: Any, inputs: Any) -> None:
    """All channels of a group for the tile from output `pixel` on, whose inputs begin `inputs` bytes into scratch."""
    _, stream, begins, scratch, y = memories
    place = problem.y.offset + pixel * problem.y.pixel_stride + group * problem.group_outputs
    pointers = [
        _address(stream, begins.load(group)),
        _address(stream, begins.load(group + 1)),
        _address(scratch, inputs - tile.loop.first_step),
        _address(y, place),
    ]
    doubled = [begins.load(problem.groups + 1)] if tile.brief else []
    script.evaluate(tirx.call_extern("int32", tile.name, *pointers, *doubled))


def tile_start(number: Any, size: int, tile: int) -> Any:
    """Where tile `number` begins, the last no later than it must; LLVM does not see for which that is."""
    if size % tile == 0:
        return let(number * tile)
    held = local_array(1, "int32")
    held.store(0, tirx.min(hidden(number) * tile, size - tile))
    return held.load(0)


def _address(memory: Memory, index: Any) -> Any:
    return tirx.address_of(memory.buffer[index])
