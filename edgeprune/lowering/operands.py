"""Brings each value to where and how a kernel can read it, copying only when no view of it will do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.kernels.abi import FLOAT16, FLOAT32, Format, View
from edgeprune.lowering.copying import copy, separate
from edgeprune.lowering.geometry import Halo
from edgeprune.lowering.groups import shape_of
from edgeprune.lowering.layout import NO_HALO, Home, Mode, new_home
from edgeprune.lowering.program import Program
from edgeprune.lowering.strided import Strided, beside, dense, fit, image_view
from edgeprune.lowering.trace import Piece, keeps_pixels

_FEW_CHANNELS = 4
"""Images of fewer are as good planar where their values are read one by one: whole rows are copied then."""


@dataclass(frozen=True)
class Operand:
    """A buffer and the view of it to read; `offsets` places channels that lie at no constant stride."""

    buffer: str
    view: View
    offsets: np.ndarray | None = None


def format_of(program: Program, value: ir.Value) -> Format:
    """How the elements of `value` are stored."""
    if value.const_value is not None or value.dtype != ir.DataType.FLOAT:
        return FLOAT32
    return program.layout.format_of(_home(program, value).place.buffer)


def places_of(program: Program, value: ir.Value) -> tuple[str, np.ndarray]:
    """The buffer of a real-valued value and the place of each of its elements; assembles it first if need be."""
    if value.const_value is not None:
        place = dense(program.constant_of(value), shape_of(value))
        return place.buffer, place.places()
    origin = program.trace.origin(value)
    home = ready(program, origin.root)
    return home.place.buffer, home.place.places().reshape(-1)[origin.numbers]


def ready(program: Program, root: ir.Value) -> Home:
    """The home of `root`, filled: an assembled value gets the pieces that were not written in place."""
    home = program.layout.homes[id(root)]
    assembly = program.trace.assemblies.pop(id(root), None)
    if assembly is None:
        return home
    value, pieces = assembly
    covered = sum(piece.positions.size for piece in pieces)
    if covered < int(np.prod(shape_of(value))):
        program.clear(home.place.buffer)
    for piece in pieces:
        _write_piece(program, value, home, piece)
    return home


def image_operand(
    program: Program,
    value: ir.Value,
    halo: Halo,
    mode: Mode,
    *,
    gather: bool = False,
    wanted: Format | None = None,
) -> Operand:
    """`value` as images in the layout `mode`, with a zero border of at least `halo`, in any format but for `wanted`.

    Where `gather` is set the reader takes any channel offsets; otherwise vectors of channels (or, planar, of pixels)
    must lie together.
    """
    buffer, places = places_of(program, value)
    format = program.layout.format_of(buffer)
    if _has_border(program, value, halo) and wanted in (None, format):
        found = separate(buffer, places)
        if found is not None and (gather or (found[1] is None and _is_native(found[0], mode))):
            place = found[0] if not any(halo) else beside(found[0], _home(program, value).place)
            return Operand(buffer, image_view(place, format), found[1])
    lanes = program.machine.lanes_of(wanted or format)
    if gather and lanes > _FEW_CHANNELS and _is_planar(buffer, places) and wanted in (None, format, FLOAT16):
        mode = "pixels"
    home = _copied(program, value, buffer, places, halo, mode, wanted or format)
    return Operand(home.place.buffer, image_view(home.place, wanted or format))


def matrix_operand(program: Program, value: ir.Value, wanted: Format | None = None) -> Operand:
    """`value` of shape [..., K] as rows for a matrix product; the columns may lie anywhere."""
    buffer, places = places_of(program, value)
    format = program.layout.format_of(buffer)
    rows = places.reshape(-1, places.shape[-1])
    place = _rows(buffer, rows, format)
    if place is None or wanted not in (None, format):
        format = wanted or format
        buffer = dense_operand(program, value, format)
        rows = dense(buffer, shape_of(value)).places().reshape(-1, places.shape[-1])
        place = _rows(buffer, rows, format)
        assert place is not None
    return place


def dense_operand(program: Program, value: ir.Value, format: Format = FLOAT32) -> str:
    """The buffer that holds `value` row-major from its start, in `format` where it is of real numbers."""
    if value.const_value is not None:
        return program.constant_of(value)
    if value.dtype != ir.DataType.FLOAT:
        return program.layout.homes[id(value)].place.buffer
    buffer, places = places_of(program, value)
    found = fit(buffer, places)
    if found is not None and found.is_dense and program.layout.format_of(buffer) == format:
        return buffer
    name = program.fresh(f"dense:{value.name}")
    home, storage = new_home(name, shape_of(value), "channels", NO_HALO, image=False, format=format)
    program.add_storage(name, storage)
    copy(program, buffer, places, home.place, value.name or "copy")
    return name


def _write_piece(program: Program, value: ir.Value, home: Home, piece: Piece) -> None:
    inner = ready(program, piece.root)
    sources = inner.place.places().reshape(-1)[piece.numbers]
    targets = home.place.places().reshape(-1)[piece.positions]
    if inner.place.buffer == home.place.buffer and np.array_equal(sources, targets):
        return
    coordinates = np.unravel_index(piece.positions, shape_of(value))
    extents = tuple(np.unique(axis).size for axis in coordinates)
    boxed = fit(home.place.buffer, targets.reshape(extents)) if np.prod(extents) == targets.size else None
    if boxed is None:
        for part in _by_runs(piece, value):
            _write_piece(program, value, home, part)
        return
    copy(program, inner.place.buffer, sources.reshape(extents), boxed, value.name or "concat")


def _by_runs(piece: Piece, value: ir.Value) -> list[Piece]:
    """Split a piece along axis 1 where its entries there are not evenly spaced.

    Raises EdgepruneError (move-unsupported) where that leaves no box.
    """
    axis = np.unravel_index(piece.positions, shape_of(value))[min(1, len(shape_of(value)) - 1)]
    entries = np.unique(axis)
    if entries.size < 2:
        raise EdgepruneError(
            "move-unsupported", "this concatenation cannot be lowered", where=f"value {value.name}, stage lowering"
        )
    return [Piece(piece.root, piece.positions[axis == entry], piece.numbers[axis == entry]) for entry in entries]


def _copied(
    program: Program, value: ir.Value, buffer: str, places: np.ndarray, halo: Halo, mode: Mode, format: Format
) -> Home:
    """A copy of `value` in the layout `mode` with border `halo` in `format`, made once."""
    name = f"copy:{value.name}:{mode}:{'.'.join(map(str, halo))}" + f":{format.dtype}" * (format != FLOAT32)
    home, storage = new_home(name, shape_of(value), mode, halo, image=True, format=format)
    if name not in program.layout.buffers:
        program.add_storage(name, storage)
        copy(program, buffer, places, home.place, value.name or "copy")
    return home


def _has_border(program: Program, value: ir.Value, halo: Halo) -> bool:
    if not any(halo):
        return True
    if value.const_value is not None:
        return False
    room = _home(program, value).halo
    keeps = keeps_pixels(program.trace.origin(value), shape_of(value))
    return keeps and all(have >= need for have, need in zip(room, halo, strict=True))


def _home(program: Program, value: ir.Value) -> Home:
    """The home of what a computed value is made of."""
    return program.layout.homes[id(program.trace.origin(value).root)]


def _is_native(place: Strided, mode: Mode) -> bool:
    view = image_view(place)
    if mode == "channels" or view.height * view.width == 1:
        return view.channel_stride in (0, 1) or view.channels == 1
    return view.pixel_stride in (0, 1) or view.width == 1


def _is_planar(buffer: str, places: np.ndarray) -> bool:
    """Whether `places` are images of few channels whose pixels lie next to each other."""
    found = fit(buffer, places) if places.ndim == 4 and 1 < places.shape[1] < _FEW_CHANNELS else None
    return found is not None and image_view(found).pixel_stride == 1


def _rows(buffer: str, rows: np.ndarray, format: Format) -> Operand | None:
    offsets = rows[0] - rows[0, 0]
    starts = rows[:, 0]
    row_stride = int(starts[1] - starts[0]) if starts.size > 1 else 0
    if not np.array_equal(rows, starts[:, None] + offsets) or not np.array_equal(
        starts, starts[0] + row_stride * np.arange(starts.size)
    ):
        return None
    even = fit(buffer, offsets)
    stride = even.strides[0] if even is not None else 0
    view = View(1, rows.shape[1], 1, rows.shape[0], int(starts[0]), 0, stride or 1, 0, row_stride, format)
    return Operand(buffer, view, None if even is not None else offsets)
