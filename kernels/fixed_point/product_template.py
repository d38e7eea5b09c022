"""The int8 product on cores with SMLAD as TensorIR: a tile of pixels is gathered once, then meets all channels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather import Gather, gather_tile, repeats, rolled, spread_counts
from edgeprune.kernels.fixed_point.product_assembly import HIDE_FUNCTION, Channels, channels_function, spread_function
from edgeprune.kernels.script import Memory, kernel_function, let, serial

DTYPES = ("int8", "int32", "int32", "int8", "int8")
"""x, stream, where each group begins in it, scratch, y."""


@lru_cache(maxsize=512)
def product_function(problem: Conv2d, tile: Channels) -> Any:
    """The PrimFunc of `problem`; a unit is a tile of output pixels."""
    loop = tile.loop
    gather = Gather(problem, loop.pixels, loop.packed)
    counts = sorted({repeats(words) for words in spread_counts(gather)})
    spreads = [spread_function(loop.pixels, count, loop.packed) for count in counts]
    functions = "\n".join([channels_function(tile), *spreads, HIDE_FUNCTION])

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        x, stream, begins, scratch, y = memories
        with script.attr(tirx.IntImm("int32", 0), "pragma_import_llvm", functions), serial(begin, end) as number:
            start = let(tirx.min(number * loop.pixels, problem.pixels - loop.pixels))
            with rolled(problem.groups) as group:
                gather_tile(gather, x, scratch, start, group)
                place = problem.y.offset + start * problem.y.pixel_stride + group * problem.group_outputs
                pointers = [
                    _address(stream, begins.load(group)),
                    _address(stream, begins.load(group + 1)),
                    _address(scratch, 0),
                    _address(y, place),
                ]
                script.evaluate(tirx.call_extern("int32", tile.name, *pointers))

    return kernel_function(DTYPES, body)


def _address(memory: Memory, index: Any) -> Any:
    return tirx.address_of(memory.buffer[index])
