"""Reading and writing what lies in a line: up to four vectors of 64-bit Arm at once, and the address moves on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.script import Memory, keep, let, shuffle

LANES = 4
MOST_VECTORS = 4
"""Of float32 that one instruction loads."""

_VECTOR = "<4 x float>"


def _line(count: int) -> str:
    """The function `line` of `count` vectors."""
    kind, head = "{ " + ", ".join([_VECTOR] * count) + " }", f"define internal <{count * LANES} x float>"
    text = f"{head} @edgeprune_line{count}(ptr %place) alwaysinline {{\n"
    if count == 1:
        return text + f"  %all = load {_VECTOR}, ptr %place, align 4\n  ret {_VECTOR} %all\n}}\n"
    name = f"@llvm.aarch64.neon.ld1x{count}.v4f32.p0"
    text += f"  %parts = call {kind} {name}(ptr %place)\n"
    text += "".join(f"  %part{i} = extractvalue {kind} %parts, {i}\n" for i in range(count))
    text += "".join(_widened(i, count) for i in range(count))
    for i in range(1, count):
        before = "%wide0" if i == 1 else f"%all{i - 1}"
        order = ", ".join(f"i32 {lane + (LANES * count if lane // LANES == i else 0)}" for lane in range(LANES * count))
        wide = f"<{LANES * count} x float>"
        text += f"  %all{i} = shufflevector {wide} {before}, {wide} %wide{i}, <{LANES * count} x i32> <{order}>\n"
    return f"declare {kind} {name}(ptr)\n{text}  ret <{LANES * count} x float> %all{count - 1}\n}}\n"


def _widened(part: int, count: int) -> str:
    """Part number `part` at its place in a vector of `count` parts, all else undefined."""
    order = ", ".join(f"i32 {lane % LANES}" if lane // LANES == part else "i32 poison" for lane in range(LANES * count))
    kind = f"<{LANES * count} x i32>"
    return f"  %wide{part} = shufflevector {_VECTOR} %part{part}, {_VECTOR} poison, {kind} <{order}>\n"


def _put(count: int) -> str:
    """The function `put` of `count` vectors."""
    vectors = ", ".join(f"{_VECTOR} %part{i}" for i in range(count))
    text = f"define internal void @edgeprune_put{count}(ptr %place, {vectors}) alwaysinline {{\n"
    if count == 1:
        return text + f"  store {_VECTOR} %part0, ptr %place, align 4\n  ret void\n}}\n"
    name = f"@llvm.aarch64.neon.st1x{count}.v4f32.p0"
    head = f"declare void {name}({', '.join([_VECTOR] * count)}, ptr)\n"
    return f"{head}{text}  call void {name}({vectors}, ptr %place)\n  ret void\n}}\n"


_BOTH = f"{{ {_VECTOR}, {_VECTOR} }}"

SOURCE = (
    "".join(_line(count) for count in range(1, MOST_VECTORS + 1))
    + f"declare {_BOTH} @llvm.aarch64.neon.ld2.v4f32.p0(ptr)\n"
    f"define internal {_VECTOR} @edgeprune_alternate(ptr %place) alwaysinline {{\n"
    f"  %both = call {_BOTH} @llvm.aarch64.neon.ld2.v4f32.p0(ptr %place)\n"
    f"  %even = extractvalue {_BOTH} %both, 0\n"
    f"  ret {_VECTOR} %even\n}}\n" + "define internal ptr @edgeprune_beyond(ptr %place, i32 %bytes) alwaysinline {\n"
    "  %wide = sext i32 %bytes to i64\n"
    "  %there = getelementptr i8, ptr %place, i64 %wide\n"
    "  ret ptr %there\n}\n"
    "define internal i32 @edgeprune_opaque(i32 %value) alwaysinline {\n"
    '  %same = call i32 asm "", "=r,0"(i32 %value) nounwind memory(none)\n'
    "  ret i32 %same\n}\n" + "".join(_put(count) for count in range(1, MOST_VECTORS + 1))
)
"""LLVM text: `line` loads vectors from a place, `alternate` every second element, `put` stores vectors; `beyond` is a
place some bytes on.

A number of bytes that is `opaque`, and so in a register, is added by the load or store before it.
"""


def with_source(more: str = "") -> AbstractContextManager[Any]:
    """Within it, code may call what SOURCE and the LLVM text `more` define."""
    return script.attr(tirx.const(0, "int32"), "pragma_import_llvm", SOURCE + more)


def place_of(memory: Memory, index: Any) -> Any:
    """The pointer to element `index`."""
    return let(tirx.address_of(memory.buffer[index]))


def beyond(place: Any, bytes: Any) -> Any:
    """The pointer `bytes` (int32) on from `place`."""
    return let(tirx.call_extern("handle", "edgeprune_beyond", place, bytes))


def put(place: Any, vectors: Sequence[Any]) -> None:
    """Store up to four vectors from the pointer `place` on."""
    run(f"edgeprune_put{len(vectors)}", place, *vectors)


def run(function: str, *arguments: Any) -> None:
    """Call a function of the LLVM text that gives nothing back."""
    script.evaluate(tirx.call_extern("void", function, *arguments))


def opaque(bytes: int) -> Any:
    """A number of which the compiler knows nothing, in a register."""
    return let(tirx.call_extern("int32", "edgeprune_opaque", tirx.const(bytes, "int32")))


@dataclass(frozen=True)
class Load:
    """One load of `vectors` vectors from elements `stride` apart; the last element is followed by `stride - 1` more."""

    vectors: int
    stride: int

    @property
    def bytes(self) -> int:
        """What it reads."""
        return self.vectors * LANES * 4 * self.stride

    def __call__(self, place: Any) -> list[Any]:
        """The vectors from the pointer `place` on."""
        if self.stride == 2:
            return [keep(tirx.call_extern("float32x4", "edgeprune_alternate", place))]
        loaded = keep(tirx.call_extern(f"float32x{self.vectors * LANES}", f"edgeprune_line{self.vectors}", place))
        if self.vectors == 1:
            return [loaded]
        return [shuffle([loaded], range(i * LANES, (i + 1) * LANES)) for i in range(self.vectors)]


def loads_of(vectors: int, stride: int) -> list[Load]:
    """The loads that make a line of `vectors` vectors, all but the last alike."""
    if stride == 2:
        return [Load(1, stride)] * vectors
    whole, rest = divmod(vectors, MOST_VECTORS)
    return [Load(MOST_VECTORS, stride)] * whole + [Load(rest, stride)] * (rest > 0)
