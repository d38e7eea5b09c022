"""The integer kernel as TensorIR: vectors of int32 run along output channels, each word of x is broadcast.

A tile of output pixels times a block of output channels stays in registers while the block's entries pass by: per
entry one offset and the block's weights are loaded, and one word of x for each pixel. Entries that hold only zeros
are not stored, so time falls with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.integer.chain import again, bytes_at, place_of, with_source
from edgeprune.kernels.integer.chain_loop import add_chains, chain_block, load_sums
from edgeprune.kernels.integer.dot import IDIOMS, VECTORS, Idiom
from edgeprune.kernels.integer.entries import VECTOR_BYTES
from edgeprune.kernels.integer.finish import scaled
from edgeprune.kernels.integer.packing import Layout
from edgeprune.kernels.integer.state import Code, Entry, Sums, buffers_of, dtypes, first_channel
from edgeprune.kernels.integer.variant import Part, Variant
from edgeprune.kernels.integer.walk import Block, Tile, walk
from edgeprune.kernels.integer.write import stored_together, write
from edgeprune.kernels.integer.write_packed import packed_vectors, write_packed
from edgeprune.kernels.script import Memory, kernel_function, let, local_array, serial, shuffle, splat


@lru_cache(maxsize=512)
def integer_function(problem: Conv2d, variant: Variant, layout: Layout) -> Any:
    """The PrimFunc of `problem` done as `variant` says, on constants of `layout`."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        code = Code(problem, IDIOMS[variant.dot], layout, variant.sections, buffers_of(problem, layout, memories))
        with _surroundings(code.idiom):
            walk(problem, variant, begin, end, lambda block: _started(code, block))

    return kernel_function(dtypes(problem, layout), body)


def _surroundings(idiom: Idiom) -> AbstractContextManager[Any]:
    return with_source() if idiom.factor is not None else nullcontext()


def _started(code: Code, block: Block) -> Callable[[Tile], None]:
    """Emit what is done once for a block; what emits the rest for a tile of it."""
    if not code.idiom.chained:
        lists = [_list(code, block, section) for section in range(len(block.part.kinds))]
        return lambda tile: _tile(code, block, tile, lambda sums: _sections(code, block.part, tile, sums, lists))
    chains = chain_block(code, block.part, let(block.row * (code.sections * 3)))
    return lambda tile: _tile(code, block, tile, lambda sums: add_chains(chains, sums, _steps(code, tile), tile.x))


def _tile(code: Code, block: Block, tile: Tile, add: Callable[[Sums], None]) -> None:
    part, pixels = block.part, len(tile.pixels)
    size = part.chains * pixels * part.width
    sums = Sums(Memory(script.alloc_buffer((size,), "int32", scope="local")), pixels, part.vectors)
    if code.idiom.factor is not None and code.buffers.bias is not None:
        load_sums(code.buffers.bias, block.place, sums)
    else:
        for chain, pixel, vector in product(range(part.chains), range(pixels), range(len(part.vectors))):
            sums.store(chain, pixel, vector, _start(code, block, vector, chain))
    add(sums)
    scales = [
        let(code.buffers.scales.load(block.place + first_channel(part, vector), lanes))
        for vector, lanes in enumerate(part.vectors)
    ]

    def real(pixel: int, vector: int) -> Any:
        return scaled(_total(sums, part, pixel, vector), scales[vector])

    count = packed_vectors(code, part)
    write_packed(code, part, tile, count, real)
    groups = [group for group in stored_together(code.problem, part) if group[0] >= count]
    for vectors, pixel in product(groups, range(pixels)):
        write(code, part, tile, pixel, vectors[0], [let(real(pixel, vector)) for vector in vectors])


def _total(sums: Sums, part: Part, pixel: int, vector: int) -> Any:
    total = sums.load(0, pixel, vector)
    for chain in range(1, part.chains):
        total = total + sums.load(chain, pixel, vector)
    return total


def _start(code: Code, block: Block, vector: int, chain: int) -> Any:
    lanes, bias = block.part.vectors[vector], code.buffers.bias
    if bias is None or chain:
        return splat(tirx.IntImm("int32", 0), lanes)
    first = block.place + first_channel(block.part, vector)
    return bias.load(first, lanes)


@dataclass(frozen=True)
class _List:
    """Entries of one kind: how many turns they take, where their offsets, weights and codes begin."""

    turns: Any
    offsets: Any
    weights: Any
    codes: Any


def _list(code: Code, block: Block, section: int) -> _List:
    """What the table says of a block's entries of one kind; of the first there is at least one."""
    row = (block.row * code.sections + section) * 3
    offsets, entries, weights = (let(code.buffers.table.load(row + field)) for field in range(3))
    turns = entries if section else let(tirx.max(tirx.truncdiv(entries, block.part.chains), 1))
    return _List(turns, offsets, weights, let(tirx.truncdiv(weights, code.idiom.depth)))


