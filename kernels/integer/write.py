"""What an integer kernel does with finished sums: scales, epilogue and stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from edgeprune.kernels.abi import EpilogueStep, Format, Residual
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shares import stored_pieces
from edgeprune.kernels.integer.chain import held
from edgeprune.kernels.integer.finish import finished, needed
from edgeprune.kernels.integer.state import Code, first_channel
from edgeprune.kernels.integer.variant import Part
from edgeprune.kernels.integer.walk import Tile
from edgeprune.kernels.script import shuffle
from edgeprune.kernels.storage import converted
from edgeprune.kernels.vector_math import constant


def stored_together(problem: Conv2d, part: Part) -> list[tuple[int, ...]]:
    """The vectors of a block in groups: whole ones of a narrow format fill a register before they are stored."""
    together = 4 // problem.y.format.itemsize if problem.y.channel_stride == 1 else 1
    ends = [first_channel(part, i) + lanes for i, lanes in enumerate(part.vectors)]
    whole = sum(
        lanes == part.vectors[0] and end <= part.share.valid for lanes, end in zip(part.vectors, ends, strict=True)
    )
    groups = [tuple(range(i, min(i + together, whole))) for i in range(0, whole, together)]
    return [*groups, *((i,) for i in range(whole, len(part.vectors)))]


def write(code: Code, part: Part, tile: Tile, pixel: int, vector: int, values: Sequence[Any]) -> None:
    """Store the real `values` of vectors from `vector` on, at once."""
    y = code.problem.y
    _, rows, columns = code.problem.grid
    row, column = tile.pixels[pixel]

    def place(output: int, channel: int, stride: int) -> Any:
        step = row * rows.output_steps[output] + column * columns.output_steps[output]
        return tile.outputs[output] + (step + channel * stride)

    def load(position: int, step: Residual, channel: int, lanes: int) -> Any:
        stride = step.view.channel_stride
        return code.buffers.residuals[position].load(place(position + 1, channel, stride), lanes, stride)

    def store(channel: int, results: Sequence[Any], lanes: int) -> None:
        steps, summands = _summands(code, load, channel, lanes, len(results))
        wholes = [_whole(code, steps, value, [of_step[i] for of_step in summands]) for i, value in enumerate(results)]
        width = lanes * len(wholes)
        result = shuffle(wholes, range(width)) if len(wholes) > 1 else wholes[0]
        stored = code.idiom.placed(result, y.format) if y.format.quantized else result
        code.buffers.y.store(place(0, channel, y.channel_stride), stored, width, y.channel_stride)

    before, lanes = first_channel(part, vector), part.vectors[vector]
    if len(values) > 1:
        store(before, values, lanes)
        return
    for first, count in stored_pieces(min(lanes, part.share.valid - before), lanes):
        piece = values[0] if count == lanes else shuffle(values, range(first, first + count))
        store(before + first, [piece], count)


def _whole(code: Code, steps: tuple[EpilogueStep, ...], value: Any, summands: Sequence[Any]) -> Any:
    format = code.problem.y.format
    result = finished(needed(steps, format), value, lambda position, _: summands[position])
    return code.idiom.rounded(result, format) if format.quantized else result


def _summands(
    code: Code, load: Callable[[int, Residual, int, int], Any], channel: int, lanes: int, count: int
) -> tuple[tuple[EpilogueStep, ...], list[list[Any]]]:
    """The epilogue, and what each of its residuals adds to `count` vectors from `channel` on.

    Where vectors are halved for free, bytes of all of them are loaded at once and centred while they are short.
    """
    steps: list[EpilogueStep] = []
    summands: list[list[Any]] = []
    for step in code.problem.epilogue:
        if not isinstance(step, Residual):
            steps.append(step)
            continue
        position, view = len(summands), step.view
        if count > 1 and code.idiom.factor is not None and view.format.itemsize == 1 and view.channel_stride == 1:
            short = converted(load(position, step, channel, lanes * count), "int16")
            centred = held(short - constant(view.format.zero, short, "int16"), "int16", lanes * count)
            summands.append([shuffle([centred], range(i * lanes, (i + 1) * lanes)) for i in range(count)])
            steps.append(replace(step, view=replace(view, format=_centred(view.format))))
        else:
            summands.append([load(position, step, channel + i * lanes, lanes) for i in range(count)])
            steps.append(step)
    return tuple(steps), summands


def _centred(format: Format) -> Format:
    return Format("int16", format.scale, 0, format.low - format.zero, format.high - format.zero)
