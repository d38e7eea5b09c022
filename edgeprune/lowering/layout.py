"""Chooses, once for the graph, where every stored value lies: layout, halo, and slices of larger buffers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgeprune.kernels.abi import FLOAT32, Format
from edgeprune.lowering.geometry import Halo, window_of
from edgeprune.lowering.groups import IMAGE_KINDS, Group, shape_of
from edgeprune.lowering.quantization import Quantized
from edgeprune.lowering.strided import Strided, beside, dense, fit, image_shape, matrix_view
from edgeprune.lowering.trace import Origin, Piece, Trace, keeps_pixels

Mode = Literal["channels", "pixels"]
"""Images channels-last, with vectors over channels; or planar, with vectors along pixels."""

NO_HALO: Halo = (0, 0, 0, 0)

SLACK_BYTES = 64
"""What kernels may read past the last integer of a buffer."""

ROW_MULTIPLE, PLANE_MULTIPLE = 8, 16
"""Planar rows with a halo, and planes without one, start this many elements apart or a multiple: vectors then cross
fewer cache lines."""


@dataclass(frozen=True)
class Home:
    """Where a root is stored, and the zeroed border around its images."""

    place: Strided
    halo: Halo = NO_HALO


@dataclass
class Layout:
    """The home of every root by value identity, and the storage each buffer needs.

    `modes` has the layout of each group's result by the identity of its anchor node; any other is channels-last.
    """

    modes: Mapping[int, Mode]
    homes: dict[int, Home] = field(default_factory=dict)
    buffers: dict[str, Storage] = field(default_factory=dict)

    def format_of(self, buffer: str) -> Format:
        """How `buffer` stores numbers; what is not among `buffers`, a port or a constant, is not quantized."""
        return self.buffers[buffer].format if buffer in self.buffers else FLOAT32

    def mode_of(self, group: Group) -> Mode:
        """The layout of the images that `group` reads and writes."""
        return self.modes.get(id(group.anchor), "channels")


@dataclass(frozen=True)
class Storage:
    """A buffer of `elements` in `format`; `bordered` says how its halo is filled: images, rows, columns, cell bytes."""

    elements: int
    halo: Halo = NO_HALO
    bordered: tuple[int, int, int, int] | None = None
    format: Format = FLOAT32

    @property
    def content(self) -> int:
        """Bytes of the elements."""
        return self.elements * self.format.itemsize

    @property
    def size(self) -> int:
        """Bytes, with what vectors may read past the end."""
        return self.content + (SLACK_BYTES if self.format.quantized else 0)


def plan_layout(
    model: ir.Model,
    groups: Sequence[Group],
    trace: Trace,
    modes: Mapping[int, Mode],
    quantized: Quantized,
    borderless: Collection[int] = (),
) -> Layout:
    """Place every root of `groups`: inside an output or a concatenation where its kernel can write there.

    The kernels of groups whose anchors are `borderless` need no border around what they read, and leave none around
    what they write.
    """
    layout = Layout(modes)
    halos = _halos([group for group in groups if id(group.anchor) not in borderless], trace)
    for value in model.graph.inputs:
        layout.homes[id(value)] = Home(dense(input_buffer(value), shape_of(value)))
    ports = [(output_buffer(index), value) for index, value in enumerate(model.graph.outputs)]
    if quantized.stored_ports:
        for buffer, value in [(input_buffer(value), value) for value in model.graph.inputs] + ports:
            layout.buffers[buffer] = _port_storage(value, _port_format(trace, quantized, value))
    images = _image_roots(groups, trace)
    for group in reversed(groups):
        for value in group.outputs:
            if group.kind == "movement" and id(value) not in trace.assemblies:
                continue
            format = stored_format(trace, quantized, value)
            hosts = [host for host in _hosts(layout, trace, ports, value) if layout.format_of(host[0].buffer) == format]
            halo = halos.get(id(value), NO_HALO)
            if id(group.anchor) in borderless or group.kind == "pointwise":
                hosts, halo = [host for host in hosts if has_even_pixels(host[0])], NO_HALO
            place_root(layout, value, group, halo, hosts, format, id(value) in images)
    return layout


def _image_roots(groups: Sequence[Group], trace: Trace) -> set[int]:
    """The results that are stored as images, by identity: what works by element follows what it reads."""
    found: set[int] = set()
    for group in groups:
        image = group.kind in IMAGE_KINDS
        if group.kind == "pointwise":
            image = any(id(trace.origin(value).root) in found for value in group.inputs)
        for value in group.outputs:
            moved = group.kind in ("movement", "store", "pointwise") and len(shape_of(value)) == 4
            found.update({id(value)} if image or moved else ())
    return found


def _port_format(trace: Trace, quantized: Quantized, value: ir.Value) -> Format:
    """How an input or output is stored: elements that were only moved stay as they are, such as states of streams."""
    moved = value.dtype == ir.DataType.FLOAT and value.const_value is None and id(value) not in quantized.grids
    root = trace.origin(value).root if moved else value
    return quantized.grids.get(id(value), FLOAT32) if root is value else stored_format(trace, quantized, root)


def _port_storage(value: ir.Value, format: Format) -> Storage:
    """The buffer of an input or output that is stored in the scratch memory."""
    assert value.dtype is not None
    size = math.prod(shape_of(value))
    return Storage(
        size if value.dtype == ir.DataType.FLOAT else math.ceil(size * value.dtype.itemsize / 4), format=format
    )


def stored_format(trace: Trace, quantized: Quantized, value: ir.Value) -> Format:
    """How the root `value` is stored: put together from values on one grid, it stays on that grid."""
    _, pieces = trace.assemblies.get(id(value), (value, ()))
    if value.is_graph_output() or id(value) in quantized.grids or not pieces:
        return quantized.storage(value)
    formats = {stored_format(trace, quantized, piece.root) for piece in pieces}
    return formats.pop() if len(formats) == 1 else FLOAT32


def input_buffer(value: ir.Value) -> str:
    """The buffer name of a graph input."""
    return f"input:{value.name}"


def output_buffer(index: int) -> str:
    """The buffer name of graph output number `index`."""
    return f"output:{index}"


def place_root(
    layout: Layout,
    value: ir.Value,
    group: Group,
    halo: Halo,
    hosts: Sequence[tuple[Strided, Halo]] = (),
    format: Format = FLOAT32,
    image: bool = True,
) -> None:
    """Give `value` a home: the first of `hosts` that its kernel can write, or a buffer of its own in `format`.

    That has the layout of images where `value` is an `image`.
    """
    for place, room in hosts:
        if all(have >= need for have, need in zip(room, halo, strict=True)) and writes(
            group, place, layout.mode_of(group)
        ):
            layout.homes[id(value)] = Home(place, room)
            return
    home, storage = new_home(f"value:{value.name}", shape_of(value), layout.mode_of(group), halo, image, format)
    if value.dtype is not None and value.dtype != ir.DataType.FLOAT:
        storage = Storage(math.ceil(home.place.size * value.dtype.itemsize / 4))
    layout.homes[id(value)] = home
    layout.buffers[home.place.buffer] = storage


def new_home(
    buffer: str, shape: tuple[int, ...], mode: Mode, halo: Halo, image: bool, format: Format = FLOAT32
) -> tuple[Home, Storage]:
    """A buffer of its own for a value of `shape`: in the layout of `mode` where it is an image, else row-major."""
    if not image:
        place = dense(buffer, shape)
        return Home(place), Storage(place.size, format=format)
    batch, channels, height, width = image_shape(shape)
    if mode == "pixels" and any(halo):
        halo = (*halo[:3], halo[3] - (halo[1] + width + halo[3]) % -ROW_MULTIPLE)
    top, left, bottom, right = halo
    rows, columns = top + height + bottom, left + width + right
    if mode == "channels":
        strides = (rows * columns * channels, 1, columns * channels, channels)
        border = (batch, rows, columns, format.itemsize * channels)
    else:
        plane = rows * columns
        if plane > 1 and not any(halo):
            plane += -plane % PLANE_MULTIPLE
        strides = (channels * plane, plane, columns, 1)
        border = (batch * channels, rows, columns, format.itemsize)
    offset = top * strides[2] + left * strides[3]
    kept = {4: strides, 3: (strides[0], strides[1], strides[3]), 2: strides[:2], 1: strides[1:2]}[len(shape)]
    place = Strided(buffer, shape, kept, offset)
    return Home(place, halo), Storage(batch * strides[0], halo, border if any(halo) else None, format)


def writes(group: Group, place: Strided, mode: Mode) -> bool:
    """Whether the kernel of `group` can write its result to `place`."""
    if group.kind in ("region", "lstm"):
        return place.is_dense
    if group.kind in ("movement", "store"):
        return True
    if group.kind in ("linear", "softmax"):
        return matrix_view(place) is not None and (place.strides[-1] == 1 or place.shape[-1] == 1)
    if group.kind == "pointwise":
        return _is_filled(place)
    _, channels, height, width = image_shape(place.shape)
    _, channel_stride, _, pixel_stride = image_shape(place.strides, missing=0)
    if mode == "channels" or height * width == 1:
        return channel_stride == 1 or channels == 1
    return pixel_stride == 1 or width == 1


def has_even_pixels(place: Strided) -> bool:
    """Whether all pixels of all images lie equally far apart, in their order."""
    batch, _, height, width = image_shape(place.shape)
    image, _, row, pixel = image_shape(place.strides, missing=0)
    outer = [pair for pair in ((batch, image), (height, row), (width, pixel)) if pair[0] > 1]
    return all(stride == extent * inner for (_, stride), (extent, inner) in pairwise(outer))


def _is_filled(place: Strided) -> bool:
    """Whether the elements of `place` lie together without gaps, in whatever order."""
    reach = 1
    for stride, extent in sorted(zip(place.strides, place.shape, strict=True)):
        if extent > 1 and stride != reach:
            return False
        reach *= extent
    return True


def _halos(groups: Sequence[Group], trace: Trace) -> dict[int, Halo]:
    """The border that the windows reading each root need."""
    halos: dict[int, Halo] = {}

    def widen(origin: Origin, shape: tuple[int, ...], need: Halo) -> None:
        if any(need) and keeps_pixels(origin, shape):
            known = halos.get(id(origin.root), NO_HALO)
            top, left, bottom, right = (max(pair) for pair in zip(known, need, strict=True))
            halos[id(origin.root)] = (top, left, bottom, right)

    for group in groups:
        window = window_of(group)
        if window is not None and group.kind != "pool":
            shape = shape_of(group.inputs[0])
            widen(trace.origin(group.inputs[0]), shape, window.halo(shape, shape_of(group.anchor.outputs[0])))
    for value, pieces in trace.assemblies.values():
        for piece in pieces:
            inner = halos.get(id(piece.root), NO_HALO)
            if any(inner) and len(shape_of(piece.root)) == 4 and shape_of(piece.root)[2:] == shape_of(value)[2:]:
                known = halos.get(id(value), NO_HALO)
                top, left, bottom, right = (max(pair) for pair in zip(known, inner, strict=True))
                halos[id(value)] = (top, left, bottom, right)
    return halos


def _hosts(
    layout: Layout, trace: Trace, ports: Sequence[tuple[str, ir.Value]], value: ir.Value
) -> list[tuple[Strided, Halo]]:
    """The places inside outputs and assembled values that would hold exactly the elements of `value`."""
    found = []
    for buffer, output in ports:
        origin = trace.origin(output)
        if origin.root is value:
            places = dense(buffer, shape_of(output)).places().reshape(-1)
            found.append((_inside(value, buffer, places, origin.numbers.reshape(-1)), NO_HALO))
    for whole, pieces in trace.assemblies.values():
        for piece in pieces:
            if piece.root is value and id(whole) in layout.homes:
                home, same = layout.homes[id(whole)], _same_pixels(value, whole)
                place = _piece_place(value, home, piece)
                place = beside(place, home.place) if same and place is not None else place
                found.append((place, home.halo if same else NO_HALO))
    free = [(place, halo) for place, halo in found if place is not None]
    if _has_zeros(trace, value):
        return [(place, halo) for place, halo in free if place.buffer in layout.buffers]
    return free


def _has_zeros(trace: Trace, value: ir.Value) -> bool:
    """Whether `value` is put together with zeros, for which its whole buffer is cleared: no output may be."""
    _, pieces = trace.assemblies.get(id(value), (value, None))
    return pieces is not None and sum(piece.positions.size for piece in pieces) < math.prod(shape_of(value))


def _piece_place(value: ir.Value, home: Home, piece: Piece) -> Strided | None:
    places = home.place.places().reshape(-1)[piece.positions]
    return _inside(value, home.place.buffer, places, piece.numbers)


def _inside(value: ir.Value, buffer: str, places: np.ndarray, numbers: np.ndarray) -> Strided | None:
    """The strided place of `value` whose elements `numbers` lie at `places`, if each occurs exactly once."""
    shape = shape_of(value)
    size = int(np.prod(shape, dtype=np.int64))
    if numbers.size != size:
        return None
    by_number = np.full(size, -1, dtype=np.int64)
    by_number[numbers] = places
    if by_number.min(initial=0) < 0:
        return None
    return fit(buffer, by_number.reshape(shape))


def _same_pixels(value: ir.Value, whole: ir.Value) -> bool:
    return len(shape_of(value)) == len(shape_of(whole)) == 4 and shape_of(value)[2:] == shape_of(whole)[2:]
