"""The integer kernel as TensorIR: vectors of int32 run along output channels, each word of x is broadcast.

A tile of output pixels times a block of output channels stays in registers while the block's entries pass by: per
entry one offset and the block's weights are loaded, and one word of x for each pixel. Entries that hold only zeros
are not stored, so time falls with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.abi import Residual
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.epilogue import residuals
from edgeprune.kernels.integer.chain import (
    chain_weights,
    chained,
    next_place,
    picked_words,
    place_of,
    spread_words,
    unknown,
    with_source,
)
from edgeprune.kernels.integer.dot import IDIOMS, VECTORS, Idiom
from edgeprune.kernels.integer.entries import VECTOR_BYTES
from edgeprune.kernels.integer.finish import finished, needed, scaled
from edgeprune.kernels.integer.packing import Layout
from edgeprune.kernels.integer.variant import Part, Variant
from edgeprune.kernels.integer.walk import Block, Tile, walk
from edgeprune.kernels.script import Memory, kernel_function, let, local_array, serial, shuffle, splat
from edgeprune.kernels.vector_math import lanes_of


@dataclass(frozen=True)
class _Buffers:
    x: Memory
    residuals: tuple[Memory, ...]
    weights: Memory
    offsets: Memory
    table: Memory
    scales: Memory
    bias: Memory | None
    codes: Memory | None
    y: Memory


@dataclass(frozen=True)
class _Sums:
    """The accumulators of a tile, which LLVM keeps in registers: for each chain, pixel and vector of the block one."""

    memory: Memory
    pixels: int
    vectors: tuple[int, ...]

    def _place(self, chain: int, pixel: int, vector: int) -> int:
        return (chain * self.pixels + pixel) * sum(self.vectors) + sum(self.vectors[:vector])

    def load(self, chain: int, pixel: int, vector: int) -> Any:
        """One vector of sums."""
        return self.memory.load(self._place(chain, pixel, vector), self.vectors[vector])

    def store(self, chain: int, pixel: int, vector: int, value: Any) -> None:
        """Replace one vector of sums."""
        self.memory.store(self._place(chain, pixel, vector), value, self.vectors[vector])


@dataclass(frozen=True)
class _Entry:
    """The entry at hand: its places in x, and where its weights and codes begin; `second`, of the second kind."""

    places: Sequence[Any]
    weights: Any
    codes: Any
    second: bool


@dataclass(frozen=True)
class _Kernel:
    problem: Conv2d
    idiom: Idiom
    layout: Layout
    sections: int
    buffers: _Buffers


@lru_cache(maxsize=512)
def integer_function(problem: Conv2d, variant: Variant, layout: Layout) -> Any:
    """The PrimFunc of `problem` done as `variant` says, on constants of `layout`."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        kernel = _Kernel(problem, IDIOMS[variant.dot], layout, variant.sections, _buffers(problem, layout, memories))
        with _surroundings(kernel.idiom):
            walk(problem, variant, begin, end, lambda block, tile: _tile(kernel, block, tile))

    return kernel_function(_dtypes(problem, layout), body)


def _surroundings(idiom: Idiom) -> AbstractContextManager[Any]:
    return with_source() if idiom.chained else nullcontext()


def _dtypes(problem: Conv2d, layout: Layout) -> list[str]:
    added = [step.view.format.dtype for step in residuals(problem.epilogue)]
    constants = [layout.weights, layout.offsets, "int32", "float32", *(["int32"] if layout.biased else [])]
    constants += [layout.codes] if layout.codes else []
    return [problem.x.format.dtype, *added, *constants, problem.y.format.dtype]


def _buffers(problem: Conv2d, layout: Layout, memories: Sequence[Memory]) -> _Buffers:
    count = 1 + len(residuals(problem.epilogue))
    weights, offsets, table, scales = memories[count : count + 4]
    bias = memories[count + 4] if layout.biased else None
    return _Buffers(
        memories[0],
        tuple(memories[1:count]),
        weights,
        offsets,
        table,
        scales,
        bias,
        memories[-2] if layout.codes else None,
        memories[-1],
    )


def _tile(kernel: _Kernel, block: Block, tile: Tile) -> None:
    part, pixels = block.part, len(tile.pixels)
    size = part.chains * pixels * part.width
    sums = _Sums(Memory(script.alloc_buffer((size,), "int32", scope="local")), pixels, part.vectors)
    for chain, pixel, vector in product(range(part.chains), range(pixels), range(len(part.vectors))):
        sums.store(chain, pixel, vector, _start(kernel, block, vector, chain))
    for section in range(part.sections):
        _section(kernel, block, tile, sums, section)
    scales = [
        let(kernel.buffers.scales.load(block.place + _first(part, vector), lanes))
        for vector, lanes in enumerate(part.vectors)
    ]
    for vectors, pixel in product(_stored_together(kernel.problem, part), range(pixels)):
        values = [scaled(_total(sums, part, pixel, vector), scales[vector]) for vector in vectors]
        _finish(kernel, part, tile, pixel, vectors[0], [let(value) for value in values])


