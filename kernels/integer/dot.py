"""What an instruction set does with a few stored elements and their weights: one row an idiom.

A word is 32 bits of `depth` consecutive elements of x; in every lane of a vector it meets the `depth` weights of one
output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.abi import Format, Machine
from edgeprune.kernels.script import Memory, let, shuffle, splat
from edgeprune.kernels.storage import on_grid_integer, placed, reciprocal
from edgeprune.kernels.vector_math import constant, lanes_of


@dataclass(frozen=True)
class Vector:
    """A mode whose entries are of several words: `bytes` of elements that follow each other, every word a factor.

    Or of any in a window of `tables` vectors, which an instruction picks.
    """

    bytes: int
    tables: int = 0


VECTORS: Mapping[str, Vector] = {
    "vectors": Vector(16),
    "halves": Vector(8),
    "tables": Vector(16, 2),
    "wide tables": Vector(16, 4),
    "half tables": Vector(8, 2),
    "wide half tables": Vector(8, 4),
}
"""The modes of machines that take a lane as a factor."""


@dataclass(frozen=True)
class Idiom:
    """One way to multiply and add.

    `storage` is the dtype of x and `depth` how many of its elements make a word. `wide_weights`: weights beyond int8
    may be stored as int16; else they are split into two entries. `latency` is the cycles from one sum to the next of
    the same register; `temporaries` the registers that it takes besides sums, weights and words; `multiplies` and
    `operations` the instructions of one product of vectors, the first on a multiplier; `widening` those that fetch a
    vector of int8 weights, where they must be widened.

    `multiply_add(total, words, weights)` is int32 of L lanes: `words` int32 of L lanes, `weights` L * depth integers.
    `factor(vector, word, lanes)` is word `word` of a vector of x as the words of `multiply_add`, where that is free:
    instructions take a lane as their factor. `chained` words add up in int16 before they go to int32: see `chain`.
    `packs`: results are packed as x86 does.
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
    factor: Callable[[Any, int, int], Any] | None = None
    chained: int = 0
    packs: bool = False

    def word(self, memory: Memory, index: Any, lanes: int) -> Any:
        """The word of x from element `index` on, in each of `lanes` lanes."""
        if self.depth == 1:
            return splat(tirx.Cast("int32", memory.load(index)), lanes)
        return splat(tirx.reinterpret("int32", memory.load(index, self.depth)), lanes)

    @property
    def modes(self) -> tuple[str, ...]:
        """The ways to put words together: see `Part.mode`."""
        if self.chained:
            return tuple(mode for mode in VECTORS if self.words(mode) == self.chained)
        if self.factor is not None:
            return ("runs", *VECTORS)
        return {1: ("runs",), 2: ("runs", "pairs", "lanes"), 4: ("runs", "lanes")}[self.depth]

    def words(self, mode: str) -> int:
        """The words of an entry."""
        return VECTORS[mode].bytes // self.word_bytes if mode in VECTORS else 1

    @property
    def word_bytes(self) -> int:
        """The size of a word as it is stored."""
        return self.depth * np.dtype(self.storage).itemsize

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

    def picked_from(self, window: Sequence[Any], codes: Any) -> Any:
        """The vector of x whose bytes `codes` choose from those of `window`, vectors that follow each other."""
        name = f"llvm.aarch64.neon.tbl{len(window)}.v16i8"
        chosen = _call("int8x16", name, *window, tirx.reinterpret("int8x16", codes))
        return tirx.reinterpret(f"{self.storage}x{self.window}", chosen)

    def weights(self, memory: Memory, index: Any, vectors: Sequence[int]) -> list[Any]:
        """The weights of one word from `index` on, for each of `vectors`."""
        found = []
        for lanes in vectors:
            found.append(let(memory.load(index, lanes * self.depth)))
            index = index + lanes * self.depth
        return found

    def rounded(self, value: Any, format: Format) -> Any:
        """What a float32 expression is on the grid of `format`, in integers that `placed` brings within its bounds."""
        lanes = lanes_of(value)
        if self.factor is None or lanes != 4 or not _narrow(format):
            return on_grid_integer(value, format)
        scaled = value * constant(reciprocal(format), value)
        return _call("int32x4", "llvm.aarch64.neon.fcvtns.v4i32.v4f32", scaled)

    def placed(self, whole: Any, format: Format) -> Any:
        """What a buffer of `format` holds of `rounded` integers."""
        if self.factor is None or lanes_of(whole) < 4 or not _narrow(format):
            return placed(whole, format)
        return saturated(whole, format)

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


def _sdot(total: Any, words: Any, weights: Any) -> Any:
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    return _call("int32x4", name, total, weights, tirx.reinterpret("int8x16", words))


def _lane(vector: Any, word: int, lanes: int) -> Any:
    words = tirx.reinterpret(_vector("int32", lanes_of(vector) // 4), vector)
    return splat(shuffle([words], [word]), lanes)


def _narrow(format: Format) -> bool:
    return max(format.high - format.zero, format.zero - format.low) < 2**15


def saturated(whole: Any, format: Format) -> Any:
    """What a buffer of `format` holds of int32 `stored - zero` that may lie beyond its bounds, by saturating."""
    lanes = lanes_of(whole)
    half = tirx.Cast(f"int16x{lanes}", _within(whole, -(2**15), 2**15 - 1, "int32"))
    bounds = np.iinfo(format.dtype)
    if (format.dtype, format.zero, format.low, format.high) == ("int8", bounds.min, bounds.min, bounds.max):
        unsigned = tirx.Cast(f"uint8x{lanes}", _within(half, 0, 255, "int16"))
        return tirx.reinterpret(f"int8x{lanes}", unsigned ^ constant(128, unsigned, "uint8"))
    if (format.low, format.high) != (bounds.min, bounds.max):
        half = _within(half, format.low - format.zero, format.high - format.zero, "int16")
    if format.zero:
        half = _call(f"int16x{lanes}", "llvm.sadd.sat", half, constant(format.zero, half, "int16"))
    if format.itemsize == 2:
        return half
    half = _within(half, int(bounds.min), int(bounds.max), "int16")
    return tirx.Cast(f"{format.dtype}x{lanes}", half)


def _within(value: Any, low: int, high: int, dtype: str) -> Any:
    return tirx.min(tirx.max(value, constant(low, value, dtype)), constant(high, value, dtype))


IDIOMS: Mapping[str, Idiom] = {
    "generic": Idiom("int16", 1, True, 4.0, 2, 1, 2, 1, _plain),
    "pairs": Idiom("int16", 2, True, 1.0, 1, 1, 2, 1, _pairs, packs=True),
    "vnni": Idiom("uint8", 4, False, 5.0, 0, 1, 1, 0, _vnni, packs=True),
    "bytes": Idiom("uint8", 4, False, 5.0, 2, 8, 16, 4, _bytes),
    "smull": Idiom("int8", 2, False, 1.0, 0, 1, 1, 0, _plain, _lane, chained=4),
    "sdot": Idiom("int8", 4, False, 1.0, 0, 1, 1, 0, _sdot, _lane),
}
"""By Machine.dot; `bytes` is the plain definition of `vnni`, for machines without it."""


def _all(value: int, like: Any) -> Any:
    return constant(value, like, "int32")


def _call(dtype: str, name: str, *arguments: Any) -> Any:
    return tirx.call_llvm_pure_intrin(dtype, name, *arguments)


def _vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
