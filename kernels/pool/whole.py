"""Pooling of planar images over all their pixels: several sums of vectors, folded at the end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.pool.problem import Pool
from edgeprune.kernels.script import Memory

WAYS = 8


def covers_image(problem: Pool) -> bool:
    """Whether the one window of `problem` is the whole image."""
    x, y = problem.x, problem.y
    return problem.kernel == (x.height, x.width) and (y.height, y.width) == (1, 1) and not any(problem.pads)


@lru_cache(maxsize=512)
def whole_function(problem: Pool, lanes: int) -> Any:
    """The function over (x, residuals..., y); one unit is one channel of one image."""
    x, lanes = problem.x, problem.vector_lanes(lanes)
    rows, width = (1, x.height * x.width) if x.row_stride == x.width else (x.height, x.width)
    together = max(1, min(rows, WAYS * lanes // width))

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        with script.serial(begin, end) as unit:
            image, channel = unit // problem.y.channels, unit % problem.y.channels
            origin = script.let(element(x, image, channel, 0, 0))
            sums = _Sums(problem, memories[0], lanes)
            with script.serial(0, rows // together) as turn:
                for i in range(together):
                    sums.row(origin + (turn * together + i) * x.row_stride, width, i * (width // lanes))
            for i in range(rows % together):
                sums.row(origin + (rows // together * together + i) * x.row_stride, width, i)
            problem.store(memories, sums.folded(), rows * width, (image, channel, 0, 0), 1, "pixel")

    return script.kernel_function(problem.dtypes, body)


class _Sums:
    """Partial results: WAYS vectors, and one of every narrower width for the ends of rows."""

    def __init__(self, problem: Pool, x: Memory, lanes: int) -> None:
        self.problem, self.x, self.lanes = problem, x, lanes
        dtype = problem.partial_dtype
        self.wide = script.local_array(WAYS * lanes, dtype)
        self.narrow = {lanes >> i: script.local_array(lanes >> i, dtype) for i in range(1, lanes.bit_length())}
        problem.clear(self.wide, WAYS, lanes)
        for width, memory in self.narrow.items():
            problem.clear(memory, 1, width)

    def row(self, start: Any, count: int, way: int) -> None:
        """Take in `count` neighbours from `start` on; vectors begin with partial result `way`."""
        chunk = WAYS * self.lanes
        whole = count // chunk * chunk
        if whole:
            with script.serial(0, count // chunk) as turn:
                for i in range(WAYS):
                    self._take(self.wide, i * self.lanes, start + turn * chunk + i * self.lanes, self.lanes)
        for first, vectors, width in script.vector_pieces(count - whole, self.lanes):
            for i in range(vectors):
                wide = width == self.lanes
                slot = (way + i) % WAYS * width if wide else 0
                self._take(self.wide if wide else self.narrow[width], slot, start + (whole + first + i * width), width)

    def _take(self, memory: Memory, slot: int, index: Any, lanes: int) -> None:
        value = self.problem.combine(memory.load(slot, lanes), self.problem.taken(self.x.load(index, lanes)))
        memory.store(slot, value, lanes)

    def folded(self) -> Any:
        """All partial results as one scalar."""
        vectors: Sequence[Any] = [self.wide.load(way * self.lanes, self.lanes) for way in range(WAYS)]
        while len(vectors) > 1:
            vectors = [self.problem.combine(*vectors[i : i + 2]) for i in range(0, len(vectors), 2)]
        value, lanes = script.let(vectors[0]), self.lanes
        while lanes > 1:
            lanes //= 2
            halves = [script.shuffle([value], range(i * lanes, (i + 1) * lanes)) for i in (0, 1)]
            pair = self.problem.combine(*halves)
            value = script.let(self.problem.combine(pair, self.narrow[lanes].load(0, lanes)))
        return value