def _total(sums: _Sums, part: Part, pixel: int, vector: int) -> Any:
    total = sums.load(0, pixel, vector)
    for chain in range(1, part.chains):
        total = total + sums.load(chain, pixel, vector)
    return total


def _stored_together(problem: Conv2d, part: Part) -> list[tuple[int, ...]]:
    """The vectors of a block in groups: whole ones of a narrow format fill a register before they are stored."""
    together = 4 // problem.y.format.itemsize if problem.y.channel_stride == 1 else 1
    whole = sum(
        lanes == part.vectors[0] and _first(part, i) + lanes <= part.share.valid for i, lanes in enumerate(part.vectors)
    )
    groups = [tuple(range(i, min(i + together, whole))) for i in range(0, whole, together)]
    return [*groups, *((i,) for i in range(whole, len(part.vectors)))]


def _first(part: Part, vector: int) -> int:
    return sum(part.vectors[:vector])


def _start(kernel: _Kernel, block: Block, vector: int, chain: int) -> Any:
    lanes = block.part.vectors[vector]
    if kernel.buffers.bias is None or chain:
        return splat(tirx.IntImm("int32", 0), lanes)
    return kernel.buffers.bias.load(block.place + _first(block.part, vector), lanes)


def _section(kernel: _Kernel, block: Block, tile: Tile, sums: _Sums, section: int) -> None:
    """Add all entries of one kind; of the first there is at least one."""
    part, depth = block.part, kernel.idiom.depth
    row = (block.row * kernel.sections + section) * 3
    offsets, entries, weights = (let(kernel.buffers.table.load(row + field)) for field in range(3))
    codes = let(tirx.truncdiv(weights, depth))
    turns = entries if section else tirx.max(tirx.truncdiv(entries, part.chains), 1)
    with serial(0, turns) as turn:
        for chain in range(part.chains if section == 0 else 1):
            number = turn * part.chains + chain if section == 0 else turn
            first = offsets + number * part.places(section)
            places = [let(_offset(kernel, first + place) + tile.x) for place in range(part.places(section))]
            _entry(
                kernel,
                part,
                tile,
                sums,
                chain,
                _Entry(
                    places,
                    weights + number * (part.width * depth * kernel.idiom.words(part.mode)),
                    (offsets + number) * VECTOR_BYTES if part.picks else codes + number * part.width,
                    section > 0,
                ),
            )


def _offset(kernel: _Kernel, index: Any) -> Any:
    return tirx.Cast("int32", kernel.buffers.offsets.load(index))


def _entry(kernel: _Kernel, part: Part, tile: Tile, sums: _Sums, chain: int, entry: _Entry) -> None:
    depth = kernel.idiom.depth
    if part.mode in VECTORS:
        _factors(kernel, part, tile, sums, entry)
        return
    for pixel, step in enumerate(_steps(kernel, tile)):
        at = [place + step for place in entry.places]
        for vector, lanes in enumerate(part.vectors):
            first = _first(part, vector)
            words = _words(kernel, at, entry.codes + first if part.mode == "lanes" else None, lanes)
            own = kernel.buffers.weights.load(entry.weights + first * depth, lanes * depth)
            sums.store(chain, pixel, vector, kernel.idiom.multiply_add(sums.load(chain, pixel, vector), words, own))


def _steps(kernel: _Kernel, tile: Tile) -> list[int]:
    """From the place of an entry to what each pixel of the tile reads there."""
    _, rows, columns = kernel.problem.grid
    return [row * rows.input_step + column * columns.input_step + kernel.layout.origin for row, column in tile.pixels]


