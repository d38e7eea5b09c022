"""Quantized values and stored integers of a model, as ONNX writes them: QuantizeLinear and DequantizeLinear (QDQ)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.edit import constant, new_constant

MOVEMENT = frozenset(
    {
        "DepthToSpace",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose every output element is an element of their first input, or zero."""

SMALLEST_SCALE = 2.0**-100
"""Steps of a grid are at least this: they and their inverses are normal float32 numbers."""


@dataclass(frozen=True)
class Grid:
    """The numbers that a quantized value can be: real = (stored - zero) * scale, stored of `dtype`."""

    scale: float
    zero: int = 0
    dtype: str = "uint8"

    @property
    def low(self) -> int:
        """The smallest stored number."""
        return int(np.iinfo(self.dtype).min)

    @property
    def high(self) -> int:
        """The largest stored number."""
        return int(np.iinfo(self.dtype).max)

    def stored(self, array: np.ndarray) -> np.ndarray:
        """What QuantizeLinear gives for float32 numbers: the nearest, half to even, within bounds."""
        whole = np.rint(array.astype(np.float32) / np.float32(self.scale)) + np.float32(self.zero)
        return np.asarray(np.clip(whole, self.low, self.high).astype(self.dtype))

    def real(self, stored: np.ndarray) -> np.ndarray:
        """What DequantizeLinear gives for stored numbers."""
        return (stored.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)

    def rounded(self, array: np.ndarray) -> np.ndarray:
        """The numbers of the grid that stand for `array`."""
        return self.real(self.stored(array))


def grid_between(low: float, high: float) -> Grid:
    """The uint8 grid over `low` to `high`, made to hold zero exactly; a step of 1 where both are zero."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if high - low == 0.0:
        return Grid(1.0)
    scale = float(np.float32(max((high - low) / 255, SMALLEST_SCALE)))
    return Grid(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


@dataclass(frozen=True)
class StoredTensor:
    """A constant in integers: real = (integers - zero) * scale, both of one element or one for each place of `axis`."""

    integers: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    axis: int = 0

    @property
    def steps(self) -> np.ndarray:
        """The scale in a shape that multiplies the integers."""
        return self._spread(self.scale)

    @property
    def starts(self) -> np.ndarray:
        """The zero points in a shape that goes with the integers."""
        return self._spread(self.zero)

    def real(self) -> np.ndarray:
        """The float32 numbers that DequantizeLinear gives."""
        whole = self.integers.astype(np.float32) - self.starts.astype(np.float32)
        return np.asarray(whole * self.steps, np.float32)

    def _spread(self, array: np.ndarray) -> np.ndarray:
        if array.size == 1:
            return array.reshape(())
        places = tuple(place for place in range(self.integers.ndim) if place != self.axis % self.integers.ndim)
        return np.asarray(np.expand_dims(array, places))


def read_stored(value: ir.Value | None) -> StoredTensor | None:
    """The integers behind a value that DequantizeLinear makes of constants; None for any other value."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.domain:
        return None
    integers, scale, *rest = (constant(source) for source in node.inputs)
    if integers is None or scale is None or any(array is None for array in rest):
        return None
    zero = rest[0] if rest and rest[0] is not None else np.zeros(scale.shape, integers.dtype)
    return StoredTensor(integers, scale, zero, node.attributes.get_int("axis", 1))


def write_stored(graph: ir.Graph, name: str, tensor: StoredTensor, before: ir.Node) -> ir.Value:
    """A new value of `graph` that holds `tensor`, made right before the node `before`; `name` begins all names.

    The zero point is left out where it is zero.
    """
    inputs = [new_constant(graph, f"{name}_stored", tensor.integers)]
    inputs.append(new_constant(graph, f"{name}_scale", np.asarray(tensor.scale, np.float32)))
    if np.any(tensor.zero):
        inputs.append(new_constant(graph, f"{name}_zero", np.asarray(tensor.zero, tensor.integers.dtype)))
    attributes = {"axis": tensor.axis} if tensor.scale.ndim else {}
    node = _node(graph, "DequantizeLinear", inputs, attributes, f"{name}_dequantize")
    node.outputs[0].shape = ir.Shape(tensor.integers.shape)
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(before, [node])
    return node.outputs[0]


