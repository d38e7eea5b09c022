"""What code that layers share reads from memory: the sizes of a problem, and by them the pixels that it gathers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather import Gather
from edgeprune.kernels.fixed_point.rescaling import kept
from edgeprune.kernels.script import Memory, either, let, serial

FIELDS = (
    "zero", "pixels", "groups", "inputs", "outputs", "x_offset", "x_pixel", "y_offset", "y_pixel", "turns",
)  # fmt: skip
"""Sizes of any problem: `zero` is twice the output's plus one, `turns` those of the loop over a pixel's channels."""

WINDOW_FIELDS = (
    "words", "y_width", "y_height", "x_width", "x_height", "x_row", "x_batch", "rows", "columns", "down_stride",
    "right_stride", "down_dilation", "right_dilation", "top", "left", "runs", "run_turns", "run_words",
)  # fmt: skip
"""And of one whose output pixels read several: `words` are the blocks of a tap, `runs` of them lie together."""


@dataclass(frozen=True)
class Sizes:
    """The sizes `fields` in `memory`."""

    memory: Memory
    fields: tuple[str, ...]

    def __call__(self, name: str) -> Any:
        """One of the sizes."""
        return self.at(self.fields.index(name))

    def at(self, index: Any) -> Any:
        """What is stored at `index`: sizes, then where each group's stream begins, and the last one's end."""
        return tirx.Cast("int32", self.memory.load(index))

    def begin(self, group: Any) -> Any:
        """Where the stream of `group` begins."""
        return self.at(len(self.fields) + group)


def stored(found: dict[str, int], fields: tuple[str, ...], begins: np.ndarray) -> np.ndarray:
    """The sizes `fields`, then `begins`: int16 where they fit, else int32."""
    values = np.array([*(found[name] for name in fields), *begins], np.int64)
    return values.astype(np.int16 if np.abs(values).max() < 2**15 else np.int32)


def pixelwise(problem: Conv2d) -> bool:
    """Whether each output pixel reads one pixel, in the same order."""
    return problem.kernel == problem.strides == (1, 1) and not any(problem.halo())


def problem_sizes(problem: Conv2d, zero: int, block: int, repeat: int) -> dict[str, int]:
    """The sizes of `problem` in blocks of `block` channels, of which a turn of the gathering loop does `repeat`."""
    x, y, words = problem.x, problem.y, problem.group_inputs // block
    gather = Gather(problem, 1, True)
    return {
        "zero": 2 * zero + 1, "pixels": problem.pixels, "groups": problem.groups, "inputs": problem.group_inputs,
        "outputs": problem.group_outputs, "x_offset": x.offset, "x_pixel": x.pixel_stride, "y_offset": y.offset,
        "y_pixel": y.pixel_stride, "turns": words // repeat, "words": words, "y_width": y.width,
        "y_height": y.height, "x_width": x.width, "x_height": x.height, "x_row": x.row_stride,
        "x_batch": x.batch_stride if x.batch > 1 else 0, "rows": problem.kernel[0], "columns": problem.kernel[1],
        "down_stride": problem.strides[0], "right_stride": problem.strides[1], "down_dilation": problem.dilations[0],
        "right_dilation": problem.dilations[1], "top": problem.pads[0], "left": problem.pads[1],
        "runs": gather.runs[1], "run_turns": gather.run // block // repeat, "run_words": gather.run // block,
    }  # fmt: skip


def window(
    size: Sizes,
    pixel: Any,
    first: Any,
    target: Any,
    step: int,
    spread: Callable[[Any, Any, Any], None],
    blank: Callable[[Any], None],
) -> None:
    """All taps of one output pixel, in runs where they all lie in the image.

    `first` is where the first image's group begins in x, `target` where the pixel's blocks go, `step` apart. `spread`
    takes where a run begins, where it goes and its turns; `blank` where a tap outside goes.
    """
    line, column = let(tirx.truncdiv(pixel, size("y_width"))), let(tirx.truncmod(pixel, size("y_width")))
    image, row = let(tirx.truncdiv(line, size("y_height"))), let(tirx.truncmod(line, size("y_height")))
    top, left = let(row * size("down_stride") - size("top")), let(column * size("right_stride") - size("left"))
    origin = let(first + image * size("x_batch"))
    below = top + (size("rows") - 1) * size("down_dilation")
    beside = left + (size("columns") - 1) * size("right_dilation")
    within = let(tirx.all(top >= 0, below < size("x_height"), left >= 0, beside < size("x_width")))
    names = (("runs", "columns"), ("run_words", "words"), ("run_turns", "turns"))
    columns, words, turns = (kept(tirx.Select(within, size(joined), size(apart))) for joined, apart in names)
    with serial(0, size("rows") * columns) as tap:
        tap_row = let(tirx.truncdiv(tap, columns))
        down = let(top + tap_row * size("down_dilation"))
        right = let(left + (tap - tap_row * columns) * size("right_dilation"))
        to = let(target + tap * words * step)
        place = origin + down * size("x_row") + right * size("x_pixel")
        inside = tirx.all(down >= 0, down < size("x_height"), right >= 0, right < size("x_width"))
        either(inside, lambda: spread(place, to, turns), lambda: blank(to))
