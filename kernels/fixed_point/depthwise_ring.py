"""The rows that a depthwise convolution still needs, kept in scratch as a ring: each input is taken in once.

A slot of the ring holds one row of the padded image. Output row y reads the slots of its taps' rows; whatever lies
beyond the image is a slot, or the ends of one, filled with the input's zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder

from edgeprune.kernels import script
from edgeprune.kernels.abi import View
from edgeprune.kernels.depthwise.problem import Depthwise


@dataclass(frozen=True)
class Ring:
    """Which rows the ring of `problem` holds, and where.

    Up to `phases` positions in the ring get code of their own; beyond that slots are found at run time. With `most` the
    ring may be as many times as high as it must be: where it then holds an image, every row has the same code.
    """

    problem: Depthwise
    phases: int = 3
    most: int = 1

    @property
    def window(self) -> int:
        """Rows from the first to the last tap."""
        return (self.problem.kernel[0] - 1) * self.problem.dilations[0] + 1

    @property
    def whole(self) -> bool:
        """Whether a slot serves one row only."""
        return self._rows <= self.most * self.window

    @property
    def slots(self) -> int:
        """Rows that the ring holds."""
        return self._rows if self.whole else self.window

    @property
    def _rows(self) -> int:
        """Rows of the padded image that are read."""
        return (self.problem.y.height - 1) * self.problem.strides[0] + self.window

    @property
    def positions(self) -> int:
        """Columns of the padded image that are read."""
        problem = self.problem
        return (problem.y.width - 1) * problem.strides[1] + (problem.kernel[1] - 1) * problem.dilations[1] + 1

    @property
    def columns(self) -> tuple[int, int]:
        """The positions [first, last) that lie inside the image."""
        left = self.problem.pads[1]
        return min(left, self.positions), min(left + self.problem.x.width, self.positions)

    def newest(self, row: int) -> int:
        """The last input row that output `row` needs, inside the image or not."""
        return row * self.problem.strides[0] - self.problem.pads[0] + self.window - 1

    def overlap(self) -> int:
        """`Kernel.overlaps` of the input: how far into it the output may begin, in bytes."""
        x, y = self.problem.x, self.problem.y
        found = [x.offset + (x.batch - 1) * x.batch_stride + x.height * x.row_stride]
        for image in range(y.batch):
            for row in range(y.height):
                unread = min(max(0, self.newest(row) + 1), x.height)
                if unread < x.height or image + 1 < x.batch:
                    first = x.offset + image * x.batch_stride + unread * x.row_stride
                    found.append(first - _row_end(y, image, row) - 1)
        return min(found)

    def walk(
        self, image: Any, take: Callable[[Any, Any], None], blank: Callable[[Any], None], compute: Callable[..., None]
    ) -> None:
        """Emit the loop over output rows of `image`.

        `take(row, slot)` brings an input row into a slot, `blank(slot)` fills one with zeros, and `compute(row,
        slots)` makes an output row from the slots of its rows of taps, integers or expressions; where the ring is
        `whole`, counted from the slot of the first.
        """
        problem, slots, stride = self.problem, self.slots, self.problem.strides[0]
        fresh = min(stride, self.window)
        before = -(-max(0, self.window - stride) // stride)
        with script.serial(-before, problem.y.height) as row:
            with script.serial(0, fresh) as each:
                padded = script.let(row * stride + (self.window - fresh) + each)
                slot = script.let(tirx.truncmod(padded + before * stride * slots, slots))
                source = script.let(padded - problem.pads[0])
                inside = tirx.all(source >= 0, source < problem.x.height)
                script.either(inside, lambda: take(source, slot), lambda: blank(slot))
            with builder.If(row >= 0), builder.Then():
                self._phases(row, compute)

    def _phases(self, row: Any, compute: Callable[..., None]) -> None:
        """`compute` with the slots of the taps' rows, as integers where few cases cover them."""
        slots, stride, dilation = self.slots, self.problem.strides[0], self.problem.dilations[0]
        taps = range(self.problem.kernel[0])
        count = 1 if self.whole else slots // gcd(slots, stride)

        def case(phase: int) -> None:
            def here() -> None:
                compute(row, [(phase * stride + tap * dilation) % slots for tap in taps])

            if phase == count - 1:
                here()
            else:
                script.either(tirx.truncmod(row, count) == phase, here, lambda: case(phase + 1))

        if count <= self.phases:
            case(0)
        else:
            compute(row, [script.let(tirx.truncmod(row * stride + tap * dilation, slots)) for tap in taps])


def _row_end(view: View, image: int, row: int) -> int:
    """The last element of a row of `view`."""
    place = view.offset + image * view.batch_stride + row * view.row_stride
    return place + (view.width - 1) * view.pixel_stride + view.channels - 1


def even_tiles(count: int, limit: int) -> list[tuple[int, int, int]]:
    """Split `count` pixels into tiles that begin at even places, of at most `limit` (even) and nearly equal size: runs
    (start, tiles, size)."""
    pairs = script.tile_runs((count + 1) // 2, limit // 2)
    runs = [(2 * start, tiles, 2 * size) for start, tiles, size in pairs]
    if count % 2 == 0:
        return runs
    start, tiles, size = runs.pop()
    whole = [(start, tiles - 1, size)] if tiles > 1 else []
    return [*runs, *whole, (start + (tiles - 1) * size, 1, size - 1)]


def offsets_of(slots: Sequence[Any], stride: int) -> list[Any]:
    """Elements from the first slot to each of `slots`."""
    return [slot * stride if isinstance(slot, int) else script.let(slot * stride) for slot in slots]
