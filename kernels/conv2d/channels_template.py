"""The channels kernel as TensorIR: vectors run along output channels, each input value is broadcast.

A tile of output pixels times a block of output channels stays in registers while the block's entries pass by: per
entry one offset and the block's weights are loaded, and one input value for each pixel. Entries that hold only
zeros are not stored, so time falls with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as script

from edgeprune.kernels.abi import Residual
from edgeprune.kernels.conv2d.channels_variant import Part, Split, Variant
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.epilogue import apply_epilogue, load_vector, residuals, vector_index


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
class _Tile:
    """The tile at hand: its pixels, and the index of its first pixel in the input, the output and the residuals."""

    rows: int
    columns: int
    x: Any
    outputs: tuple[Any, ...]


@lru_cache(maxsize=512)
def channels_function(problem: Conv2d, variant: Variant) -> Any:
    """The PrimFunc of `problem` done as `variant` says; it does not depend on the weights."""
    with IRBuilder() as builder, script.prim_func(False, True):
        script.func_name("conv2d_channels")
        buffers, begin, end = _arguments(problem)
        with script.serial(0, end - begin) as step:
            unit = script.bind(step + begin)
            _parts(problem, variant, 0, buffers, unit)
    return builder.get()


def unit_count(problem: Conv2d, variant: Variant) -> int:
    """Units of work of the whole problem."""
    return sum(_part_units(problem, part) for part in variant.parts)


def _pixel_units(problem: Conv2d, part: Part) -> int:
    return problem.grid[0].count * part.rows.tiles * part.chunks


def _part_units(problem: Conv2d, part: Part) -> int:
    return problem.groups * part.blocks * _pixel_units(problem, part)


def _arguments(problem: Conv2d) -> tuple[_Buffers, Any, Any]:
    def pointer(name: str, dtype: str = "float32") -> tuple[Any, str]:
        return script.arg(name, script.handle(dtype)), dtype

    x = pointer("x")
    added = [pointer(f"residual{i}") for i in range(len(residuals(problem.epilogue)))]
    constants = [pointer("weights"), pointer("offsets", "int32"), pointer("table", "int32")]
    bias = [pointer("bias")] if problem.bias else []
    y = pointer("y")
    begin, end = script.arg("begin", script.int32()), script.arg("end", script.int32())
    script.func_attr({"tirx.noalias": True})
    flat = [script.decl_buffer((1,), dtype, data=data) for data, dtype in (x, *added, *constants, *bias, y)]
    count = len(added)
    weights, offsets, table = flat[1 + count : 4 + count]
    buffers = _Buffers(
        flat[0], tuple(flat[1 : 1 + count]), weights, offsets, table, flat[-2] if bias else None, flat[-1]
    )
    return buffers, begin, end


def _parts(problem: Conv2d, variant: Variant, index: int, buffers: _Buffers, unit: Any) -> None:
    part = variant.parts[index]
    if index == len(variant.parts) - 1:
        _unit(problem, variant, index, buffers, unit)
        return
    units = _part_units(problem, part)
    with script.If(unit < units):
        with script.Then():
            _unit(problem, variant, index, buffers, unit)
        with script.Else():
            _parts(problem, variant, index + 1, buffers, script.bind(unit - units))


def _unit(problem: Conv2d, variant: Variant, index: int, buffers: _Buffers, unit: Any) -> None:
    part = variant.parts[index]
    pixels, blocks = _pixel_units(problem, part), problem.groups * part.blocks
    if variant.block_outer:
        number, place = _divided(unit, pixels)
    else:
        place, number = _divided(unit, blocks)
    block = _block(problem, variant, index, buffers, number)
    lines, chunk = _divided(place, part.chunks)
    image, piece = _divided(lines, part.rows.tiles)

    def columns(row: Any, rows: int) -> None:
        _columns(problem, part, buffers, block, image, row, rows, chunk)

    _pieces_of_rows(part.rows, piece, columns)


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


def _columns(
    problem: Conv2d, part: Part, buffers: _Buffers, block: _Block, image: Any, row: Any, rows: int, chunk: Any
) -> None:
    images, lines, columns = problem.grid
    split = part.columns
    first = script.bind(tirx.truncdiv(chunk * split.tiles, part.chunks))
    last = script.bind(tirx.truncdiv((chunk + 1) * split.tiles, part.chunks))
    x = script.bind(image * images.input_step + row * lines.input_step + problem.x.offset)
    views = (problem.y, *(step.view for step in residuals(problem.epilogue)))
    outputs = tuple(
        script.bind(
            image * images.output_steps[i]
            + row * lines.output_steps[i]
            + block.channel * view.channel_stride
            + view.offset
        )
        for i, view in enumerate(views)
    )

    def run(start: Any, stop: Any, size: int, skipped: int) -> None:
        with script.serial(0, stop - start) as number:
            column = script.bind((number + start) * size + skipped)
            places = tuple(
                script.bind(output + column * step) for output, step in zip(outputs, columns.output_steps, strict=True)
            )
            tile = _Tile(rows, size, script.bind(x + column * columns.input_step), places)
            _tile(problem, part, buffers, block, tile)

    if split.longer:
        run(first, tirx.min(last, split.longer), split.size + 1, 0)
        run(tirx.max(first, split.longer), last, split.size, split.longer)
    else:
        run(first, last, split.size, 0)


def _tile(problem: Conv2d, part: Part, buffers: _Buffers, block: _Block, tile: _Tile) -> None:
    pixels = [(r, c) for r in range(tile.rows) for c in range(tile.columns)]
    lanes = part.vectors
    sums = script.alloc_buffer((part.chains * len(pixels) * part.width,), "float32", scope="local")

    def place(chain: int, pixel: int, vector: int) -> Any:
        return vector_index((chain * len(pixels) + pixel) * part.width + sum(lanes[:vector]), 1, lanes[vector])

    def each(chains: int) -> list[tuple[int, int, int]]:
        return [(s, p, v) for s in range(chains) for p in range(len(pixels)) for v in range(len(lanes))]

    def held(chain: int, pixel: int, vector: int) -> Any:
        return tirx.BufferLoad(sums, [place(chain, pixel, vector)])

    for chain, pixel, vector in each(part.chains):
        start = _start(buffers, block, part, vector) if chain == 0 else _zero(lanes[vector])
        script.buffer_store(sums, start, [place(chain, pixel, vector)])
    with script.serial(0, tirx.max(tirx.truncdiv(block.entries, part.chains), 1)) as turn:
        for chain in range(part.chains):
            _entry(problem, part, buffers, block, tile, turn * part.chains + chain, chain, pixels, place, sums)
    for pixel, (row, column) in enumerate(pixels):
        for vector in range(len(lanes)):
            total = held(0, pixel, vector)
            for chain in range(1, part.chains):
                total = total + held(chain, pixel, vector)
            _finish(problem, part, buffers, tile, row, column, vector, total)


def _zero(lanes: int) -> Any:
    zero = tirx.const(0.0, "float32")
    return zero if lanes == 1 else tirx.Broadcast(zero, lanes)


def _start(buffers: _Buffers, block: _Block, part: Part, vector: int) -> Any:
    if buffers.bias is None:
        return _zero(part.vectors[vector])
    return load_vector(buffers.bias, block.bias + sum(part.vectors[:vector]), 1, part.vectors[vector])


def _entry(
    problem: Conv2d,
    part: Part,
    buffers: _Buffers,
    block: _Block,
    tile: _Tile,
    entry: Any,
    chain: int,
    pixels: list[tuple[int, int]],
    place: Callable[[int, int, int], Any],
    sums: Any,
) -> None:
    _, rows, columns = problem.grid
    offset = tirx.BufferLoad(buffers.offsets, [block.offsets + entry])
    for pixel, (row, column) in enumerate(pixels):
        step = row * rows.input_step + column * columns.input_step
        value = tirx.BufferLoad(buffers.x, [tile.x + offset + step])
        for vector, lanes in enumerate(part.vectors):
            spread = value if lanes == 1 else tirx.Broadcast(value, lanes)
            at = block.weights + entry * part.width + sum(part.vectors[:vector])
            held = tirx.BufferLoad(sums, [place(chain, pixel, vector)])
            product = spread * load_vector(buffers.weights, at, 1, lanes)
            script.buffer_store(sums, held + product, [place(chain, pixel, vector)])


def _finish(
    problem: Conv2d, part: Part, buffers: _Buffers, tile: _Tile, row: int, column: int, vector: int, total: Any
) -> None:
    _, rows, columns = problem.grid
    before = sum(part.vectors[:vector])
    lanes = part.vectors[vector]
    total = script.bind(total)
    for first, count in _stores(min(lanes, part.valid - before), lanes):
        piece = _lanes(total, lanes, first, count)

        def index(output: int, channel_stride: int, first: int = first) -> Any:
            step = row * rows.output_steps[output] + column * columns.output_steps[output]
            return tile.outputs[output] + (step + (before + first) * channel_stride)

        def load(position: int, residual: Residual, count: int = count, index: Callable[..., Any] = index) -> Any:
            stride = residual.view.channel_stride
            return load_vector(buffers.residuals[position], index(position + 1, stride), stride, count)

        value = apply_epilogue(problem.epilogue, piece, load)
        stride = problem.y.channel_stride
        script.buffer_store(buffers.y, value, [vector_index(index(0, stride), stride, count)])


def _stores(valid: int, lanes: int) -> list[tuple[int, int]]:
    if valid == lanes:
        return [(0, lanes)]
    pieces, first = [], 0
    for count in (8, 4, 2, 1):
        if valid - first >= count:
            pieces.append((first, count))
            first += count
    return pieces


def _lanes(value: Any, lanes: int, first: int, count: int) -> Any:
    return value if count == lanes else tirx.Shuffle([value], list(range(first, first + count)))
