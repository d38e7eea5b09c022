"""The loops of an integer kernel: from a unit of work to its block of output channels and its tiles of pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shares import Split
from edgeprune.kernels.epilogue import residuals
from edgeprune.kernels.integer.variant import Part, Variant
from edgeprune.kernels.script import either, let, serial


@dataclass(frozen=True)
class Block:
    """The block at hand: its number among all in the order of the packed arrays, where its channels lie in them."""

    part: Part
    channel: Any
    place: Any
    row: Any


@dataclass(frozen=True)
class Tile:
    """The tile at hand: its size, and the index of its first pixel in the input, the output and the residuals."""

    rows: int
    columns: int
    x: Any
    outputs: tuple[Any, ...]

    @property
    def pixels(self) -> list[tuple[int, int]]:
        """The (row, column) of each pixel within the tile."""
        return [(row, column) for row in range(self.rows) for column in range(self.columns)]


Body = Callable[[Tile], None]
Start = Callable[[Block], Body]


def unit_count(problem: Conv2d, variant: Variant) -> int:
    """Units of work of the whole problem."""
    return sum(_part_units(problem, part) for part in variant.parts)


def walk(problem: Conv2d, variant: Variant, begin: Any, end: Any, start: Start) -> None:
    """Emit the loops over units [begin, end).

    `start` emits what is done once for a block, and gives what emits the rest for each of its tiles.
    """
    with serial(begin, end) as counter:
        _parts(problem, variant, 0, let(counter), start)


def _pixel_units(problem: Conv2d, part: Part) -> int:
    return problem.grid[0].count * part.rows.tiles * part.chunks


def _part_units(problem: Conv2d, part: Part) -> int:
    return problem.groups * part.share.blocks * _pixel_units(problem, part)


def _parts(problem: Conv2d, variant: Variant, index: int, unit: Any, start: Start) -> None:
    if index == len(variant.parts) - 1:
        _unit(problem, variant, index, unit, start)
        return
    units = _part_units(problem, variant.parts[index])
    either(
        unit < units,
        lambda: _unit(problem, variant, index, unit, start),
        lambda: _parts(problem, variant, index + 1, let(unit - units), start),
    )


def _unit(problem: Conv2d, variant: Variant, index: int, unit: Any, start: Start) -> None:
    part = variant.parts[index]
    if variant.block_outer:
        number, place = _divided(unit, _pixel_units(problem, part))
    else:
        place, number = _divided(unit, problem.groups * part.share.blocks)
    block = _block(problem, variant, index, number)
    body = start(block)
    lines, chunk = _divided(place, part.chunks)
    image, piece = _divided(lines, part.rows.tiles)
    _rows(part.rows, piece, lambda row, rows: _columns(problem, block, image, row, rows, chunk, body))


def _divided(value: Any, divisor: int) -> tuple[Any, Any]:
    return let(tirx.truncdiv(value, divisor)), let(tirx.truncmod(value, divisor))


def _block(problem: Conv2d, variant: Variant, index: int, number: Any) -> Block:
    part, before = variant.parts[index], variant.parts[:index]
    share = part.share
    channel = number * share.valid + share.start
    if problem.groups > 1:
        group, within = _divided(number, share.blocks)
        channel = group * problem.group_outputs + within * share.valid + share.start
    place = number * part.width + sum(problem.groups * p.share.blocks * p.width for p in before)
    row = number + sum(problem.groups * p.share.blocks for p in before)
    return Block(part, let(channel), let(place), row)


def _rows(rows: Split, piece: Any, body: Callable[[Any, int], None]) -> None:
    if not rows.longer:
        body(let(piece * rows.size), rows.size)
        return
    start = let(piece * rows.size + tirx.min(piece, rows.longer))
    either(piece < rows.longer, lambda: body(start, rows.size + 1), lambda: body(start, rows.size))


def _columns(problem: Conv2d, block: Block, image: Any, row: Any, rows: int, chunk: Any, body: Body) -> None:
    images, lines, columns = problem.grid
    split, chunks = block.part.columns, block.part.chunks
    x = let(image * images.input_step + row * lines.input_step + problem.x.offset)
    outputs = _outputs(problem, block, image, row)

    def run(start: Any, stop: Any, size: int, skipped: int) -> None:
        with serial(start, stop) as number:
            column = let(number * size + skipped)
            places = [let(at + column * step) for at, step in zip(outputs, columns.output_steps, strict=True)]
            body(Tile(rows, size, let(x + column * columns.input_step), tuple(places)))

    first = let(tirx.truncdiv(chunk * split.tiles, chunks))
    last = let(tirx.truncdiv((chunk + 1) * split.tiles, chunks))
    if split.longer:
        run(first, tirx.min(last, split.longer), split.size + 1, 0)
        run(tirx.max(first, split.longer), last, split.size, split.longer)
    else:
        run(first, last, split.size, 0)


def _outputs(problem: Conv2d, block: Block, image: Any, row: Any) -> list[Any]:
    images, lines, _ = problem.grid
    views = (problem.y, *(step.view for step in residuals(problem.epilogue)))
    return [
        let(image * image_step + row * row_step + block.channel * view.channel_stride + view.offset)
        for view, image_step, row_step in zip(views, images.output_steps, lines.output_steps, strict=True)
    ]