def _factors(kernel: _Kernel, part: Part, tile: Tile, sums: _Sums, entry: _Entry) -> None:
    """An entry of several words: one vector of x for each pixel, of which every word is a factor."""
    idiom, x, memory = kernel.idiom, kernel.buffers.x, kernel.buffers.weights
    assert idiom.factor is not None
    if idiom.chained:
        _chains(kernel, part, tile, sums, entry)
        return
    at = [entry.places[0] + step for step in _steps(kernel, tile)]
    if part.picks:
        assert kernel.buffers.codes is not None
        codes = let(kernel.buffers.codes.load(entry.codes, VECTOR_BYTES))
        count = idiom.window
        picked = local_array(len(at) * count, idiom.storage)
        for pixel, place in enumerate(at):
            picked.store(pixel * count, idiom.picked_from(x, place, part.picks, codes), count)
        values = [picked.load(pixel * count, count) for pixel in range(len(at))]
    else:
        values = [let(x.load(place, idiom.words(part.mode) * idiom.depth)) for place in at]
    for word in range(idiom.words(part.mode)):
        first = entry.weights + word * part.width * idiom.depth
        for vector, weights in enumerate(idiom.weights(memory, first, part.vectors)):
            lanes = part.vectors[vector]
            for pixel, value in enumerate(values):
                total = idiom.multiply_add(sums.load(0, pixel, vector), idiom.factor(value, word, lanes), weights)
                sums.store(0, pixel, vector, total)


def _chains(kernel: _Kernel, part: Part, tile: Tile, sums: _Sums, entry: _Entry) -> None:
    """An entry that is a chain of words: at first its weights, then one pixel after the other."""
    idiom, size = kernel.idiom, part.width * kernel.idiom.depth
    memory, vectors, steps = kernel.buffers.weights, range(len(part.vectors)), _steps(kernel, tile)
    weights = [chain_weights(memory, entry.weights + i * size, part.vectors) for i in range(idiom.chained)]
    ways = [later - now for now, later in pairwise(steps)]
    far = {way: unknown(way) for way in sorted(set(ways))}
    place = place_of(kernel.buffers.x, entry.places[0] + steps[0])
    codes = kernel.buffers.codes
    for pixel in range(len(steps)):
        if part.picks:
            assert codes is not None
            words = picked_words(place, part.picks, codes.load(entry.codes, VECTOR_BYTES))
        else:
            words = spread_words(place)
        for vector in vectors:
            own = [of_word[vector // 2] for of_word in weights]
            total = chained(sums.load(0, pixel, vector), words, own, vector, entry.second, idiom)
            sums.store(0, pixel, vector, total)
        if pixel < len(ways):
            place = next_place(place, far[ways[pixel]], [sums.load(0, pixel, vector) for vector in vectors])


def _words(kernel: _Kernel, at: Sequence[Any], codes: Any, lanes: int) -> Any:
    idiom, x = kernel.idiom, kernel.buffers.x
    if codes is not None:
        assert kernel.buffers.codes is not None
        return idiom.gathered(x, at[0], idiom.expanded(kernel.buffers.codes.load(codes, lanes)), lanes)
    return idiom.word(x, at[0], lanes) if len(at) == 1 else idiom.picked(x, at[0], at[1], lanes)


def _finish(kernel: _Kernel, part: Part, tile: Tile, pixel: int, vector: int, values: Sequence[Any]) -> None:
    """Store the real `values` of vectors from `vector` on, at once."""
    problem, y = kernel.problem, kernel.problem.y
    _, rows, columns = problem.grid
    row, column = tile.pixels[pixel]

    def place(output: int, channel: int, stride: int) -> Any:
        step = row * rows.output_steps[output] + column * columns.output_steps[output]
        return tile.outputs[output] + (step + channel * stride)

    def finished_whole(channel: int, value: Any) -> Any:
        def load(position: int, residual: Residual) -> Any:
            stride = residual.view.channel_stride
            lanes = lanes_of(value)
            return kernel.buffers.residuals[position].load(place(position + 1, channel, stride), lanes, stride)

        result = finished(needed(problem.epilogue, y.format), value, load)
        return kernel.idiom.rounded(result, y.format) if y.format.quantized else result

    def store(channel: int, result: Any) -> None:
        at = place(0, channel, y.channel_stride)
        held = kernel.idiom.placed(result, y.format) if y.format.quantized else result
        kernel.buffers.y.store(at, held, lanes_of(result), y.channel_stride)

    before = _first(part, vector)
    if len(values) > 1:
        each = part.vectors[vector]
        wholes = [finished_whole(before + i * each, value) for i, value in enumerate(values)]
        store(before, shuffle(wholes, range(each * len(values))))
        return
    lanes = part.vectors[vector]
    for first, count in _stores(min(lanes, part.share.valid - before), lanes):
        piece = values[0] if count == lanes else shuffle(values, range(first, first + count))
        store(before + first, finished_whole(before + first, piece))


def _stores(valid: int, lanes: int) -> list[tuple[int, int]]:
    if valid == lanes:
        return [(0, lanes)]
    pieces, first = [], 0
    for count in (8, 4, 2, 1):
        if valid - first >= count:
            pieces.append((first, count))
            first += count
    return pieces
