"""Products of int8 that add up in int16 before they go to int32: chains of words, for 64-bit Arm.

A word is a pair of elements. In the eight int16 lanes of a vector it meets the weights of four output channels, two
lanes each; the sums of a chain are added in pairs to those channels' int32. Weights are known, so it is known which
chains stay within int16 whatever the elements are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.integer.dot import Idiom
from edgeprune.kernels.script import Memory, let, local_array, shuffle, splat

MOST_VECTORS = 4
"""Of sums that a place may wait for."""
LOADS = (8, 16, 32, 64)
"""Bytes that are loaded at once."""

_VECTOR = "<8 x i16>"


def _spread(count: int) -> str:
    """The function `spread` of `count` words."""
    result, vectors = f"<{8 * count} x i16>", "{ " + ", ".join([_VECTOR] * count) + " }"
    head = f"define internal {result} @edgeprune_spread{count}(ptr %place) alwaysinline {{\n"
    if count == 1:
        return (
            f"{head}  %one = load i16, ptr %place, align 1\n"
            f"  %lane = insertelement {_VECTOR} poison, i16 %one, i32 0\n"
            f"  %all = shufflevector {_VECTOR} %lane, {_VECTOR} poison, {_order([0] * 8)}\n"
            f"  ret {result} %all\n}}\n"
        )
    load = f"@llvm.aarch64.neon.ld{count}r.v8i16.p0"
    lines = [f"declare {vectors} {load}(ptr)\n{head}  %words = call {vectors} {load}(ptr %place)\n"]
    lines += [f"  %word{i} = extractvalue {vectors} %words, {i}\n" for i in range(count)]
    lines += [_joined(f"word{i}", f"word{i + 1}", f"pair{i}", 8, 8) for i in range(0, count - 1, 2)]
    if count > 2:
        lines.append(_joined("pair0", "pair2" if count == 4 else "word2", "pairs", 16, 8 * (count - 2)))
    return "".join([*lines, f"  ret {result} %{'pairs' if count > 2 else 'pair0'}\n}}\n"])


def _joined(first: str, second: str, result: str, lanes: int, more: int) -> str:
    """The `more` lanes of `second`, not more than the `lanes` of `first`, behind those."""
    text, kind = "", f"<{lanes} x i16>"
    if more < lanes:
        order = _order([*range(more), *[0] * (lanes - more)])
        text = f"  %{second}wide = shufflevector <{more} x i16> %{second}, <{more} x i16> poison, {order}\n"
        second = f"{second}wide"
    order = _order(range(lanes + more))
    return f"{text}  %{result} = shufflevector {kind} %{first}, {kind} %{second}, {order}\n"


def _order(places: Sequence[int]) -> str:
    return f"<{len(places)} x i32> <{', '.join(f'i32 {place}' for place in places)}>"


def _next(count: int) -> str:
    """The function `next` of `count` sums."""
    sums, given = "".join(f", <4 x i32> %sum{i}" for i in range(count)), ",w" * count
    return (
        f"define internal ptr @edgeprune_next{count}(ptr %place, i64 %step{sums}) alwaysinline {{\n"
        "  %next = getelementptr i8, ptr %place, i64 %step\n"
        f'  %same = call ptr asm "", "=r,0{given}"(ptr %next{sums}) nounwind memory(none)\n'
        "  ret ptr %same\n}\n"
    )


SOURCE = (
    f"define internal {_VECTOR} @edgeprune_whole({_VECTOR} %vector) alwaysinline {{\n"
    f'  %same = call {_VECTOR} asm "", "=w,0"({_VECTOR} %vector) nounwind memory(none)\n'
    f"  ret {_VECTOR} %same\n}}\n"
    f"define internal {_VECTOR} @edgeprune_after({_VECTOR} %word, <4 x i32> %sum) alwaysinline {{\n"
    f'  %same = call {_VECTOR} asm "", "=w,0,w"({_VECTOR} %word, <4 x i32> %sum) nounwind memory(none)\n'
    f"  ret {_VECTOR} %same\n}}\n"
    + "".join(_spread(count) for count in range(1, 5))
    + "".join(
        f"define internal <{bytes} x i8> @edgeprune_load{bytes}(ptr %place, i64 %step) alwaysinline {{\n"
        "  %there = getelementptr i8, ptr %place, i64 %step\n"
        f"  %loaded = load <{bytes} x i8>, ptr %there, align 1\n"
        f"  ret <{bytes} x i8> %loaded\n}}\n"
        for bytes in LOADS
    )
    + "define internal i64 @edgeprune_way(ptr %list, i64 %step) alwaysinline {\n"
    "  %there = getelementptr i32, ptr %list, i64 %step\n"
    "  %narrow = load i32, ptr %there\n"
    "  %way = sext i32 %narrow to i64\n"
    "  ret i64 %way\n}\n"
    "define internal i64 @edgeprune_number(ptr %place) alwaysinline {\n"
    "  %number = ptrtoint ptr %place to i64\n"
    "  ret i64 %number\n}\n"
    "define internal ptr @edgeprune_pointer(i64 %number) alwaysinline {\n"
    "  %place = inttoptr i64 %number to ptr\n"
    "  ret ptr %place\n}\n"
    "define internal ptr @edgeprune_again(ptr %place) alwaysinline {\n"
    '  %same = call ptr asm sideeffect "", "=r,0"(ptr %place) nounwind\n'
    "  ret ptr %same\n}\n"
    "define internal i64 @edgeprune_unknown(i64 %value) alwaysinline {\n"
    '  %same = call i64 asm "", "=r,0"(i64 %value) nounwind memory(none)\n'
    "  ret i64 %same\n}\n" + "".join(_next(count) for count in range(MOST_VECTORS + 1))
)
"""LLVM text of what TensorIR has no name for.

