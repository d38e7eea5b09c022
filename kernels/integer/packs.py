"""How x86 stores real numbers as narrow integers: vectors are packed into one register, where values saturate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.abi import Format
from edgeprune.kernels.script import let, shuffle
from edgeprune.kernels.storage import reciprocal
from edgeprune.kernels.vector_math import constant, lanes_of, minimum

_WORDS = 4
"""int32 elements of the 16 bytes within which instructions pack."""
_TO_INT16 = {4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512"}
_TO_BYTES = {
    ("int8", 8): "llvm.x86.sse2.packsswb.128",
    ("int8", 16): "llvm.x86.avx2.packsswb",
    ("int8", 32): "llvm.x86.avx512.packsswb.512",
    ("uint8", 8): "llvm.x86.sse2.packuswb.128",
    ("uint8", 16): "llvm.x86.avx2.packuswb",
    ("uint8", 32): "llvm.x86.avx512.packuswb.512",
}


def packs(format: Format) -> bool:
    """Whether the packs make what a buffer of `format` holds."""
    near = max(format.high - format.zero, format.zero - format.low) < 2**15
    return near and format.dtype in ("int8", "uint8", "int16")


def packed_together(format: Format) -> int:
    """The vectors of int32 that make one register of stored numbers."""
    return 4 // format.itemsize


def bounded_integer(value: Any, format: Format) -> Any:
    """`stored - zero` in int32 of a float32 expression, not beyond the upper bound; what is far below saturates later.

    The conversion makes the least int32 of what is too small for one.
    """
    scaled = minimum(value * constant(reciprocal(format), value), float(format.high - format.zero))
    return _call(f"int32x{lanes_of(value)}", "llvm.lrint", scaled)


def packed(vectors: Sequence[Any], format: Format) -> Any:
    """What a buffer of `format` holds of `bounded_integer`s, those of one vector after those of the one before.

    `vectors` are as many as `packed_together` says, of 4, 8 or 16 lanes each.
    """
    return in_turn(packed_in_blocks(vectors, format), len(vectors))


def packed_in_blocks(vectors: Sequence[Any], format: Format) -> Any:
    """As `packed`, 16 bytes of all of them in turn."""
    return _narrow(_shifted(vectors, format), format)


def within(held: Any, format: Format) -> Any:
    """Stored numbers not below the lower bound of `format`, where it is not that of the type."""
    if format.low == np.iinfo(format.dtype).min:
        return held
    return tirx.max(held, constant(format.low, held, format.dtype))


def shifted_int16(pair: Sequence[Any], format: Format) -> Any:
    """Two vectors of `bounded_integer`s as stored numbers in int16, 8 bytes of each in turn."""
    lanes = lanes_of(pair[0])
    half = _call(f"int16x{2 * lanes}", _TO_INT16[lanes], *pair)
    if not format.zero:
        return half
    return _call(f"int16x{2 * lanes}", "llvm.sadd.sat", half, constant(format.zero, half, "int16"))


def _shifted(vectors: Sequence[Any], format: Format) -> list[Any]:
    return [let(shifted_int16(vectors[i : i + 2], format)) for i in range(0, len(vectors), 2)]


def _narrow(halves: Sequence[Any], format: Format) -> Any:
    if len(halves) == 1:
        return within(halves[0], format)
    lanes = lanes_of(halves[0])
    return within(_call(f"{format.dtype}x{2 * lanes}", _TO_BYTES[format.dtype, lanes], *halves), format)


def in_turn(held: Any, vectors: int) -> Any:
    """The elements of packed `vectors` vectors, those of one after those of the one before."""
    kind, lanes = str(held.ty).partition("x")[0], lanes_of(held)
    words = lanes * np.dtype(kind).itemsize // 4
    blocks, each = words // _WORDS, _WORDS // vectors
    if blocks == 1:
        return held
    order = [
        block * _WORDS + vector * each + word
        for vector in range(vectors)
        for block in range(blocks)
        for word in range(each)
    ]
    return tirx.reinterpret(f"{kind}x{lanes}", shuffle([tirx.reinterpret(f"int32x{words}", held)], order))


def _call(dtype: str, name: str, *arguments: Any) -> Any:
    return tirx.call_llvm_pure_intrin(dtype, name, *arguments)
