"""The channels kernel as TensorIR: vectors run along output channels, each input value is broadcast.

A tile of output pixels times a block of output channels stays in registers while the block's entries pass by: per
entry one offset and the block's weights are loaded, and one input value for each pixel. Entries that hold only
zeros are not stored, so time falls with them. In float16 no sum grows long: after some entries it is added to one in
float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as script

from edgeprune.kernels.abi import Residual
from edgeprune.kernels.conv2d.channels_variant import Part, Variant
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shares import Split, stored_pieces
from edgeprune.kernels.epilogue import apply_epilogue, load_vector, residuals, vector_index
from edgeprune.kernels.storage import converted, stored


@dataclass(frozen=True)
class _Buffers:
    x: Any
    residuals: tuple[Any, ...]
    weights: Any
    offsets: Any
    table: Any
    bias: Any
    y: Any


@dataclass(frozen=True)
class _Block:
    """The block at hand: its first output channel, where its bias lies, its entries in the packed arrays."""

    channel: Any
    bias: Any
    offsets: Any
    entries: Any
    weights: Any


@dataclass(frozen=True)
class _Work:
    """What one unit of work is about."""

    problem: Conv2d
    part: Part
    buffers: _Buffers
    block: _Block
    bound: int


@dataclass(frozen=True)
class _Tile:
    """The tile at hand: its pixels, and the index of its first pixel in the input, the output and the residuals."""

    rows: int
    columns: int
    x: Any
    outputs: tuple[Any, ...]

    @property
    def pixels(self) -> list[tuple[int, int]]:
        """The (row, column) of each pixel within the tile."""
        return [(row, column) for row in range(self.rows) for column in range(self.columns)]


@dataclass(frozen=True)
class _Sums:
    """The accumulators of a tile, which LLVM keeps in registers: for each chain, pixel and vector of the block one."""

    buffer: Any
    pixels: int
    vectors: tuple[int, ...]

    def _place(self, chain: int, pixel: int, vector: int) -> Any:
        first = (chain * self.pixels + pixel) * sum(self.vectors) + sum(self.vectors[:vector])
        return vector_index(first, 1, self.vectors[vector])

    def load(self, chain: int, pixel: int, vector: int) -> Any:
        """One vector of sums."""
        return tirx.BufferLoad(self.buffer, [self._place(chain, pixel, vector)])

    def store(self, chain: int, pixel: int, vector: int, value: Any) -> None:
        """Replace one vector of sums."""
        script.buffer_store(self.buffer, value, [self._place(chain, pixel, vector)])


@lru_cache(maxsize=512)
def channels_function(problem: Conv2d, variant: Variant, bound: int = 0) -> Any:
    """The PrimFunc of `problem` done as `variant` says; it does not depend on the weights.

    A sum of more than `bound` products, where that is not 0, is one in float32 of sums of so many.
    """
    with IRBuilder() as builder, script.prim_func(False, True):
        script.func_name("conv2d_channels")
        buffers, begin, end = _arguments(problem)
        with script.serial(0, end - begin) as step:
            unit = script.bind(step + begin)
            _parts(problem, variant, 0, buffers, unit, bound)
    return builder.get()


def unit_count(problem: Conv2d, variant: Variant) -> int:
    """Units of work of the whole problem."""
    return sum(_part_units(problem, part) for part in variant.parts)


def _pixel_units(problem: Conv2d, part: Part) -> int:
    return problem.grid[0].count * part.rows.tiles * part.chunks


def _part_units(problem: Conv2d, part: Part) -> int:
    return problem.groups * part.blocks * _pixel_units(problem, part)


def _arguments(problem: Conv2d) -> tuple[_Buffers, Any, Any]:
    def pointer(name: str, dtype: str = problem.real) -> tuple[Any, str]:
        return script.arg(name, script.handle(dtype)), dtype

    x = pointer("x")
    held = [step.view.format.dtype for step in residuals(problem.epilogue)]
    added = [pointer(f"residual{i}", dtype) for i, dtype in enumerate(held)]
    constants = [pointer("weights"), pointer("offsets", "int32"), pointer("table", "int32")]
    bias = [pointer("bias")] if problem.bias else []
    y = pointer("y", problem.y.format.dtype)
    begin, end = script.arg("begin", script.int32()), script.arg("end", script.int32())
    script.func_attr({"tirx.noalias": True})
    flat = [script.decl_buffer((1,), dtype, data=data) for data, dtype in (x, *added, *constants, *bias, y)]
    count = len(added)
    weights, offsets, table = flat[1 + count : 4 + count]
    buffers = _Buffers(
        flat[0], tuple(flat[1 : 1 + count]), weights, offsets, table, flat[-2] if bias else None, flat[-1]
    )
    return buffers, begin, end


def _parts(problem: Conv2d, variant: Variant, index: int, buffers: _Buffers, unit: Any, bound: int) -> None:
    part = variant.parts[index]
    if index == len(variant.parts) - 1:
        _unit(problem, variant, index, buffers, unit, bound)
        return
    units = _part_units(problem, part)
    with script.If(unit < units):
        with script.Then():
            _unit(problem, variant, index, buffers, unit, bound)
        with script.Else():
            _parts(problem, variant, index + 1, buffers, script.bind(unit - units), bound)


def _unit(problem: Conv2d, variant: Variant, index: int, buffers: _Buffers, unit: Any, bound: int) -> None:
    part = variant.parts[index]
    if variant.block_outer:
        number, place = _divided(unit, _pixel_units(problem, part))
    else:
        place, number = _divided(unit, problem.groups * part.blocks)
    work = _Work(problem, part, buffers, _block(problem, variant, index, buffers, number), bound // part.inputs)
    lines, chunk = _divided(place, part.chunks)
    image, piece = _divided(lines, part.rows.tiles)
    _pieces_of_rows(part.rows, piece, lambda row, rows: _columns(work, image, row, rows, chunk))


def _divided(value: Any, divisor: int) -> tuple[Any, Any]:
    return script.bind(tirx.truncdiv(value, divisor)), script.bind(tirx.truncmod(value, divisor))


def _block(problem: Conv2d, variant: Variant, index: int, buffers: _Buffers, number: Any) -> _Block:
    part = variant.parts[index]
    before = variant.parts[:index]
    entry = (number + sum(problem.groups * p.blocks for p in before)) * 3
    channel = number * part.valid + part.start
    if problem.groups > 1:
        group, within = _divided(number, part.blocks)
        channel = group * problem.group_outputs + within * part.valid + part.start
    bias = number * part.width + sum(problem.groups * p.blocks * p.width for p in before)
    table = [script.bind(tirx.BufferLoad(buffers.table, [entry + field])) for field in range(3)]
    return _Block(script.bind(channel), script.bind(bias), *table)


def _pieces_of_rows(rows: Split, piece: Any, body: Callable[[Any, int], None]) -> None:
    if not rows.longer:
        body(script.bind(piece * rows.size), rows.size)
        return
    start = script.bind(piece * rows.size + tirx.min(piece, rows.longer))
    with script.If(piece < rows.longer):
        with script.Then():
            body(start, rows.size + 1)
        with script.Else():
            body(start, rows.size)


def _columns(work: _Work, image: Any, row: Any, rows: int, chunk: Any) -> None:
    images, lines, columns = work.problem.grid
    split, chunks = work.part.columns, work.part.chunks
    x = script.bind(image * images.input_step + row * lines.input_step + work.problem.x.offset)
    outputs = _output_places(work, image, row)

    def run(start: Any, stop: Any, size: int, skipped: int) -> None:
        with script.serial(0, stop - start) as number:
            column = script.bind((number + start) * size + skipped)
            places = [script.bind(at + column * step) for at, step in zip(outputs, columns.output_steps, strict=True)]
            _tile(work, _Tile(rows, size, script.bind(x + column * columns.input_step), tuple(places)))

    first = script.bind(tirx.truncdiv(chunk * split.tiles, chunks))
    last = script.bind(tirx.truncdiv((chunk + 1) * split.tiles, chunks))
    if split.longer:
        run(first, tirx.min(last, split.longer), split.size + 1, 0)
        run(tirx.max(first, split.longer), last, split.size, split.longer)
    else:
        run(first, last, split.size, 0)


def _output_places(work: _Work, image: Any, row: Any) -> list[Any]:
    images, lines, _ = work.problem.grid
    views = (work.problem.y, *(step.view for step in residuals(work.problem.epilogue)))
    places = []
    for view, image_step, row_step in zip(views, images.output_steps, lines.output_steps, strict=True):
        channel = work.block.channel * view.channel_stride
        places.append(script.bind(image * image_step + row * row_step + channel + view.offset))
    return places


def _tile(work: _Work, tile: _Tile) -> None:
    part, count = work.part, len(tile.pixels)
    buffer = script.alloc_buffer((part.chains * count * part.width,), work.problem.real, scope="local")
    sums = _Sums(buffer, count, part.vectors)
    turns = tirx.max(tirx.truncdiv(work.block.entries, part.chains), 1)
    if work.bound:
        sums = _long_sums(work, tile, sums, script.bind(turns))
    else:
        _clear(work, sums, with_bias=True)
        _add_turns(work, tile, sums, 0, turns)
    for pixel, vector in product(range(count), range(len(part.vectors))):
        total = sums.load(0, pixel, vector) if work.bound else _total(work, sums, pixel, vector)
        _finish(work, tile, pixel, vector, script.bind(total))


def _long_sums(work: _Work, tile: _Tile, sums: _Sums, turns: Any) -> _Sums:
    """The sums in float32 of those of every `work.bound` turns."""
    part, count = work.part, len(tile.pixels)
    wide = _Sums(script.alloc_buffer((count * part.width,), "float32", scope="local"), count, part.vectors)
    places = list(product(range(count), range(len(part.vectors))))
    for pixel, vector in places:
        wide.store(0, pixel, vector, converted(_start(work, vector), "float32"))
    with script.serial(0, tirx.truncdiv(turns + (work.bound - 1), work.bound)) as piece:
        _clear(work, sums, with_bias=False)
        first = script.bind(piece * work.bound)
        _add_turns(work, tile, sums, first, tirx.min(turns - first, work.bound))
        for pixel, vector in places:
            total = converted(_total(work, sums, pixel, vector), "float32")
            wide.store(0, pixel, vector, wide.load(0, pixel, vector) + total)
    return wide


def _clear(work: _Work, sums: _Sums, with_bias: bool) -> None:
    part = work.part
    for chain, pixel, vector in product(range(part.chains), range(sums.pixels), range(len(part.vectors))):
        first = with_bias and chain == 0
        sums.store(chain, pixel, vector, _start(work, vector) if first else _zero(work, part.vectors[vector]))


def _add_turns(work: _Work, tile: _Tile, sums: _Sums, first: Any, count: Any) -> None:
    """Add the entries of `count` turns of the loop from turn `first` on."""
    chains = work.part.chains
    with script.serial(0, count) as turn:
        for chain in range(chains):
            _entry(work, tile, sums, (turn + first) * chains + chain, chain)


def _total(work: _Work, sums: _Sums, pixel: int, vector: int) -> Any:
    total = sums.load(0, pixel, vector)
    for chain in range(1, work.part.chains):
        total = total + sums.load(chain, pixel, vector)
    return total


def _zero(work: _Work, lanes: int) -> Any:
    zero = tirx.const(0.0, work.problem.real)
    return zero if lanes == 1 else tirx.Broadcast(zero, lanes)


def _start(work: _Work, vector: int) -> Any:
    vectors = work.part.vectors
    if work.buffers.bias is None:
        return _zero(work, vectors[vector])
    return load_vector(work.buffers.bias, work.block.bias + sum(vectors[:vector]), 1, vectors[vector])


def _entry(work: _Work, tile: _Tile, sums: _Sums, entry: Any, chain: int) -> None:
    if work.part.inputs > 1:
        _run(work, tile, sums, entry, chain)
        return
    _, rows, columns = work.problem.grid
    vectors = work.part.vectors
    offset = tirx.BufferLoad(work.buffers.offsets, [work.block.offsets + entry])
    for pixel, (row, column) in enumerate(tile.pixels):
        step = row * rows.input_step + column * columns.input_step
        value = tirx.BufferLoad(work.buffers.x, [tile.x + offset + step])
        for vector, lanes in enumerate(vectors):
            spread = value if lanes == 1 else tirx.Broadcast(value, lanes)
            place = work.block.weights + entry * work.part.width + sum(vectors[:vector])
            weights = load_vector(work.buffers.weights, place, 1, lanes)
            sums.store(chain, pixel, vector, sums.load(chain, pixel, vector) + spread * weights)


def _run(work: _Work, tile: _Tile, sums: _Sums, entry: Any, chain: int) -> None:
    """An entry of several input channels: one vector of them for each pixel, every lane a factor."""
    _, rows, columns = work.problem.grid
    vectors, count = work.part.vectors, work.part.inputs
    origin = script.bind(tile.x + tirx.BufferLoad(work.buffers.offsets, [work.block.offsets + entry]))
    values = [
        script.bind(
            load_vector(work.buffers.x, origin + (row * rows.input_step + column * columns.input_step), 1, count)
        )
        for row, column in tile.pixels
    ]
    for number, vector in product(range(count), range(len(vectors))):
        place = work.block.weights + (entry * count + number) * work.part.width + sum(vectors[:vector])
        weights = script.bind(load_vector(work.buffers.weights, place, 1, vectors[vector]))
        for pixel, value in enumerate(values):
            factor = tirx.Shuffle([value], [number])
            spread = factor if vectors[vector] == 1 else tirx.Broadcast(factor, vectors[vector])
            sums.store(chain, pixel, vector, sums.load(chain, pixel, vector) + spread * weights)


def _finish(work: _Work, tile: _Tile, pixel: int, vector: int, total: Any) -> None:
    _, rows, columns = work.problem.grid
    row, column = tile.pixels[pixel]
    before, lanes = sum(work.part.vectors[:vector]), work.part.vectors[vector]

    def place(output: int, channel: int, stride: int) -> Any:
        step = row * rows.output_steps[output] + column * columns.output_steps[output]
        return tile.outputs[output] + (step + channel * stride)

    def finish_piece(channel: int, count: int, value: Any) -> None:
        def load(position: int, residual: Residual) -> Any:
            stride = residual.view.channel_stride
            return load_vector(work.buffers.residuals[position], place(position + 1, channel, stride), stride, count)

        stride = work.problem.y.channel_stride
        value = stored(apply_epilogue(work.problem.epilogue, value, load), work.problem.y.format)
        script.buffer_store(work.buffers.y, value, [vector_index(place(0, channel, stride), stride, count)])

    for first, count in stored_pieces(min(lanes, work.part.valid - before), lanes):
        finish_piece(before + first, count, _lanes(total, lanes, first, count))


def _lanes(value: Any, lanes: int, first: int, count: int) -> Any:
    return value if count == lanes else tirx.Shuffle([value], list(range(first, first + count)))