`spread` loads some words, each into all lanes of a vector; `load` loads bytes. `next` is a place `step` bytes on, once
sums are known: it keeps the compiler from loading the words of all pixels at once, for which there are no registers. A
step that it does not know as a constant is added by the load itself; a `whole` vector, of which it does not know that
its halves are equal, goes into instructions that take its upper half. What is loaded from a place found `again` is not
kept from one turn of a loop to the next. `way` loads how far it is to another place; `number` and `pointer` make a
place a variable. A word `after` a sum is used no sooner than the sum is known.
"""


def place_of(memory: Memory, index: Any) -> Any:
    """The pointer to element `index`, of one byte."""
    return let(tirx.address_of(memory.buffer[index]))


@dataclass(frozen=True)
class Pointer:
    """A pointer that changes from one turn of a loop to the next."""

    number: Memory

    def load(self) -> Any:
        """The pointer as it is now."""
        return let(tirx.call_extern("handle", "edgeprune_pointer", self.number.load(0)))

    def store(self, place: Any) -> None:
        """Replace it."""
        self.number.store(0, tirx.call_extern("int64", "edgeprune_number", place))

    def move(self, count: int) -> None:
        """Let it point to `count` bytes further on."""
        self.number.store(0, self.number.load(0) + tirx.const(count, "int64"))


def pointer(place: Any) -> Pointer:
    """A pointer held in a register, at first to `place`."""
    found = Pointer(local_array(1, "int64"))
    found.store(place)
    return found


def way_at(place: Any, step: int = 0) -> Any:
    """The int32 that lies `step` of them on from the pointer `place`, as int64."""
    return let(tirx.call_extern("int64", "edgeprune_way", place, tirx.const(step, "int64")))


def again(place: Any) -> Any:
    """The same pointer, from which the compiler loads anew in every turn of a loop."""
    return let(tirx.call_extern("handle", "edgeprune_again", place))


def bytes_at(place: Any, step: int, count: int) -> Any:
    """The `count` int8 that lie `step` bytes on from the pointer `place`."""
    loaded = tirx.call_extern(f"int8x{count}", f"edgeprune_load{count}", place, tirx.const(step, "int64"))
    return held(loaded, "int8", count)


def unknown(step: int) -> Any:
    """A number of bytes in a register, of which the compiler knows nothing."""
    return let(tirx.call_extern("int64", "edgeprune_unknown", tirx.const(step, "int64")))


def next_place(place: Any, step: Any, totals: Sequence[Any]) -> Any:
    """The pointer `step` bytes on from `place`, once the vectors `totals` are known."""
    return let(tirx.call_extern("handle", f"edgeprune_next{len(totals)}", place, step, *totals))


def spread_words(place: Any, count: int) -> list[Any]:
    """The `count` words from the pointer `place` on, each everywhere in a vector of 16 bytes."""
    words = held(tirx.call_extern(f"int16x{8 * count}", f"edgeprune_spread{count}", place), "int16", 8 * count)
    return [tirx.reinterpret("int8x16", shuffle([words], range(8 * i, 8 * i + 8))) for i in range(count)]


def picked_words(place: Any, tables: int, codes: Any, count: int) -> list[Any]:
    """The first `count` words of the bytes that `codes` choose from `tables` vectors from the pointer `place` on."""
    loaded = bytes_at(place, 0, 16 * tables)
    window = [shuffle([loaded], range(16 * i, 16 * i + 16)) for i in range(tables)]
    name = f"llvm.aarch64.neon.tbl{tables}.v16i8"
    picked = tirx.call_llvm_pure_intrin("int8x16", name, *window, tirx.reinterpret("int8x16", codes))
    words = held(tirx.reinterpret("int16x8", picked), "int16", 8)
    everywhere = [splat(shuffle([words], [i]), 8) for i in range(count)]
    whole = [held(tirx.call_extern("int16x8", "edgeprune_whole", word), "int16", 8) for word in everywhere]
    return [tirx.reinterpret("int8x16", word) for word in whole]


def held(value: Any, dtype: str, lanes: int) -> Any:
    """A vector computed here and held in registers."""
    memory = local_array(lanes, dtype)
    memory.store(0, value, lanes)
    return memory.load(0, lanes)


def with_source() -> AbstractContextManager[Any]:
    """Within it, code may call what SOURCE defines."""
    return script.attr(tirx.const(0, "int32"), "pragma_import_llvm", SOURCE)


def chain_weights(place: Any, step: int, vectors: Sequence[int]) -> list[Any]:
    """The weights of one word from `step` bytes behind `place` on, two vectors of channels in each of 16 bytes."""
    found = []
    for first in range(0, len(vectors), 2):
        size = 2 * sum(vectors[first : first + 2])
        loaded = bytes_at(place, step, size)
        found.append(loaded if size == 16 else shuffle([loaded] * (16 // size), range(16)))
        step += size
    return found


def chained(
    total: Any, words: Sequence[Any], weights: Sequence[Any], vector: int, short: bool, idiom: Idiom
) -> tuple[Any, list[Any]]:
    """`total` of four channels plus the products of `words` with their `weights`, both vectors of 16 bytes.

    Even vectors of channels take the lower halves of them, odd ones the upper. `short` chains are of half as many: the
    second of them waits for the first, as there are no registers for both. With it the words for further vectors.
    """
    length = idiom.chained // 2 if short else idiom.chained
    half, left = range(8) if vector % 2 == 0 else range(8, 16), list(words)
    for start in range(0, len(words), length):
        if start:
            left[start] = _after(left[start], total)
        products = [
            tirx.Cast("int16x8", shuffle([weight], half)) * tirx.Cast("int16x8", shuffle([word], half))
            for word, weight in zip(left[start : start + length], weights[start : start + length], strict=True)
        ]
        chain = products[0]
        for product in products[1:]:
            chain = chain + product
        pairs = tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", chain)
        total = held(total + pairs, "int32", 4)
    return total, left


def _after(word: Any, total: Any) -> Any:
    """The same word, once the vector `total` is known."""
    waiting = tirx.call_extern("int16x8", "edgeprune_after", tirx.reinterpret("int16x8", word), total)
    return tirx.reinterpret("int8x16", held(waiting, "int16", 8))
