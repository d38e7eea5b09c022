"""The pixels kernel: a tile of output pixels in registers, one kept weight after the other broadcast over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.conv2d.lines import place_of, with_source
from edgeprune.kernels.conv2d.pixels_loop import source
from edgeprune.kernels.conv2d.pixels_together import Lists, Results, do_list
from edgeprune.kernels.conv2d.pixels_variant import Variant, blocks, loop_of, tiles
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.epilogue import apply_epilogue, residuals
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import converted, stored


def unit_count(problem: Conv2d, variant: Variant) -> int:
    """Units of work: images x tiles x groups of output channels."""
    down, across = tiles(problem, variant)
    return problem.grid[0].count * down * across * _channel_groups(problem, variant)


def _channel_groups(problem: Conv2d, variant: Variant) -> int:
    return -(-problem.y.channels // variant.channels)


@lru_cache(maxsize=512)
def pixels_function(problem: Conv2d, variant: Variant, bound: int = 0) -> Any:
    """The function over (x, residuals..., values, offsets, table, [bias], y); lists together have their biases.

    A sum of more than `bound` products, where that is not 0, is one in float32 of sums of so many.
    """
    count = len(residuals(problem.epilogue))
    held = [step.view.format.dtype for step in residuals(problem.epilogue)]
    apart = problem.bias and not variant.together
    constants = [problem.real, script.INTEGER, script.INTEGER, *[problem.real] * apart]
    dtypes = [problem.real, *held, *constants, problem.y.format.dtype]

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        constants = memories[1 + count : -1]
        values, offsets, table = constants[:3]
        bias = constants[3] if apart else None
        pointers = _Pointers(memories[0], memories[1 : 1 + count], values, offsets, table, bias, memories[-1])
        groups = _channel_groups(problem, variant)
        with script.serial(begin, end) as unit:
            tile = _place(problem, variant, script.let(unit // groups))
            first = script.let(unit % groups * variant.channels)
            last = script.let(tirx.min(first + variant.channels, problem.y.channels))
            if variant.together:
                begins, ends = tirx.truncdiv(first, variant.together), tirx.truncdiv(last, variant.together)
                text = source(loop_of(problem, variant))
                with with_source(text), script.serial(script.let(begins), script.let(ends)) as number:
                    _together(problem, variant, pointers, tile, number)
            elif blocks(problem, variant) == 1:
                with script.serial(first, last) as channel:
                    _output(problem, variant, pointers, tile, channel, bound)
            else:
                _blocked(problem, variant, pointers, tile, first, last, bound)

    return script.kernel_function(dtypes, body)


@dataclass(frozen=True)
class _Pointers:
    x: Memory
    residuals: Sequence[Memory]
    values: Memory
    offsets: Memory
    table: Memory
    bias: Memory | None
    y: Memory


@dataclass(frozen=True)
class _Tile:
    """Where a tile's first row and column lie: `x` in the input, `outputs` in y and the residuals.

    `columns` are the first pixels of the tile's vectors, from those places.
    """

    x: Any
    outputs: list[Any]
    columns: list[int]


def _place(problem: Conv2d, variant: Variant, tile: Any) -> _Tile:
    outer, rows, columns = problem.grid
    down, across = tiles(problem, variant)
    image, row = tile // (down * across), tile // across % down * variant.rows
    if down * variant.rows > rows.count:
        row = tirx.min(row, rows.count - variant.rows)
    row = script.let(row)
    last = columns.count - variant.width
    first: Any = 0
    starts = [min(i * variant.width, last) for i in range(variant.vectors)]
    if across > 1:
        length = variant.vectors * variant.width
        first = script.let(tirx.min(tile % across * length, columns.count - length))
    views = [problem.y, *(step.view for step in residuals(problem.epilogue))]
    outputs = [
        script.let(
            view.offset + image * outer.output_steps[i] + row * rows.output_steps[i] + first * columns.output_steps[i]
        )
        for i, view in enumerate(views)
    ]
    x = image * outer.input_step + row * rows.input_step + first * columns.input_step
    return _Tile(script.let(problem.x.offset + x), outputs, starts)


def _sums(variant: Variant) -> list[int]:
    return [i * variant.width for i in range(variant.rows * variant.vectors)]


def _output(problem: Conv2d, variant: Variant, pointers: _Pointers, tile: _Tile, channel: Any, bound: int) -> None:
    """One output channel of a tile from its bias to its store."""
    real = _sum_type(problem, bound)
    sums = script.local_array(variant.rows * variant.vectors * variant.width, real)
    _fill(variant, sums, _bias(pointers, channel, variant, real))
    _accumulate(problem, variant, pointers, tile, channel, sums, bound)
    _store(problem, variant, pointers, tile, channel, sums)


def _together(problem: Conv2d, variant: Variant, pointers: _Pointers, tile: _Tile, number: Any) -> None:
    """The output channels of list `number` of a tile from their bias to their store."""
    steps = residuals(problem.epilogue)
    views = [problem.y, *(step.view for step in steps)]
    memories = [pointers.y, *pointers.residuals]
    results = [
        Results(i, view, memory, base)
        for i, (view, memory, base) in enumerate(zip(views, memories, tile.outputs, strict=True))
    ]
    lists = Lists(pointers.values, pointers.offsets, pointers.table)
    do_list(problem, variant, lists, number, place_of(pointers.x, tile.x), results)


def _blocked(
    problem: Conv2d, variant: Variant, pointers: _Pointers, tile: _Tile, first: Any, last: Any, bound: int
) -> None:
    """Output channels [first, last) of a tile, one block of input channels after the other."""
    real = _sum_type(problem, bound)
    size = variant.rows * variant.vectors * variant.width
    partial = script.local_array(variant.channels * size, real)
    count = blocks(problem, variant)
    with script.serial(0, count) as block, script.serial(first, last) as channel:
        sums = script.local_array(size, real)
        kept = script.let((channel - first) * size)

        def restore() -> None:
            for place in _sums(variant):
                sums.store(place, partial.load(kept + place, variant.width), variant.width)

        def save() -> None:
            for place in _sums(variant):
                partial.store(kept + place, sums.load(place, variant.width), variant.width)

        start = _bias(pointers, channel, variant, real)
        script.either(tirx.EQ(block, 0), lambda: _fill(variant, sums, start), restore)
        _accumulate(problem, variant, pointers, tile, block * problem.y.channels + channel, sums, bound)
        script.either(block < count - 1, save, lambda: _store(problem, variant, pointers, tile, channel, sums))


def _sum_type(problem: Conv2d, bound: int) -> str:
    return script.FLOAT if bound else problem.real


def _bias(pointers: _Pointers, channel: Any, variant: Variant, real: str) -> Any:
    value = converted(pointers.bias.load(channel), real) if pointers.bias else 0.0
    return script.splat(value, variant.width, real)


def _fill(variant: Variant, sums: Memory, value: Any) -> None:
    for place in _sums(variant):
        sums.store(place, value, variant.width)


def _vectors(variant: Variant, tile: _Tile) -> list[tuple[int, int, int]]:
    """(place in the sums, row, first pixel) of every vector of a tile."""
    pairs = [(row, column) for row in range(variant.rows) for column in tile.columns]
    return [(i * variant.width, row, column) for i, (row, column) in enumerate(pairs)]


def _accumulate(
    problem: Conv2d, variant: Variant, pointers: _Pointers, tile: _Tile, index: Any, sums: Memory, bound: int
) -> None:
    """Add the entries of list `index`."""
    first, last = script.let(pointers.table.load(index)), script.let(pointers.table.load(index + 1))
    if not bound:
        _add_entries(problem, variant, pointers, tile, (first, last), sums)
        return
    width = variant.width
    with script.serial(0, script.let(tirx.truncdiv(last - first + (bound - 1), bound))) as piece:
        short = script.local_array(variant.rows * variant.vectors * width, problem.real)
        _fill(variant, short, script.splat(0.0, width, problem.real))
        start = script.let(first + piece * bound)
        _add_entries(problem, variant, pointers, tile, (start, tirx.min(last, start + bound)), short)
        for place in _sums(variant):
            total = sums.load(place, width) + converted(short.load(place, width), script.FLOAT)
            sums.store(place, total, width)


def _add_entries(
    problem: Conv2d, variant: Variant, pointers: _Pointers, tile: _Tile, entries: tuple[Any, Any], sums: Memory
) -> None:
    _, rows, columns = problem.grid
    width, step = variant.width, columns.input_step
    with script.serial(*entries) as entry:
        weight = script.let(script.splat(pointers.values.load(entry), width))
        origin = script.let(pointers.offsets.load(entry) + tile.x)
        for place, row, column in _vectors(variant, tile):
            value = pointers.x.load_woven(origin + (row * rows.input_step + column * step), width, step)
            sums.store(place, sums.load(place, width) + weight * value, width)


def _store(problem: Conv2d, variant: Variant, pointers: _Pointers, tile: _Tile, channel: Any, sums: Memory) -> None:
    _, rows, columns = problem.grid
    width = variant.width
    strides = [problem.y.channel_stride, *(step.view.channel_stride for step in residuals(problem.epilogue))]
    bases = [script.let(place + channel * stride) for place, stride in zip(tile.outputs, strides, strict=True)]
    for place, row, column in _vectors(variant, tile):
        at = [base + (row * rows.output_steps[i] + column * columns.output_steps[i]) for i, base in enumerate(bases)]

        def residual(number: int, _: Any, at: list[Any] = at) -> Any:
            return pointers.residuals[number].load(at[number + 1], width, columns.output_steps[number + 1])

        total = script.unwoven(sums.load(place, width), width, columns.input_step)
        value = stored(apply_epilogue(problem.epilogue, total, residual), problem.y.format)
        pointers.y.store(at[0], value, width, columns.output_steps[0])
