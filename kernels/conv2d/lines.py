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


def _loading(function: str, instruction: str, count: int) -> str:
    """The function of that name, which loads `count` vectors by the intrinsic of `instruction`."""
    kind, head = "{ " + ", ".join([_VECTOR] * count) + " }", f"define internal <{count * LANES} x float>"
    text = f"{head} @edgeprune_{function}(ptr %place) alwaysinline {{\n"
    if count == 1:
        return text + f"  %all = load {_VECTOR}, ptr %place, align 4\n  ret {_VECTOR} %all\n}}\n"
    name = f"@llvm.aarch64.neon.{instruction}.v4f32.p0"
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


def _storing(function: str, instruction: str, count: int) -> str:
    """The function of that name, which stores `count` vectors by the intrinsic of `instruction`."""
    vectors = ", ".join(f"{_VECTOR} %part{i}" for i in range(count))
    text = f"define internal void @edgeprune_{function}(ptr %place, {vectors}) alwaysinline {{\n"
    if count == 1:
        return text + f"  store {_VECTOR} %part0, ptr %place, align 4\n  ret void\n}}\n"
    name = f"@llvm.aarch64.neon.{instruction}.v4f32.p0"
    head = f"declare void {name}({', '.join([_VECTOR] * count)}, ptr)\n"
    return f"{head}{text}  call void {name}({vectors}, ptr %place)\n  ret void\n}}\n"


SOURCE = (
    "".join(_loading(f"line{count}", f"ld1x{count}", count) for count in range(1, MOST_VECTORS + 1))
    + "".join(_storing(f"put{count}", f"st1x{count}", count) for count in range(1, MOST_VECTORS + 1))
    + _loading("unweave2", "ld2", 2)
    + _storing("weave2", "st2", 2)
    + "define internal ptr @edgeprune_beyond(ptr %place, i32 %bytes) alwaysinline {\n"
    "  %wide = sext i32 %bytes to i64\n"
    "  %there = getelementptr i8, ptr %place, i64 %wide\n"
    "  ret ptr %there\n}\n"
    "define internal i32 @edgeprune_opaque(i32 %value) alwaysinline {\n"
    '  %same = call i32 asm "", "=r,0"(i32 %value) nounwind memory(none)\n'
    "  ret i32 %same\n}\n"
)
"""LLVM text: `line` loads vectors from a place and `put` stores them, `unweave` and `weave` do so where vectors take
turns, element by element; `beyond` is a place some bytes on.

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


def run(function: str, *arguments: Any) -> None:
    """Call a function of the LLVM text that gives nothing back."""
    script.evaluate(tirx.call_extern("void", function, *arguments))


def opaque(bytes: int) -> Any:
    """A number of which the compiler knows nothing, in a register."""
    return let(tirx.call_extern("int32", "edgeprune_opaque", tirx.const(bytes, "int32")))


@dataclass(frozen=True)
class Load:
    """One load of `vectors` vectors from elements `stride` apart; the last element is followed by `stride - 1` more.

    Two vectors with a stride of 2 take turns: the first has pixels 0, 2, 4, 6, the other 1, 3, 5, 7.
    """

    vectors: int
    stride: int

    @property
    def registers(self) -> int:
        """Registers that are filled, of which one in `stride` counts."""
        return self.vectors * self.stride

    @property
    def bytes(self) -> int:
        """What it reads."""
        return self.registers * LANES * 4

    @property
    def instruction(self) -> str:
        """Its name."""
        return "ld1" if self.stride == 1 else f"ld{self.registers}"


def loads_of(vectors: int, stride: int) -> list[Load]:
    """The loads that make a line of `vectors` vectors, all but the last alike."""
    most = MOST_VECTORS // stride
    whole, rest = divmod(vectors, most)
    return [Load(most, stride)] * whole + [Load(rest, stride)] * (rest > 0)


@dataclass(frozen=True)
class Run:
    """`vectors` vectors of neighbours in memory; two that are `woven` take turns."""

    vectors: int
    woven: bool

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self.vectors * LANES * 4

    def first(self, vector: int) -> int:
        """The first of the pixels that a vector holds."""
        return vector if self.woven else vector * LANES

    def load(self, place: Any) -> list[Any]:
        """The vectors from the pointer `place` on."""
        function = f"edgeprune_{'unweave' if self.woven else 'line'}{self.vectors}"
        loaded = keep(tirx.call_extern(f"float32x{self.vectors * LANES}", function, place))
        if self.vectors == 1:
            return [loaded]
        return [shuffle([loaded], range(i * LANES, (i + 1) * LANES)) for i in range(self.vectors)]

    def store(self, place: Any, vectors: Sequence[Any]) -> None:
        """Write the vectors from the pointer `place` on."""
        run(f"edgeprune_{'weave' if self.woven else 'put'}{self.vectors}", place, *vectors)


def runs_of(vectors: int, stride: int) -> list[Run]:
    """How a line of results lies in memory that was computed of what `loads_of` says."""
    return [Run(load.vectors, stride == 2 and load.vectors == 2) for load in loads_of(vectors, stride)]
