"""Stores of x86: the vectors of several pixels become one register, parts of which are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from edgeprune.kernels.abi import Residual
from edgeprune.kernels.epilogue import residuals
from edgeprune.kernels.integer.finish import finished, needed
from edgeprune.kernels.integer.packs import bounded_integer, packed, packed_together, packs
from edgeprune.kernels.integer.state import Code, first_channel
from edgeprune.kernels.integer.variant import Part
from edgeprune.kernels.integer.walk import Tile
from edgeprune.kernels.script import keep, let, shuffle, vector_pieces

_WIDTHS = (4, 8, 16)


def packed_vectors(code: Code, part: Part) -> int:
    """How many vectors of a block are written this way: the first ones, which are alike and stored in full.

    One more, of which a part is stored, goes with them where what is added to it may be read past its end.
    """
    y, lanes = code.problem.y, part.vectors[0]
    if not code.idiom.packs or not y.format.quantized or not packs(y.format) or y.channel_stride != 1:
        return 0
    if lanes not in _WIDTHS:
        return 0
    whole = sum(
        own == lanes and first_channel(part, vector) + own <= part.share.valid
        for vector, own in enumerate(part.vectors)
    )
    readable = all(step.view.format.quantized for step in residuals(code.problem.epilogue))
    return whole + (readable and part.vectors[whole : whole + 1] == (lanes,))


def write_packed(code: Code, part: Part, tile: Tile, count: int, real: Callable[[int, int], Any]) -> None:
    """Store the first `count` vectors of every pixel; `real(pixel, vector)` is a vector of them before the epilogue."""
    format, lanes = code.problem.y.format, part.vectors[0]
    places = [(pixel, vector) for pixel in range(len(tile.pixels)) for vector in range(count)]
    size = packed_together(format)
    for first in range(0, len(places), size):
        own = places[first : first + size]
        whole = [let(bounded_integer(keep(_finished(code, tile, at, lanes, let(real(*at)))), format)) for at in own]
        held = let(packed([*whole, *whole[-1:] * (size - len(whole))], format))
        for numbers in _runs(own):
            pixel, vector = own[numbers[0]]
            begin, width = numbers[0] * lanes, min(len(numbers) * lanes, part.share.valid - vector * lanes)
            pieces = [(0, width)] if width == len(numbers) * lanes else _pieces(width)
            for start, count in pieces:
                order = range(begin + start, begin + start + count)
                piece = held if count == size * lanes else shuffle([held], order)
                code.buffers.y.store(_place(code, tile, pixel, 0, vector * lanes + start, 1), piece, count)


def _pieces(width: int) -> list[tuple[int, int]]:
    """What is stored of `width` elements at once: (first, count), in powers of two."""
    return [(start, lanes) for start, _, lanes in vector_pieces(width, 1 << (width.bit_length() - 1))]


def _runs(places: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The numbers of `places` that are of one pixel."""
    return [list(numbers) for _, numbers in groupby(range(len(places)), key=lambda number: places[number][0])]


def _finished(code: Code, tile: Tile, at: tuple[int, int], lanes: int, value: Any) -> Any:
    pixel, vector = at

    def load(position: int, residual: Residual) -> Any:
        stride = residual.view.channel_stride
        place = _place(code, tile, pixel, position + 1, vector * lanes, stride)
        return code.buffers.residuals[position].load(place, lanes, stride)

    return finished(needed(code.problem.epilogue, code.problem.y.format), value, load)


def _place(code: Code, tile: Tile, pixel: int, output: int, channel: int, stride: int) -> Any:
    _, rows, columns = code.problem.grid
    row, column = tile.pixels[pixel]
    step = row * rows.output_steps[output] + column * columns.output_steps[output]
    return tile.outputs[output] + (step + channel * stride)
