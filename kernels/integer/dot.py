"""What an instruction set does with a few stored elements and their weights: one row an idiom.

A word is 32 bits of `depth` consecutive elements of x; in every lane of a vector it meets the `depth` weights of one
output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.abi import Machine
from edgeprune.kernels.script import Memory, shuffle, splat
from edgeprune.kernels.vector_math import constant, lanes_of


@dataclass(frozen=True)
class Idiom:
    """One way to multiply and add.

    `storage` is the dtype of x and `depth` how many of its elements make a word. `wide_weights`: weights beyond int8
    may be stored as int16; else they are split into two entries. `latency` is the cycles from one sum to the next of
    the same register; `temporaries` the registers that it takes besides sums, weights and words; `multiplies` and
    `operations` the instructions of one product of vectors, the first on a multiplier; `widening` those that fetch a
    vector of int8 weights, where they must be widened.

    `multiply_add(total, words, weights)` is int32 of L lanes: `words` int32 of L lanes, `weights` L * depth integers.
    """

    storage: str
    depth: int
    wide_weights: bool
    latency: float
    temporaries: int
    multiplies: float
    operations: float
    widening: float
    multiply_add: Callable[[Any, Any, Any], Any]

    def word(self, memory: Memory, index: Any, lanes: int) -> Any:
        """The word of x from element `index` on, in each of `lanes` lanes."""
        if self.depth == 1:
            return splat(tirx.Cast("int32", memory.load(index)), lanes)
        return splat(tirx.reinterpret("int32", memory.load(index, self.depth)), lanes)

    @property
    def modes(self) -> tuple[str, ...]:
        """The ways to put words together: see `Part.mode`."""
        return {1: ("runs",), 2: ("runs", "pairs", "lanes"), 4: ("runs", "lanes")}[self.depth]

    @property
    def window(self) -> int:
        """Elements from which a lane can choose the `depth` of its word."""
        return 16 // np.dtype(self.storage).itemsize

    @property
    def codes(self) -> str:
        """What holds the places of one lane's elements in the window, side by side from the lowest bits on."""
        return "uint8" if self.depth == 2 else "uint16"

    @property
    def code_bits(self) -> int:
        """Bits of each place."""
        return self.window.bit_length() - 1

    def picked(self, memory: Memory, first: Any, second: Any, lanes: int) -> Any:
        """The word of two elements: that at `first` and the one after `second`."""
        halves = _vector("int16", 2 * lanes)
        words = [tirx.reinterpret(halves, self.word(memory, index, lanes)) for index in (first, second)]
        order = [lane + 2 * lanes * (lane % 2) for lane in range(2 * lanes)]
        return tirx.reinterpret(_vector("int32", lanes), shuffle(words, order))

    def gathered(self, memory: Memory, index: Any, places: Any, lanes: int) -> Any:
        """The words that each lane chooses from the window from element `index` on, by `expanded` codes."""
        window = tirx.reinterpret("int8x16", memory.load(index, self.window))
        everywhere = shuffle([window] * (lanes // 4), range(4 * lanes))
        return tirx.reinterpret(f"int32x{lanes}", _call(f"int8x{4 * lanes}", _GATHERS[lanes], everywhere, places))

    def expanded(self, codes: Any) -> Any:
        """The bytes of the window that each lane wants, of its code."""
        lanes = lanes_of(codes)
        code = tirx.Cast(f"int32x{lanes}", codes)
        if self.depth == 2:
            apart = (code | (code << _all(13, code))) & _all(0x00070007, code)
            elements = tirx.reinterpret(f"int16x{2 * lanes}", apart)
            double = constant(0x0202, elements, "int16")
            return tirx.reinterpret(f"int8x{4 * lanes}", elements * double + constant(0x0100, elements, "int16"))
        apart = (code | (code << _all(8, code))) & _all(0x00FF00FF, code)
        apart = (apart | (apart << _all(4, code))) & _all(0x0F0F0F0F, code)
        return tirx.reinterpret(f"int8x{4 * lanes}", apart)


def idiom_of(machine: Machine) -> Idiom:
    """The row of `machine`'s integer products."""
    return IDIOMS[machine.dot]


def weight_dtype(idiom: Idiom, values: np.ndarray) -> str:
    """The narrowest dtype that holds `values` for the idiom: int8, or int16 where it takes that."""
    bounds = np.iinfo(np.int8)
    fits = values.size == 0 or (values.min() >= bounds.min and values.max() <= bounds.max)
    return "int8" if fits or not idiom.wide_weights else "int16"


def _plain(total: Any, words: Any, weights: Any) -> Any:
    return total + words * tirx.Cast(_vector("int32", lanes_of(total)), weights)


_GATHERS = {4: "llvm.x86.ssse3.pshuf.b.128", 8: "llvm.x86.avx2.pshuf.b", 16: "llvm.x86.avx512.pshuf.b.512"}
_PAIRS = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


def _pairs(total: Any, words: Any, weights: Any) -> Any:
    lanes = lanes_of(total)
    halves = _vector("int16", 2 * lanes)
    wide = weights if str(weights.ty) == halves else tirx.Cast(halves, weights)
    return total + _call(f"int32x{lanes}", _PAIRS[lanes], tirx.reinterpret(halves, words), wide)


def _vnni(total: Any, words: Any, weights: Any) -> Any:
    lanes = lanes_of(total)
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    return _call(f"int32x{lanes}", name, total, tirx.reinterpret(f"int8x{4 * lanes}", words), weights)


def _bytes(total: Any, words: Any, weights: Any) -> Any:
    lanes = lanes_of(total)
    stored = tirx.Cast(f"int32x{4 * lanes}", tirx.reinterpret(f"uint8x{4 * lanes}", words))
    products = stored * tirx.Cast(f"int32x{4 * lanes}", weights)
    for place in range(4):
        total = total + tirx.Shuffle([products], [4 * lane + place for lane in range(lanes)])
    return total


IDIOMS: Mapping[str, Idiom] = {
    "generic": Idiom("int16", 1, True, 4.0, 2, 1, 2, 1, _plain),
    "pairs": Idiom("int16", 2, True, 1.0, 1, 1, 2, 1, _pairs),
    "vnni": Idiom("uint8", 4, False, 5.0, 0, 1, 1, 0, _vnni),
    "bytes": Idiom("uint8", 4, False, 5.0, 2, 8, 16, 4, _bytes),
}
"""By Machine.dot; `bytes` is the plain definition of `vnni`, for machines without it."""


def _all(value: int, like: Any) -> Any:
    return constant(value, like, "int32")


def _call(dtype: str, name: str, *arguments: Any) -> Any:
    return tirx.call_llvm_pure_intrin(dtype, name, *arguments)


def _vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
