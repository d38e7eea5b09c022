"""One function for all int8 products on cores with Helium whose tiles are done alike: sizes come from memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather import hidden
from edgeprune.kernels.fixed_point.gather_mve import VectorGather
from edgeprune.kernels.fixed_point.product_mve_assembly import BLOCK, Tile, inlined
from edgeprune.kernels.fixed_point.product_template import DTYPES, importing
from edgeprune.kernels.fixed_point.shared_sizes import FIELDS, WINDOW_FIELDS, Sizes, problem_sizes, stored, window
from edgeprune.kernels.script import Memory, kernel_function, let, serial

_COPY, _FILL = "edge_vectors_copy", "edge_vectors_fill"
_USED = ("lr", "q0")


@dataclass(frozen=True)
class VectorKind:
    """What code depends on: pixels are read where they are (`direct`), or gathered; sizes int16 where `narrow`."""

    tile: Tile
    direct: bool
    narrow: bool = True

    @property
    def fields(self) -> tuple[str, ...]:
        """The sizes in the order in which they are stored; `loop_turns` are those of the loop over blocks."""
        return (*FIELDS, "loop_turns") if self.direct else (*FIELDS, *WINDOW_FIELDS, "x_zero", "loop_turns")

    @property
    def dtype(self) -> str:
        """How a size is stored."""
        return "int16" if self.narrow else "int32"


def vectors_shareable(problem: Conv2d) -> bool:
    """Whether channels come in whole vectors."""
    return problem.group_inputs % BLOCK == 0


def shared_turn(blocks: int) -> int:
    """Blocks in a turn of shared code: threes for kernels of 3x3, else twos."""
    return next((turn for turn in (3, 2) if blocks % turn == 0), 1)


def vector_kind(problem: Conv2d, tile: Tile, zero: int, begins: np.ndarray) -> tuple[VectorKind, np.ndarray]:
    """The kind of `problem`, whose output's zero is `zero`, and its sizes, then where each group's stream begins."""
    gather = VectorGather(problem, tile.pixels)
    kind = VectorKind(tile, gather.direct)
    found = problem_sizes(problem, zero, BLOCK, 1)
    found |= {"x_zero": problem.x.format.zero, "loop_turns": gather.blocks // (tile.blocks or 1)}
    values = stored(found, kind.fields, begins)
    return replace(kind, narrow=values.dtype == np.int16), values


@lru_cache(maxsize=512)
def shared_vector_function(kind: VectorKind) -> Any:
    """The PrimFunc of all problems of this kind; a unit is a tile of output pixels."""
    tile = kind.tile
    functions = [tile.function()] if kind.direct else [tile.function(), *_gathering(tile.block_step)]

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        x, stream, sizes, scratch, y = memories
        size = Sizes(sizes, kind.fields)
        with importing(functions), serial(begin, end) as number:
            start = let(tirx.min(number * tile.pixels, size("pixels") - tile.pixels))
            with serial(0, size("groups")) as group:
                first = let(size("x_offset") + group * size("inputs"))
                if not kind.direct:
                    with serial(0, hidden(tirx.IntImm("int32", tile.pixels))) as pixel:
                        _gather(kind, size, (x, scratch), let(start + pixel), first, let(pixel * BLOCK))
                inputs = _at(x, first + start * size("x_pixel")) if kind.direct else _at(scratch, 0)
                place = size("y_offset") + start * size("y_pixel") + group * size("outputs")
                pointers = [_at(stream, size.begin(group)), _at(stream, size.begin(group + 1)), inputs, _at(y, place)]
                _call(tile.name, *pointers, size("zero"), size("y_pixel"), size("loop_turns"))

    return kernel_function([*DTYPES[:2], kind.dtype, *DTYPES[3:]], body)


def _gather(kind: VectorKind, size: Sizes, memories: tuple[Memory, Memory], pixel: Any, first: Any, to: Any) -> None:
    x, scratch = memories

    def spread(place: Any, to: Any, turns: Any) -> None:
        _call(_COPY, _at(scratch, to), _at(x, place), turns)

    def blank(to: Any) -> None:
        _call(_FILL, _at(scratch, to), size("x_zero"), size("words"))

    window(size, pixel, first, to, kind.tile.block_step, spread, blank)


def _gathering(step: int) -> list[str]:
    """LLVM's text of what copies vectors to places `step` bytes apart, and of what fills these with one value."""
    store = ["vstrw.32 q0, [r0]", f"add r0, #{step}"] if step > 508 else [f"vstrw.32 q0, [r0], #{step}"]
    copy = ["dls lr, r2", "1:", "vldrb.u8 q0, [r1], #16", *store, "le lr, 1b"]
    fill = ["vdup.8 q0, r1", "dls lr, r2", "1:", *store, "le lr, 1b"]
    return [inlined(_COPY, ["ptr", "ptr", "i32"], copy, _USED), inlined(_FILL, ["ptr", "i32", "i32"], fill, _USED)]


def _at(memory: Memory, index: Any) -> Any:
    return tirx.address_of(memory.buffer[index])


def _call(name: str, *arguments: Any) -> None:
    script.evaluate(tirx.call_extern("int32", name, *arguments))