def _sections(code: Code, part: Part, tile: Tile, sums: Sums, lists: Sequence[_List]) -> None:
    for section, own in enumerate(lists):
        _section(code, part, tile, sums, section, own)


def _section(code: Code, part: Part, tile: Tile, sums: Sums, section: int, own: _List) -> None:
    """Add all entries of one kind."""
    kind, depth = part.kinds[section], code.idiom.depth
    offsets, weights, codes = own.offsets, own.weights, own.codes
    with serial(0, own.turns) as turn:
        for chain in range(part.chains if section == 0 else 1):
            number = turn * part.chains + chain if section == 0 else turn
            first = offsets + number * kind.places
            places = [let(_offset(code, first + place) + tile.x) for place in range(kind.places)]
            _entry(
                code,
                part,
                tile,
                sums,
                chain,
                Entry(
                    places,
                    weights + number * (part.width * depth * kind.words),
                    (offsets + number) * VECTOR_BYTES if part.picks else codes + number * part.width,
                    kind,
                ),
            )


def _offset(code: Code, index: Any) -> Any:
    return tirx.Cast("int32", code.buffers.offsets.load(index))


def _entry(code: Code, part: Part, tile: Tile, sums: Sums, chain: int, entry: Entry) -> None:
    depth = code.idiom.depth
    if part.mode in VECTORS:
        _factors(code, part, tile, sums, entry)
        return
    for pixel, step in enumerate(_steps(code, tile)):
        at = [place + step for place in entry.places]
        for vector, lanes in enumerate(part.vectors):
            first = first_channel(part, vector)
            words = _words(code, at, entry.codes + first if part.mode == "lanes" else None, lanes)
            own = code.buffers.weights.load(entry.weights + first * depth, lanes * depth)
            sums.store(chain, pixel, vector, code.idiom.multiply_add(sums.load(chain, pixel, vector), words, own))


def _steps(code: Code, tile: Tile) -> list[int]:
    """From the place of an entry to what each pixel of the tile reads there."""
    _, rows, columns = code.problem.grid
    return [row * rows.input_step + column * columns.input_step + code.layout.origin for row, column in tile.pixels]


def _factors(code: Code, part: Part, tile: Tile, sums: Sums, entry: Entry) -> None:
    """An entry of several words: one vector of x for each pixel, of which every word is a factor."""
    idiom, x, memory = code.idiom, code.buffers.x, code.buffers.weights
    assert idiom.factor is not None
    at = [entry.places[0] + step for step in _steps(code, tile)]
    if part.picks:
        assert code.buffers.codes is not None
        codes = let(code.buffers.codes.load(entry.codes, VECTOR_BYTES))
        count = idiom.window
        picked = local_array(len(at) * count, idiom.storage)
        for pixel, place in enumerate(at):
            window = _window(code, part, place)
            picked.store(pixel * count, idiom.picked_from(window, codes), count)
        values = [picked.load(pixel * count, count) for pixel in range(len(at))]
    else:
        values = [let(x.load(place, idiom.words(part.mode) * idiom.depth)) for place in at]
    for word in range(entry.kind.words):
        first = entry.weights + word * part.width * idiom.depth
        for vector, weights in enumerate(idiom.weights(memory, first, part.vectors)):
            lanes = part.vectors[vector]
            for pixel, value in enumerate(values):
                total = idiom.multiply_add(sums.load(0, pixel, vector), idiom.factor(value, word, lanes), weights)
                sums.store(0, pixel, vector, total)


def _window(code: Code, part: Part, place: Any) -> list[Any]:
    """The vectors from which an entry picks; where windows of pixels overlap, what they share is loaded for each.

    The instruction takes vectors that follow each other, so that shared ones would be copied.
    """
    x, size = code.buffers.x, VECTOR_BYTES * part.picks
    steps = [abs(axis.input_step) for axis in code.problem.grid[1:] if axis.count > 1]
    start = place_of(x, place)
    loaded = bytes_at(again(start) if min(steps, default=size) < size else start, 0, size)
    return [shuffle([loaded], range(i * VECTOR_BYTES, (i + 1) * VECTOR_BYTES)) for i in range(part.picks)]


def _words(code: Code, at: Sequence[Any], codes: Any, lanes: int) -> Any:
    idiom, x = code.idiom, code.buffers.x
    if codes is not None:
        assert code.buffers.codes is not None
        return idiom.gathered(x, at[0], idiom.expanded(code.buffers.codes.load(codes, lanes)), lanes)
    return idiom.word(x, at[0], lanes) if len(at) == 1 else idiom.picked(x, at[0], at[1], lanes)
