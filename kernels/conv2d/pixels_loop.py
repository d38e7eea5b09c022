"""The multiply-adds of a list of entries in instructions of 64-bit Arm: output channels together over a tile of pixels.

The loop is unrolled over TURN entries and begun in the middle where a list is not a multiple of that long. What an
entry reads is loaded while the one before it is multiplied: after the last, its own values of x are read once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Template

from edgeprune.kernels.conv2d.lines import LANES, Load, loads_of

TURN = 8
"""Entries of one turn of the loop."""

REGISTERS = 32
_INSTRUCTION = 4
_VECTOR = 16
_NEXT_STEPS = "ldpsw ${even}, ${odd}, [${steps}], #8"
_AGAIN = ("subs ${turns}, ${turns}, #1", "b.ne 2b")


@dataclass(frozen=True)
class Loop:
    """The loop over a tile of `rows` x `vectors` vectors of pixels, for `together` output channels.

    Pixels of a row are read `stride` elements apart. Sums begin at the biases, or where they are `given` at the biases
    and what they have.
    """

    rows: int
    vectors: int
    together: int
    stride: int
    given: bool = False

    @cached_property
    def row(self) -> list[Load]:
        """The loads of one row."""
        return loads_of(self.vectors, self.stride)

    @property
    def pieces(self) -> int:
        """Loads of one entry."""
        return self.rows * len(self.row)

    @property
    def tile(self) -> int:
        """Vectors of one output channel."""
        return self.rows * self.vectors

    @property
    def sums(self) -> int:
        """Vectors of all output channels."""
        return self.tile * self.together

    @property
    def group(self) -> int:
        """Entries whose weights are loaded at once."""
        return LANES if self.together == 1 else max(1, 2 * LANES // self.together)

    @property
    def biases(self) -> int:
        """Values that come before a list's weights: its biases, repeated to fill a vector."""
        return max(LANES, self.together)

    @property
    def registers(self) -> int:
        """Vector registers that it takes."""
        return self.sums + max(2 * (self._loaded + self._weights), LANES)

    @property
    def _loaded(self) -> int:
        return max(load.registers for load in self.row)

    @property
    def _weights(self) -> int:
        return self.group * self.together // LANES

    @cached_property
    def places(self) -> list[int]:
        """Bytes from the loop's first instruction to that of each entry of a turn, and to what follows the loop."""
        sizes = [sum(1 for _ in self._entry(number)) for number in range(TURN)]
        ends = [*(sum(sizes[:number]) for number in range(TURN)), sum(sizes) + len(_AGAIN)]
        return [end * _INSTRUCTION for end in ends]

    @property
    def overhead(self) -> int:
        """Instructions of a list without entries."""
        return sum(1 for _ in self._begin())

    @property
    def turn(self) -> int:
        """Instructions of TURN entries."""
        return self.places[-1] // _INSTRUCTION

    def register(self, channel: int, vector: int) -> int:
        """Which register has the sum of one vector of the tile."""
        return channel * self.tile + vector if self.given else vector * self.together + channel

    def instructions(self) -> list[str]:
        """All of them.

        `${name}` stands for a general register: `place` of the tile's first input, `values` and `steps` where the
        list lies, `row` with the bytes from a row's last load to the next row; `turns`, `jump`, `even` and `odd` are
        written first.
        """
        return [*self._begin(), "2:", *(line for number in range(TURN) for line in self._entry(number)), *_AGAIN]

    def _begin(self) -> Iterator[str]:
        yield "ldpsw ${jump}, ${turns}, [${steps}], #8"
        yield "ldpsw ${odd}, ${even}, [${steps}], #8"
        yield from self._add_biases() if self.given else self._set_biases()
        yield "add ${place}, ${place}, ${odd}"
        if self.pieces % 2:
            yield self._load(0, 1)
        yield self._load(0, 0, self._onward(0, "even"))
        yield "adr ${odd}, 2f"
        yield "add ${jump}, ${jump}, ${odd}"
        yield _NEXT_STEPS
        yield from self._load_weights(1, moves=False)
        yield from self._load_weights(0)
        yield "br ${jump}"

    def _set_biases(self) -> Iterator[str]:
        """Every sum becomes its bias: a load repeats four values at most."""
        if self.together >= LANES:
            for first in range(0, self.together, LANES):
                starts = [self.register(first, vector) for vector in range(self.tile)]
                yield from (_repeat(start, LANES, start == starts[-1]) for start in starts)
            return
        rest = self.sums % LANES
        if rest:
            yield _repeat(self.sums - rest, rest, moves=False)
        yield from (_repeat(start, LANES, moves=False) for start in range(0, self.sums - rest, LANES))
        yield f"add ${{values}}, ${{values}}, #{_VECTOR}"

    def _add_biases(self) -> Iterator[str]:
        """Every sum grows by its bias."""
        for first in range(0, self.together, LANES):
            yield _repeat(self.sums, LANES, moves=True)
            for channel in range(first, min(first + LANES, self.together)):
                for vector in range(self.tile):
                    total = f"v{self.register(channel, vector)}.4s"
                    yield f"fadd {total}, {total}, v{self.sums + channel - first}.4s"

    def _entry(self, number: int) -> Iterator[str]:
        """Entry `number` of a turn, and the loads for what comes after it."""
        for piece, (first, load) in enumerate(self._pieces()):
            multiplied = self._multiply(number, piece, first, load.vectors)
            yield next(multiplied)
            after, buffer = (piece + 1) % self.pieces, (number * self.pieces + piece + 1) % 2
            yield self._load(after, buffer, self._onward(after, "odd" if number % 2 else "even"))
            if piece == self.pieces - 1:
                yield from self._prepare(number)
            yield from multiplied

    def _prepare(self, number: int) -> Iterator[str]:
        """The next steps after an odd entry, the next weights after the last of a group."""
        if number % 2:
            yield _NEXT_STEPS
        if number % self.group == self.group - 1:
            yield from self._load_weights((number // self.group + 1) % 2)

    def _pieces(self) -> Iterator[tuple[int, Load]]:
        """Every load of an entry with the first vector of the tile that it is for."""
        first = 0
        for load in self.row * self.rows:
            yield first, load
            first += load.vectors

    def _multiply(self, number: int, piece: int, first: int, vectors: int) -> Iterator[str]:
        loaded = self._buffer(number * self.pieces + piece)
        weights = self._weight_buffer(number // self.group)
        for channel in range(self.together):
            at = number % self.group * self.together + channel
            factor = f"v{weights + at // LANES}.s[{at % LANES}]"
            for vector in range(vectors):
                total = self.register(channel, first + vector)
                yield f"fmla v{total}.4s, v{loaded + vector * self.stride}.4s, {factor}"

    def _buffer(self, turn: int) -> int:
        return self.sums + turn % 2 * self._loaded

    def _weight_buffer(self, turn: int) -> int:
        return self.sums + 2 * self._loaded + turn % 2 * self._weights

    def _load(self, piece: int, turn: int, onward: str = "") -> str:
        """Load piece `piece` of an entry and move `place` onward."""
        load = self.row[piece % len(self.row)]
        return f"{load.instruction} {_names(self._buffer(turn), load.registers)}, [${{place}}]{onward}"

    def _onward(self, piece: int, step: str) -> str:
        """How far the load of a piece moves `place`; `step` has the bytes to the next entry."""
        if piece == self.pieces - 1:
            return f", ${{{step}}}"
        if (piece + 1) % len(self.row) == 0:
            return ", ${row}"
        return f", #{self.row[piece % len(self.row)].bytes}"

    def _load_weights(self, turn: int, moves: bool = True) -> Iterator[str]:
        first, count = self._weight_buffer(turn), self._weights
        if count == 1:
            yield f"ldr q{first}, [${{values}}]" + f", #{_VECTOR}" * moves
        for pair in range(0, count - 1, 2):
            at = f"[${{values}}], #{2 * _VECTOR}" if moves else f"[${{values}}, #{pair * _VECTOR}]"
            yield f"ldp q{first + pair}, q{first + pair + 1}, {at}"


def _repeat(first: int, count: int, moves: bool) -> str:
    """Fill `count` registers from `first` on with one value each."""
    return f"ld{count}r {_names(first, count)}, [${{values}}]" + f", #{_VECTOR}" * moves


def _names(first: int, count: int) -> str:
    return "{" + ", ".join(f"v{first + number}.4s" for number in range(count)) + "}"


_POINTERS = ("place", "values", "steps")
_CHANGED = (*_POINTERS, "turns", "jump", "even", "odd")
_KIND = "<4 x float>"


def source(loop: Loop) -> str:
    """LLVM text of `edgeprune_list(sums, place, values, steps, row)`: `loop` over sums that lie in memory, channel by
    channel."""
    sums = [loop.register(channel, vector) for channel in range(loop.together) for vector in range(loop.tile)]
    given, results = sums if loop.given else [], [*[_KIND] * loop.sums, *["ptr"] * 3, *["i64"] * 4]
    lines = [
        "define internal void @edgeprune_list(ptr %sums, ptr %place, ptr %values, ptr %steps, i64 %row) alwaysinline {"
    ]
    lines += [f"%at{i} = getelementptr i8, ptr %sums, i64 {i * _VECTOR}" for i in range(loop.sums)]
    lines += [f"%given{i} = load {_KIND}, ptr %at{i}, align 4" for i in range(len(given))]
    passed = [*(f"{_KIND} %given{i}" for i in range(len(given))), *(f"ptr %{name}" for name in _POINTERS), "i64 %row"]
    call = f'asm "{_assembly(loop)}", "{_constraints(loop, sums)}"({", ".join(passed)}) nounwind memory(read)'
    lines.append(f"%all = call {{ {', '.join(results)} }} {call}")
    for i in range(loop.sums):
        lines.append(f"%sum{i} = extractvalue {{ {', '.join(results)} }} %all, {i}")
        lines.append(f"store {_KIND} %sum{i}, ptr %at{i}, align 4")
    return "\n".join([*lines, "ret void", "}", ""])


def _constraints(loop: Loop, sums: Sequence[int]) -> str:
    written = [*(f"={{v{number}}}" for number in sums), *["=&r"] * len(_CHANGED)]
    read = [str(loop.sums + number) for number in range(len(_POINTERS))]
    if loop.given:
        read = [*map(str, range(loop.sums)), *read]
    lost = [f"~{{v{number}}}" for number in range(loop.sums, loop.registers)]
    return ",".join([*written, *read, "r", *lost, "~{cc}"])


def _assembly(loop: Loop) -> str:
    numbers = {name: str(loop.sums + number) for number, name in enumerate(_CHANGED)}
    inputs = (loop.sums if loop.given else 0) + len(_POINTERS)
    numbers["row"] = str(loop.sums + len(_CHANGED) + inputs)
    return "\\0A".join(
        Template(line).substitute({name: f"${at}" for name, at in numbers.items()}) for line in loop.instructions()
    )
