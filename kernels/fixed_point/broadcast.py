"""int8 arithmetic of two inputs element by element, where one element of an input may serve many of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import Kernel
from edgeprune.kernels.fixed_point.rescaling import Held
from edgeprune.kernels.script import Memory


class Arithmetic(Protocol):
    """What is computed of two stored integers. Expressions are int32, constants are taken from `held`."""

    def __hash__(self) -> int:
        """Equal ones share a function."""

    def operand(self, side: int, stored: Any, held: Held) -> Any:
        """What the result is made of, from what is stored of input `side`."""

    def result(self, left: Any, right: Any, held: Held) -> Any:
        """The stored result of two operands."""


@dataclass(frozen=True)
class Spread:
    """Where element (i, j, ...) of an int8 array lies: at `offset` + i * strides[0] + j * strides[1] + ...

    An axis with stride 0 has one element for all indices.
    """

    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Loop:
    """`extent` elements, and how far apart they lie in the left input, the right one and the result."""

    extent: int
    strides: tuple[int, int, int]


def build_fixed_broadcast(
    arithmetic: Arithmetic, sizes: Sequence[int], left: Spread, right: Spread, y: Spread, label: str
) -> Kernel:
    """The kernel of y = `arithmetic` of left and right over `sizes`; y may lie on an input of the same strides.

    A unit is an entry of the outermost loop, in the order in which y lies in memory.
    """
    loops = _merged(sizes, (left.strides, right.strides, y.strides))
    func, constants = _function(arithmetic, loops, (left.offset, right.offset, y.offset))
    distances = tuple(
        side.offset - y.offset if all(loop.strides[number] == loop.strides[2] for loop in loops) else None
        for number, side in enumerate((left, right))
    )
    return Kernel(func, loops[0].extent, (constants,), label, overlaps=distances)


def _merged(sizes: Sequence[int], strides: tuple[tuple[int, ...], ...]) -> tuple[_Loop, ...]:
    """As few loops as go over all elements, in the order of the result; at least one."""
    axes = [_Loop(size, (a, b, c)) for size, a, b, c in zip(sizes, *strides, strict=True) if size > 1]
    merged: list[_Loop] = []
    for axis in sorted(axes, key=lambda axis: -axis.strides[2]):
        outer = merged[-1] if merged else None
        if outer and outer.strides == tuple(axis.extent * stride for stride in axis.strides):
            merged[-1] = _Loop(outer.extent * axis.extent, axis.strides)
        else:
            merged.append(axis)
    return tuple(merged or [_Loop(1, (1, 1, 1))])


@lru_cache(maxsize=256)
def _function(arithmetic: Arithmetic, loops: tuple[_Loop, ...], offsets: tuple[int, ...]) -> tuple[Any, np.ndarray]:
    """The function over (left, right, constants, y), and its constants."""
    constants = np.zeros(0, np.int32)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        nonlocal constants
        held, places = Held(memories[2]), (memories[0], memories[1], memories[3])

        def operand(side: int, at: Any) -> Any:
            return script.let(arithmetic.operand(side, tirx.Cast("int32", places[side].load(at)), held))

        def along(depth: int, first: Sequence[Any]) -> None:
            loop = loops[depth]
            last = depth == len(loops) - 1
            # What one element of an input gives to all of the innermost loop is computed before it.
            same = [operand(side, first[side]) if last and not loop.strides[side] else None for side in (0, 1)]
            with script.serial(*((begin, end) if depth == 0 else (0, loop.extent))) as index:
                here = [script.let(at + index * step) for at, step in zip(first, loop.strides, strict=True)]
                if not last:
                    along(depth + 1, here)
                    return
                left, right = (operand(side, here[side]) if same[side] is None else same[side] for side in (0, 1))
                result = script.let(arithmetic.result(left, right, held))
                places[2].store(here[2], tirx.Cast("int8", result))

        along(0, offsets)
        constants = held.array

    return script.kernel_function(["int8", "int8", "int32", "int8"], body), constants
