"""A thin layer over TVM's TensorIR builder: pointer arguments, vector loads and stores, functions from Python code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as script

from edgeprune.kernels.abi import EpilogueStep, Format, Residual, View
from edgeprune.kernels.epilogue import apply_epilogue, element
from edgeprune.kernels.vector_math import lanes_of, real_type

FLOAT = "float32"
INTEGER = "int32"

let = script.bind


@contextmanager
def serial(first: Any, last: Any) -> Iterator[Any]:
    """A loop over [first, last); TVM's canonical loops begin at zero, so the counter is shifted here."""
    with script.serial(0, last - first) as counter:
        yield counter + first


def either(condition: Any, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
    """Emit a branch: the statements that `then` emits where the scalar `condition` holds, else those of `otherwise`."""
    with script.If(condition):
        with script.Then():
            then()
        with script.Else():
            otherwise()


@dataclass(frozen=True)
class Memory:
    """One pointer argument of a kernel, or a local array, indexed by elements."""

    buffer: Any

    def load(self, index: Any, lanes: int = 1, stride: int = 1) -> Any:
        """`lanes` elements from `index` on, `stride` apart: a scalar for 1 lane, else a vector.

        Reads no element but those from the first to the last.
        """
        if stride == 0:
            return splat(self.buffer[index], lanes)
        if stride == 2 and lanes > 1:
            return self._every_second(index, lanes)
        return self.buffer[_span(index, lanes, stride)]

    def _every_second(self, index: Any, lanes: int) -> Any:
        halves = (self.load(index, lanes), self.load(index + (lanes - 1), lanes))
        half = lanes // 2
        return shuffle(halves, [2 * i for i in range(half)] + [lanes + 1 + 2 * i for i in range(half)])

    def load_woven(self, index: Any, lanes: int, stride: int) -> Any:
        """As `load`, but the lanes may come in the order that costs least; `unwoven` puts results in order."""
        if not _weaves(lanes, stride):
            return self.load(index, lanes, stride)
        halves = (self.load(index, lanes), self.load(index + (lanes - 1), lanes))
        return shuffle(halves, [2 * i if i < lanes // 2 else 2 * i + 1 for i in _weave(lanes)])

    def store(self, index: Any, value: Any, lanes: int = 1, stride: int = 1) -> None:
        """Write `value` to `lanes` elements from `index` on, `stride` apart."""
        script.buffer_store(self.buffer, value, [_span(index, lanes, stride)])


def _span(index: Any, lanes: int, stride: int) -> Any:
    return index if lanes == 1 else tirx.Ramp(index, stride, lanes)


def load_view(memory: Memory, view: View, at: Sequence[Any], lanes: int, along: str) -> Any:
    """What is stored of `lanes` elements of `view` from `at` (image, channel, row, column) on, "channel" or "pixel"
    after "pixel"."""
    stride = view.channel_stride if along == "channel" else view.pixel_stride
    return memory.load(element(view, *at), lanes, stride)


def finish(
    epilogue: Sequence[EpilogueStep], value: Any, memories: Sequence[Memory], at: Sequence[Any], lanes: int, along: str
) -> Any:
    """`epilogue` of `lanes` results at `at`; `memories` are those of its residuals."""

    def residual(position: int, step: Residual) -> Any:
        return load_view(memories[position], step.view, at, lanes, along)

    return apply_epilogue(epilogue, value, residual)


def _weaves(lanes: int, stride: int) -> bool:
    return stride == 2 and lanes > 4


def _weave(lanes: int) -> list[int]:
    """The pixel that each lane holds when runs of four lanes take two pixels from the lower and upper half each."""
    half = lanes // 2
    return [2 * (lane // 4) + lane % 2 + half * (lane % 4 // 2) for lane in range(lanes)]


def unwoven(value: Any, lanes: int, stride: int) -> Any:
    """Results of `Memory.load_woven` values of the same `lanes` and `stride`, in order."""
    if not _weaves(lanes, stride):
        return value
    order = _weave(lanes)
    return shuffle([value], [order.index(lane) for lane in range(lanes)])


def splat(value: Any, lanes: int, dtype: str = FLOAT) -> Any:
    """A vector that holds the scalar `value` in every lane; Python numbers become `dtype`, of real numbers."""
    scalar = tirx.FloatImm(dtype, float(value)) if isinstance(value, int | float) else value
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def zeros(format: Format, lanes: int) -> Any:
    """What a buffer of `format` holds of the number zero, in every lane."""
    return splat(tirx.const(format.zero, format.dtype), lanes)


def shuffle(vectors: Sequence[Any], order: Sequence[int]) -> Any:
    """The lanes `order` of the concatenated `vectors`."""
    return tirx.Shuffle(list(vectors), list(order))


def local_array(size: int, dtype: str = FLOAT) -> Memory:
    """An array that lives in registers; every index must be a constant after unrolling."""
    return Memory(script.alloc_buffer((size,), dtype, scope="local"))


def keep(value: Any) -> Any:
    """`value` computed here and held in a register.

    Unlike `let`, whose value TVM's simplifier may put in again at every use: an expression that binds variables of
    its own must not appear twice.
    """
    lanes = lanes_of(value)
    memory = local_array(lanes, real_type(value))
    memory.store(0, value, lanes)
    return memory.load(0, lanes)


def kernel_function(dtypes: Sequence[str], body: Callable[[list[Memory], Any, Any], None]) -> Any:
    """A TensorIR function of pointers to `dtypes` and int32 `begin`, `end`.

    `body(memories, begin, end)` emits its statements with `serial`, `let` and `Memory`.
    """
    with IRBuilder() as ir:
        with script.prim_func(s_tir=True):
            script.func_name("kernel")
            handles = [script.arg(f"p{i}", script.handle(dtype)) for i, dtype in enumerate(dtypes)]
            begin, end = script.arg("begin", script.int32()), script.arg("end", script.int32())
            script.func_attr({"tirx.noalias": True})
            memories = [
                Memory(script.decl_buffer((1,), dtype, data=handle))
                for dtype, handle in zip(dtypes, handles, strict=True)
            ]
            body(memories, begin, end)
        return ir.get()


def vector_pieces(count: int, lanes: int) -> list[tuple[int, int, int]]:
    """Cover `count` elements exactly by vectors: runs (start, vectors, lanes), widest lanes first, then halves."""
    runs, start = [], 0
    while start < count:
        if count - start >= lanes:
            vectors = (count - start) // lanes
            runs.append((start, vectors, lanes))
            start += vectors * lanes
        lanes //= 2
    return runs


def overlapping_starts(count: int, lanes: int) -> tuple[int, list[int]]:
    """Cover `count` elements by vectors of one width, the last of which may overlap the one before: (width, starts)."""
    width = 1 << (min(count, lanes).bit_length() - 1)
    starts = list(range(0, count - width + 1, width))
    return width, starts if count % width == 0 else [*starts, count - width]


def shared_reads(outputs: int, taps: int, stride: int, dilation: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """Input positions that `outputs` neighbours read along one axis, each with the (output, tap) pairs that read it."""
    found: dict[int, list[tuple[int, int]]] = {}
    for output in range(outputs):
        for tap in range(taps):
            found.setdefault(output * stride + tap * dilation, []).append((output, tap))
    return sorted(found.items())


def tile_runs(count: int, limit: int) -> list[tuple[int, int, int]]:
    """Split `count` pixels into as few tiles as `limit` allows, of nearly equal size: runs (start, tiles, size)."""
    tiles = -(-count // limit)
    size, larger = divmod(count, tiles)
    runs = [(0, larger, size + 1)] if larger else []
    return [*runs, (larger * (size + 1), tiles - larger, size)]
