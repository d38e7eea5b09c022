"""The program being lowered: buffers, constants, functions and steps, collected in order."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.kernels.abi import Format, Kernel, Machine, View
from edgeprune.lowering.integers import Numbers
from edgeprune.lowering.layout import Layout, Storage
from edgeprune.lowering.plan import Buffer, Call, ClearHalo, Constant, Kept, Layer, Part, Plan, Port, Step
from edgeprune.lowering.quantization import Quantized
from edgeprune.lowering.region import Region
from edgeprune.lowering.trace import Trace
from edgeprune.target import Target

PART_ALIGNMENT = 16
"""Parts of buffers begin at multiples of as many bytes."""


def machine_of(target: Target) -> Machine:
    """The target as the kernel choosers see it."""
    return Machine(target.lanes, target.vector_registers, target.l1_bytes, target.l2_bytes, target.dot)


@dataclass
class Program:
    """What is known so far; `fixed` has the numbers of layers in fixed point, by the identity of their anchors.

    `banded` are the buffers that are read or written in bands of rows: kernels see each band as a buffer of its own,
    so that those for equal bands are one. `kinds` are those of code that layers share.
    """

    target: Target
    layout: Layout
    trace: Trace
    quantized: Quantized
    fixed: Mapping[int, Numbers] = field(default_factory=dict)
    banded: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    kinds: set[Hashable] = field(default_factory=set)
    _parts: dict[str, Part] = field(default_factory=dict)
    _constants: dict[str, np.ndarray] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)
    _symbols: dict[int, str] = field(default_factory=dict)
    _functions: dict[str, Any] = field(default_factory=dict)
    _started: set[str] = field(default_factory=set)

    @property
    def real(self) -> Format:
        """What kernels of real numbers compute in."""
        return Format(self.target.real)

    @property
    def machine(self) -> Machine:
        """The target as the kernel choosers see it."""
        return machine_of(self.target)

    def fresh(self, stem: str) -> str:
        """A buffer name that nothing has yet."""
        name, count = stem, 1
        while name in self._sizes or name in self.layout.buffers or name in self._constants:
            count += 1
            name = f"{stem}.{count}"
        return name

    def add_storage(self, name: str, storage: Storage) -> None:
        """Make a buffer known together with its halo."""
        self.layout.buffers[name] = storage

    def add_constant(self, name: str, value: np.ndarray) -> str:
        """Store `value` in the library; returns its argument name."""
        name = self.fresh(name)
        self._constants[name] = np.ascontiguousarray(value)
        return name

    def constant_of(self, value: ir.Value) -> str:
        """The argument name of a constant IR value, stored once."""
        name = f"constant:{value.name}"
        if name not in self._constants:
            assert value.const_value is not None
            self._constants[name] = np.ascontiguousarray(value.const_value.numpy())
        return name

    def part(self, buffer: str, view: View) -> tuple[str, View]:
        """`view` of `buffer`; where that is `banded`, of the part of it with all its elements, by a name for it."""
        if buffer not in self.banded:
            return buffer, view
        extents = (view.batch, view.channels, view.height, view.width)
        strides = (view.batch_stride, view.channel_stride, view.row_stride, view.pixel_stride)
        last = view.offset + sum((extent - 1) * stride for extent, stride in zip(extents, strides, strict=True))
        size = view.format.itemsize
        begin, end = view.offset * size // PART_ALIGNMENT * PART_ALIGNMENT, (last + 1) * size
        name = f"{buffer}[{begin}:{end}]"
        self._parts[name] = Part(buffer, begin, end)
        return name, replace(view, offset=view.offset - begin // size)

    def start(self, buffer: str) -> None:
        """Clear the halo of `buffer` before the first step that writes it."""
        storage = self.layout.buffers.get(buffer)
        if storage is None or buffer in self._started:
            return
        self._started.add(buffer)
        self._sizes[buffer] = self._size(storage)
        if storage.bordered is not None:
            images, rows, columns, cell = storage.bordered
            top, left, bottom, right = storage.halo
            fill = storage.format.zero
            self.steps.append(ClearHalo(buffer, images, rows, columns, cell, top, bottom, left, right, fill))

    def clear(self, buffer: str) -> None:
        """Zero the whole of `buffer` before the first step that touches it: kernels may already write into it."""
        self._started.add(buffer)
        storage = self.layout.buffers[buffer]
        size = self._sizes[buffer] = self._size(storage)
        touching = (index for index, step in enumerate(self.steps) if buffer in _buffers(step))
        fill = storage.format.zero
        clearing = ClearHalo(buffer, 1, 1, 1, size, top=1, bottom=0, left=0, right=0, fill=fill)
        self.steps.insert(next(touching, len(self.steps)), clearing)

    def call(
        self, kernel: Kernel, reads: Sequence[str], writes: Sequence[str], layer: Layer, stem: str = "kernel"
    ) -> None:
        """Append a kernel call: its inputs, its constants, its outputs."""
        for name in writes:
            self.start(self._whole(name))
        constants = [self.add_constant(f"{layer.name}.{index}", value) for index, value in enumerate(kernel.constants)]
        named = (*reads, *constants, *self._scratch(kernel, layer), *writes)
        arguments, written = (tuple(map(self._whole, names)) for names in (named, writes))
        overlaps = tuple(
            (self._whole(name), distance + self._begin(name) - self._begin(writes[0]))
            for name, distance in zip(reads, kernel.overlaps, strict=False)
            if distance is not None
        )
        parts = tuple(map(self._parts.get, named)) if any(name in self._parts for name in named) else ()
        symbol = self.symbol(kernel.func, stem)
        self.steps.append(Call(symbol, arguments, written, kernel.units, layer, overlaps, parts))

    def _whole(self, name: str) -> str:
        return self._parts[name].buffer if name in self._parts else name

    def _begin(self, name: str) -> int:
        return self._parts[name].begin if name in self._parts else 0

    def _size(self, storage: Storage) -> int:
        """Bytes of a buffer; the kernels of microcontrollers read nothing beyond its end."""
        return storage.content if self.target.bare else storage.size

    def _scratch(self, kernel: Kernel, layer: Layer) -> list[str]:
        """The memory that `kernel` wants for itself, if it wants any."""
        if not kernel.scratch_bytes:
            return []
        name = self.fresh(f"{layer.name}.scratch")
        self._sizes[name] = kernel.scratch_bytes
        return [name]

    def add_region(self, region: Region, names: dict[str, str], layer: Layer) -> None:
        """Append the calls of `region`; `names` gives the buffers of its inputs and outputs by argument name."""
        names = dict(names)
        for name, array in region.constants.items():
            names[name] = self.add_constant(name, array)
        for name, size in region.buffers.items():
            if name not in names:
                self._sizes[name] = size
        for call in region.calls:
            reads, writes = (tuple(names.get(name, name) for name in group) for group in (call.arguments, call.writes))
            self._functions[call.symbol] = region.functions[call.symbol]
            for buffer in writes:
                self.start(buffer)
            self.steps.append(Call(call.symbol, reads, writes, call.units, replace(layer, op=call.label)))

    def symbol(self, function: Any, stem: str) -> str:
        """The symbol of a TensorIR function; equal functions share one."""
        if id(function) not in self._symbols:
            symbol = f"edge_{stem}_{len(self._symbols)}"
            self._symbols[id(function)] = symbol
            self._functions[symbol] = function
        return self._symbols[id(function)]

    def plan(self, inputs: tuple[Port, ...], outputs: tuple[Port, ...], kept: tuple[Kept, ...] = ()) -> Plan:
        """The finished program; what no step touches is left out."""
        used = {name for step in self.steps for name in _buffers(step)}
        states = [port for state in kept for port in (state.source, state.result)]
        for port in (*inputs, *outputs, *states) if self.target.bare else states:
            used.add(port.buffer)
            self._sizes[port.buffer] = self._port_size(port)
        symbols = {step.symbol for step in self.steps if isinstance(step, Call)}
        return Plan(
            inputs=inputs,
            outputs=outputs,
            buffers=tuple(Buffer(name, size) for name, size in self._sizes.items() if name in used),
            constants=tuple(Constant(name, value) for name, value in self._constants.items() if name in used),
            steps=tuple(self.steps),
            functions={name: function for name, function in self._functions.items() if name in symbols},
            kept=kept,
        )

    def _port_size(self, port: Port) -> int:
        if port.buffer in self.layout.buffers:
            return self._size(self.layout.buffers[port.buffer])
        return math.prod(port.shape) * np.dtype(port.dtype).itemsize


def _buffers(step: Step) -> tuple[str, ...]:
    return step.arguments if isinstance(step, Call) else (step.buffer,)
