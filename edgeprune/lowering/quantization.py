"""Takes quantization off the graph: what is left computes in real numbers, and says how each value is stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import constant, new_constant, new_node
from edgeprune.kernels.abi import FLOAT16, FLOAT32, Format
from edgeprune.kernels.integer.dot import IDIOMS
from edgeprune.lowering.movement import is_movement, move_numbers

STORE_OP = "Store"
"""The node that stores its input anew, on a grid of its own; of domain STORE_DOMAIN."""
STORE_DOMAIN = "edgeprune"
LSTM_OP = "IntegerLstm"
"""The node of an LSTM of integers, from rows of all steps to the hidden states of all steps; of domain STORE_DOMAIN."""

_RANGES = {
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
}


@dataclass(frozen=True)
class Integers:
    """A constant as the model stores it: real = (stored - zero) * scale, `scale` of a shape that spreads over it."""

    stored: np.ndarray
    scale: np.ndarray
    zero: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """stored - zero, int32."""
        return self.stored.astype(np.int32) - self.zero.astype(np.int32)


@dataclass
class Quantized:
    """A model without QuantizeLinear and DequantizeLinear, and what they said, by value identity.

    `grids` has the values that are rounded to a grid; `integers` the constants that are stored as integers. `readings`
    has, by node identity, the grids of those that read stored numbers on another one than they were stored on;
    `unsigned` the values whose integers the model has as unsigned ones. With `stored_ports` the inputs and outputs of
    the model are stored on their grids, else they are real numbers. `halves` are the values that float16 holds.
    """

    model: ir.Model
    grids: dict[int, Format] = field(default_factory=dict)
    integers: dict[int, Integers] = field(default_factory=dict)
    stored_ports: bool = False
    readings: dict[int, Format] = field(default_factory=dict)
    unsigned: set[int] = field(default_factory=set)
    halves: set[int] = field(default_factory=set)

    def storage(self, value: ir.Value) -> Format:
        """How `value` is stored by what computes it."""
        if value.is_graph_output() and not self.stored_ports:
            return FLOAT32
        return self.grids.get(id(value), FLOAT16 if id(value) in self.halves else FLOAT32)

    def rounding(self, value: ir.Value) -> Format | None:
        """The grid that a store of `value` does not round to by itself."""
        grid = self.grids.get(id(value))
        return grid if grid is not None and self.storage(value) != grid else None


def is_store(node: ir.Node) -> bool:
    """Whether `node` is a STORE_OP."""
    return node.op_type == STORE_OP and node.domain == STORE_DOMAIN


def without_quantization(model: ir.Model, dot: str) -> Quantized:
    """`model` in real numbers; activations are stored as machines with the integer product `dot` like them.

    What fits no grid of 8 bits for a whole tensor stays as it is, for TVM.
    """
    if not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph):
        return Quantized(model)
    found = Quantized(copy_model(model))
    for node in list(found.model.graph):
        if node.op_type == "DequantizeLinear" and _is_constant(node):
            _make_real(found, node)
    for node in list(found.model.graph):
        if id(node.inputs[0]) in found.integers and is_movement(node) and node.op_type != "Concat":
            _move_constant(found, node)
    for node in list(found.model.graph):
        if node.op_type == "QuantizeLinear":
            _take_pair(found, node, dot)
    _sink_stores(found)
    return found


def store_after(found: Quantized, value: ir.Value, grid: Format | None) -> ir.Value:
    """Let everything that reads `value` read a copy of it on `grid`; a model output keeps its name."""
    graph = found.model.graph
    uses = list(value.uses())
    name = value.name or "value"
    node = new_node(STORE_OP, [value], name=f"{name}_store", like=value)
    node.domain = STORE_DOMAIN
    stored = node.outputs[0]
    insert_after(graph, value, node)
    for use in uses:
        use.node.replace_input_with(use.idx, stored)
    if value.is_graph_output():
        replace_output(graph, value, stored)
        value.name = f"{name}_computed"
    if grid is not None:
        found.grids[id(stored)] = grid
    return stored


def grid_of(node: ir.Node, dot: str) -> Format | None:
    """The grid of a QuantizeLinear or DequantizeLinear of a whole tensor to 8 bits; None for any other."""
    scale, zero = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    stored = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    if scale is None or scale.size != 1 or stored is None or stored.dtype not in _RANGES:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and zero is None:
        return None
    low, high = _RANGES[stored.dtype]
    at = 0 if zero is None else int(zero.reshape(-1)[0])
    size = float(np.float32(scale.reshape(-1)[0]))
    storage = storage_of(dot)
    if storage == "uint8":
        return Format("uint8", size, at - low, 0, high - low)
    if storage == "int8":
        return Format("int8", size, at - low - 128, -128, 127)
    return Format("int16", size, 0, low - at, high - at)


def storage_of(dot: str) -> str:
    """The dtype of stored activations where `dot` multiplies them; fixed-point families take int8."""
    return IDIOMS[dot].storage if dot in IDIOMS else "int8"


def _is_constant(node: ir.Node) -> bool:
    return all(value is None or constant(value) is not None for value in node.inputs)


def _make_real(found: Quantized, node: ir.Node) -> None:
    stored, scale, *rest = (constant(value) for value in node.inputs)
    assert stored is not None and scale is not None
    zero = rest[0] if rest and rest[0] is not None else np.zeros(scale.shape, stored.dtype)
    if scale.ndim:
        axis = node.attributes.get_int("axis", 1) % max(stored.ndim, 1)
        places = tuple(place for place in range(stored.ndim) if place != axis)
        scale, zero = (np.expand_dims(array, places) if array.size > 1 else array for array in (scale, zero))
    kept = Integers(stored, scale.astype(np.float32), zero)
    graph = found.model.graph
    real = new_constant(graph, f"{node.inputs[0].name}_real", kept.whole.astype(np.float32) * kept.scale)  # type: ignore[union-attr]
    found.integers[id(real)] = kept
    output = node.outputs[0]
    if output.is_graph_output():
        replace_output(graph, output, real)
    ir.convenience.replace_all_uses_with(output, real)
    graph.remove(node, safe=True)


def _move_constant(found: Quantized, node: ir.Node) -> None:
    """Move the elements of a stored constant now; what is moved stays stored."""
    source = node.inputs[0]
    assert source is not None
    kept = found.integers[id(source)]
    whole = kept.stored.shape
    arrays = [kept.stored, np.broadcast_to(kept.scale, whole), np.broadcast_to(kept.zero, whole)]
    parts = move_numbers(node, [np.arange(kept.stored.size).reshape(whole)])
    for output, places in zip(node.outputs, parts, strict=True):
        if places.size and places.min() < 0:
            return
        stored, scale, zero = (array.reshape(-1)[places] for array in arrays)
        moved = Integers(stored, scale, zero)
        real = new_constant(found.model.graph, f"{output.name}_real", moved.whole.astype(np.float32) * moved.scale)
        found.integers[id(real)] = moved
        if output.is_graph_output():
            replace_output(found.model.graph, output, real)
        ir.convenience.replace_all_uses_with(output, real)
    found.model.graph.remove(node, safe=True)


def _take_pair(found: Quantized, node: ir.Node, dot: str) -> None:
    """Take a QuantizeLinear and what dequantizes its result off the graph."""
    source, quantized = node.inputs[0], node.outputs[0]
    grid = grid_of(node, dot)
    readers = [use.node for use in quantized.uses()]
    if source is None or grid is None or quantized.is_graph_output():
        return
    grids = [grid_of(reader, dot) if reader.op_type == "DequantizeLinear" else None for reader in readers]
    if not all(other is not None and replace(other, scale=grid.scale) == grid for other in grids):
        return
    value = _on_grid(found, source, node, grid)
    if quantized.dtype == ir.DataType.UINT8:
        found.unsigned.add(id(value))
    for reader, other in dict(zip(readers, grids, strict=True)).items():
        assert other is not None
        _read_from(found, reader, value if other == grid else _rescaled(found, value, reader, other))
    found.model.graph.remove(node, safe=True)


def _rescaled(found: Quantized, value: ir.Value, reader: ir.Node, grid: Format) -> ir.Value:
    """The integers that store `value`, read on `grid`, which has another scale."""
    graph = found.model.graph
    ratio = np.float32(grid.scale) / np.float32(found.grids[id(moved_from(value))].scale)
    factor = new_constant(graph, f"{reader.name}_ratio", np.array(ratio, np.float32))
    node = new_node("Mul", [value, factor], name=f"{reader.name}_rescale", like=value)
    graph.insert_before(reader, node)
    found.grids[id(node.outputs[0])] = grid
    found.unsigned.update({id(node.outputs[0])} if id(value) in found.unsigned else ())
    return node.outputs[0]


def _on_grid(found: Quantized, source: ir.Value, node: ir.Node, grid: Format) -> ir.Value:
    """`source` rounded to `grid`: the value itself where nothing reads it otherwise, else a stored copy."""
    if found.grids.get(id(moved_from(source))) == grid:
        return source
    producer = source.producer()
    alone = len(source.uses()) == 1 and not source.is_graph_output() and not source.is_graph_input()
    whole = producer is not None and (not is_movement(producer) or producer.op_type == "Concat")
    if alone and whole and source.const_value is None and id(source) not in found.grids:
        found.grids[id(source)] = grid
        return source
    store = new_node(STORE_OP, [source], name=f"{node.name or node.outputs[0].name}_store", like=source)
    store.domain = STORE_DOMAIN
    found.model.graph.insert_before(node, store)
    found.grids[id(store.outputs[0])] = grid
    return store.outputs[0]


def moved_from(value: ir.Value) -> ir.Value:
    """What the elements of `value` are, where a chain of nodes only moves them."""
    producer = value.producer()
    while producer is not None and is_movement(producer) and producer.op_type != "Concat":
        source = producer.inputs[0]
        assert source is not None
        value, producer = source, source.producer()
    return value


def _read_from(found: Quantized, reader: ir.Node, value: ir.Value) -> None:
    """Replace the result of a DequantizeLinear by `value`."""
    graph = found.model.graph
    output = reader.outputs[0]
    if output.is_graph_output():
        taken = value.is_graph_output() or value.is_graph_input() or _is_moved(value)
        replace_output(graph, output, _copied(found, value, reader) if taken else value)
    ir.convenience.replace_all_uses_with(output, value)
    graph.remove(reader, safe=True)


def _is_moved(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and is_movement(producer)


def _copied(found: Quantized, value: ir.Value, before: ir.Node) -> ir.Value:
    store = new_node(STORE_OP, [value], name=f"{before.name or value.name}_store", like=value)
    store.domain = STORE_DOMAIN
    found.model.graph.insert_before(before, store)
    found.grids[id(store.outputs[0])] = found.grids[id(moved_from(value))]
    return store.outputs[0]


def replace_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let `new` be the output of `graph` that `old` is, under its name."""
    name, old.name = old.name, None
    new.name = name
    for index, value in enumerate(graph.outputs):
        if value is old:
            graph.outputs[index] = new


def insert_after(graph: ir.Graph, value: ir.Value, node: ir.Node) -> None:
    """Put `node` behind what computes `value`, or first where that is an input."""
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(next(iter(graph)), node)


def _sink_stores(found: Quantized) -> None:
    """Move each store behind what only moves its elements: it then writes them where they are wanted."""
    graph = found.model.graph
    for store in [node for node in graph if is_store(node)]:
        while (movement := _only_movement(store.outputs[0])) is not None:
            source, stored, moved = store.inputs[0], store.outputs[0], movement.outputs[0]
            uses = list(moved.uses())
            movement.replace_input_with(0, source)
            store.replace_input_with(0, moved)
            stored.shape = moved.shape
            graph.remove(store)
            graph.insert_after(movement, store)
            for use in uses:
                use.node.replace_input_with(use.idx, stored)


def _only_movement(value: ir.Value) -> ir.Node | None:
    """The node that alone reads `value` and only moves its elements, one result for one input."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    single = node.op_type != "Concat" and len(node.outputs) == 1 and not node.outputs[0].is_graph_output()
    return node if single and is_movement(node) else None