def write_pair(graph: ir.Graph, value: ir.Value, grid: Grid, uses: Iterable[tuple[ir.Node, int]]) -> ir.Value:
    """Put Q and DQ of `grid` right behind `value`: the inputs in `uses` (node, index) read it. Gives DQ's output."""
    uses = list(uses)
    name = str(value.name)
    scale = new_constant(graph, f"{name}_scale", np.array(grid.scale, np.float32))
    zero = new_constant(graph, f"{name}_zero", np.array(grid.zero, grid.dtype))
    quantize = _node(graph, "QuantizeLinear", [value, scale, zero], {}, f"{name}_quantize")
    stored = quantize.outputs[0]
    stored.shape, stored.type = value.shape, ir.TensorType(ir.DataType.from_numpy(np.dtype(grid.dtype)))
    dequantize = _node(graph, "DequantizeLinear", [stored, scale, zero], {}, f"{name}_dequantize")
    real = dequantize.outputs[0]
    real.shape, real.type = value.shape, value.type
    producer = value.producer()
    if producer is None:
        graph.insert_before(next(iter(graph)), [quantize, dequantize])
    else:
        graph.insert_after(producer, [quantize, dequantize])
    for node, index in uses:
        node.replace_input_with(index, real)
    return real


def moved_input(node: ir.Node | None) -> ir.Value | None:
    """The value whose elements `node` moves, where it only moves them or puts zeros; None for any other node."""
    if node is None or node.op_type not in MOVEMENT or node.domain or node.inputs[0] is None:
        return None
    if constant(node.inputs[0]) is not None:
        return None
    if any(value is not None and constant(value) is None for value in node.inputs[1:]):
        return None
    if node.op_type == "Pad":
        fill = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if node.attributes.get_string("mode", "constant") != "constant" or (fill is not None and np.any(fill)):
            return None
    return node.inputs[0]


def grid_of(value: ir.Value | None) -> Grid | None:
    """The grid that the elements of `value` lie on: it is dequantized, or moved from what is; None elsewhere."""
    node = None if value is None else value.producer()
    while (moved := moved_input(node)) is not None:
        node = moved.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.domain or constant(node.inputs[0]) is not None:
        return None
    return _grid(node)


def activation_grids(model: ir.Model) -> dict[str, Grid]:
    """By name, every computed value that QuantizeLinear reads, with its grid."""
    found = {}
    for node in model.graph:
        source = node.inputs[0] if node.op_type == "QuantizeLinear" and not node.domain else None
        grid = _grid(node) if source is not None else None
        if source is not None and grid is not None:
            found[str(source.name)] = grid
    return found


def is_quantized(model: ir.Model) -> bool:
    """Whether something that `model` computes is quantized."""
    return any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph)


def check_quantization(model: ir.Model) -> None:
    """Raise EdgepruneError (quantization-invalid) where a constant scale is zero, negative, infinite or NaN."""
    for node in _pairs(model):
        scale = constant(node.inputs[1])
        if scale is None:
            continue
        bad = scale[~(np.isfinite(scale) & (scale > 0))].reshape(-1)
        if bad.size:
            raise EdgepruneError(
                "quantization-invalid",
                f"{node.op_type} has the scale {float(bad[0]):g}; scales are positive and finite",
                where=f"node '{node.name}'",
                hint="the file was damaged or its calibration failed: export the model again",
            )


def _pairs(model: ir.Model) -> Iterator[ir.Node]:
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not node.domain:
            yield node


def _grid(node: ir.Node) -> Grid | None:
    """The grid of a Q or DQ node with one constant scale; None where it has several."""
    scale = constant(node.inputs[1])
    if scale is None or scale.size != 1:
        return None
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if zero is None:
        stored = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
        known = stored is not None and stored.dtype is not None
        return Grid(float(scale.reshape(())), 0, str(stored.dtype.numpy().name) if known else "uint8")  # type: ignore[union-attr]
    return Grid(float(scale.reshape(())), int(zero.reshape(())), str(zero.dtype.name))


def _node(graph: ir.Graph, op: str, inputs: list[ir.Value], attributes: dict[str, Any], name: str) -> ir.Node:
    """A node, with names of its own for itself and its output; it belongs to no graph yet."""
    nodes = {node.name for node in graph}
    values = {value.name for node in graph for value in node.outputs} | {value.name for value in graph.inputs}
    unique, count = name, 1
    while unique in nodes or f"{unique}_output" in values:
        unique, count = f"{name}_{count}", count + 1
    node = ir.node(op, inputs, attributes, name=unique)
    node.outputs[0].name = f"{unique}_output"
    return node
