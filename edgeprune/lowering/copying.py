"""Copies between places in buffers: the move kernels, and a gather where no loops describe the copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeprune.kernels.abi import Format, View
from edgeprune.kernels.elementwise.elementwise import Elementwise, Step, build_elementwise
from edgeprune.kernels.elementwise.move import Move, build_move
from edgeprune.kernels.fixed_point.table import build_fixed_table, fixed_table
from edgeprune.lowering.layout import Storage
from edgeprune.lowering.plan import Layer
from edgeprune.lowering.program import Program
from edgeprune.lowering.region import lower_region
from edgeprune.lowering.strided import Strided, copy_views, dense, fit, image_view

_MOST_LOOPS = 4


def copy(
    program: Program, buffer: str, places: np.ndarray, target: Strided, name: str, steps: Sequence[Step] = ()
) -> None:
    """Append the copy of the elements at `places` of `buffer`, an array of the shape of `target`, to `target`.

    Where the two buffers store numbers differently, each element is stored anew, after `steps`.
    """
    formats = program.layout.format_of(buffer), program.layout.format_of(target.buffer)
    if program.target.arithmetic == "fixed" and _changes_grid(*formats) and not steps:
        buffer, places = _on_other_grid(program, buffer, places, formats[1], name)
        formats = formats[1], formats[1]
    move = _as_move(buffer, places, target) or _as_loops(places.reshape(-1), target.places().reshape(-1))
    anew = formats[0] != formats[1] or bool(steps)
    if move is None or (move.channels is not None and anew):
        buffer = _gathered(program, buffer, places, name)
        places = dense(buffer, target.shape).places()
        move = _as_move(buffer, places, target) or _as_loops(places.reshape(-1), target.places().reshape(-1))
        assert move is not None
    x, y = (replace(view, format=format) for view, format in zip((move.x, move.y), formats, strict=True))
    (source, x), (result, y) = program.part(buffer, x), program.part(target.buffer, y)
    if anew:
        kernel = build_elementwise(Elementwise(y=y, inputs=(x,), program=(("input", 0), *steps)), program.machine)
    else:
        kernel = build_move(replace(move, x=x, y=y), program.machine)
    op = "Store" if anew else "Move"
    program.call(kernel, [source], [result], Layer(name, op, kernel.label), stem=op.lower())


def _changes_grid(x: Format, y: Format) -> bool:
    return x != y and x.dtype == y.dtype == "int8"


def _on_other_grid(
    program: Program, buffer: str, places: np.ndarray, grid: Format, name: str
) -> tuple[str, np.ndarray]:
    """A new buffer with the elements at `places`, in the order in which they lie, on `grid`; their places there."""
    first, size = int(places.min()), int(places.max()) - int(places.min()) + 1
    if size > places.size:
        gathered = program.fresh(f"gathered:{name}")
        program.add_storage(gathered, Storage(int(places.size), format=program.layout.format_of(buffer)))
        target = dense(gathered, tuple(places.shape))
        copy(program, buffer, places, target, name)
        buffer, places, first, size = gathered, target.places(), 0, int(places.size)
    changed = program.fresh(f"changed:{name}")
    program.add_storage(changed, Storage(size, format=grid))
    x = View(1, size, 1, 1, first, 0, 1, 0, 0, program.layout.format_of(buffer))
    y = View(1, size, 1, 1, 0, 0, 1, 0, 0, grid)
    kernel = build_fixed_table(x, y, fixed_table(None, x.format, grid), program.machine)
    program.call(kernel, [buffer], [changed], Layer(name, "Store", kernel.label), stem="store")
    return changed, places - first


def separate(buffer: str, places: np.ndarray) -> tuple[Strided, np.ndarray | None] | None:
    """`places` as one strided image plus an offset for every channel; None offsets where a stride serves."""
    whole = fit(buffer, places)
    if whole is not None:
        return whole, None
    if places.ndim < 3:
        return None
    first = fit(buffer, places[:, :1])
    if first is None:
        return None
    offsets = places.reshape(*places.shape[:2], -1)[0, :, 0] - int(places.flat[0])
    spread = offsets.reshape((1, -1, *([1] * (places.ndim - 2))))
    if not np.array_equal(places, places[:, :1] + spread):
        return None
    return Strided(buffer, tuple(places.shape), first.strides, first.offset), offsets


def _as_move(buffer: str, places: np.ndarray, target: Strided) -> Move | None:
    source = fit(buffer, places)
    if source is not None:
        views = copy_views(source, target)
        return None if views is None else Move(views[0], views[1])
    separated = separate(buffer, places) if places.ndim == 4 else None
    if separated is None or separated[1] is None:
        return None
    base, offsets = separated[0], separated[1]
    step = int(np.gcd.reduce(offsets)) or 1
    lowest = int(offsets.min())
    spread = (offsets - lowest) // step
    view = image_view(Strided(buffer, base.shape, base.strides, base.offset + lowest))
    channels = int(spread.max()) + 1
    source_view = View(
        view.batch,
        channels,
        view.height,
        view.width,
        view.offset,
        view.batch_stride,
        step,
        view.row_stride,
        view.pixel_stride,
    )
    return Move(source_view, image_view(target), channels=tuple(int(channel) for channel in spread))


def _as_loops(sources: np.ndarray, targets: np.ndarray) -> Move | None:
    """The copy as nested loops over the elements in order, or None where more than four are needed."""
    first = int(sources[0]), int(targets[0])
    loops: list[tuple[int, int, int]] = []
    while sources.size > 1:
        extent = _common_run(sources, targets)
        if extent == 1 or len(loops) == _MOST_LOOPS:
            return None
        loops.append((extent, int(sources[1] - sources[0]), int(targets[1] - targets[0])))
        sources, targets = sources[::extent], targets[::extent]
    loops.sort(key=lambda loop: -loop[2])
    (n, ns, nt), (h, hs, ht), (w, ws, wt), (c, cs, ct) = [(1, 0, 0)] * (_MOST_LOOPS - len(loops)) + loops
    return Move(View(n, c, h, w, first[0], ns, cs, hs, ws), View(n, c, h, w, first[1], nt, ct, ht, wt))


def _common_run(sources: np.ndarray, targets: np.ndarray) -> int:
    """The longest evenly spaced run that both sequences start with and repeat to their end."""
    longest = sources.size
    for sequence in (sources, targets):
        uneven = np.flatnonzero(np.diff(sequence) != sequence[1] - sequence[0])
        longest = min(longest, int(uneven[0]) + 1 if uneven.size else longest)
    for extent in range(longest, 1, -1):
        if sources.size % extent == 0 and all(_repeats(sequence, extent) for sequence in (sources, targets)):
            return extent
    return 1


def _repeats(sequence: np.ndarray, extent: int) -> bool:
    rows = sequence.reshape(-1, extent)
    return bool(np.array_equal(rows - rows[:, :1], np.broadcast_to(rows[0] - rows[0, 0], rows.shape)))


def _gathered(program: Program, buffer: str, places: np.ndarray, name: str) -> str:
    """A new buffer with the elements at `places`, row-major, gathered by TVM's own kernel."""
    reach = int(places.max()) + 1
    format = program.layout.format_of(buffer)
    kind = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(format.dtype)))
    graph = helper.make_graph(
        [helper.make_node("Gather", ["data", "places"], ["out"], name=name, axis=0)],
        "gather",
        [helper.make_tensor_value_info("data", kind, [reach])],
        [helper.make_tensor_value_info("out", kind, [places.size])],
        [numpy_helper.from_array(places.reshape(-1).astype(np.int64), "places")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    result = program.fresh(f"gather:{name}")
    program.add_storage(result, Storage(int(places.size), format=format))
    region = lower_region(model, program.target, f"edge_gather_{len(program.steps)}")
    names = {region.inputs["data"]: buffer, region.outputs["out"]: result}
    program.add_region(region, names, Layer(name, "Gather", "tvm"))
    return result
