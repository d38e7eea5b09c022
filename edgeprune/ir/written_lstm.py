"""LSTMs of integers that are written out step by step: their nodes are noted, so that one kernel can stand for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import constant

LSTM_KEY = "edgeprune.lstm"
"""Metadata of a node: the cell's grid as a power of two, the bound of the cell in steps, and the name of the LSTM."""

GATES = 4
_NOTED_ORDER = (0, 2, 1, 3)
"""Where input, forget, output and candidate lie among the rows of the weights."""
_MOST_EXACT = 1 << 23


@dataclass(frozen=True)
class WrittenLstm:
    """One LSTM: the rows that go in [steps * batch, inputs], and the hidden states of all steps [steps, batch, units].

    Gates are input, forget, output and candidate: int8 `weights` [4, units, inputs], `recurrent` [4, units, units],
    int32 `bias` [4, units], real `scales` and `recurrent_scales` [4]. Of input and hidden state (scale, zero) of int8.
    """

    name: str
    data: ir.Value
    result: ir.Value
    steps: int
    weights: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    scales: np.ndarray
    recurrent_scales: np.ndarray
    input_grid: tuple[float, int]
    hidden_grid: tuple[float, int]
    cell: int
    clip: int


def note_lstm(nodes: Iterable[ir.Node], name: str, cell: int, clip: int) -> None:
    """Note that `nodes` write out the LSTM `name`, its cell on the grid of 2**`cell`, kept to `clip` steps unless 0."""
    for node in nodes:
        node.metadata_props[LSTM_KEY] = f"{cell} {clip} {name}"


def written_lstms(model: ir.Model) -> list[WrittenLstm]:
    """The LSTMs of `model` whose nodes are all as they were noted, with weights of 8 bits and a scale for each gate."""
    noted: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        if LSTM_KEY in node.metadata_props:
            noted.setdefault(node.metadata_props[LSTM_KEY], []).append(node)
    return [found for note, nodes in noted.items() if (found := _written(note, nodes)) is not None]


def _written(note: str, nodes: list[ir.Node]) -> WrittenLstm | None:
    cell, clip, name = note.split(" ", 2)
    products = [node for node in nodes if node.op_type == "Gemm"]
    first = [node for node in products if len(node.inputs) == 3]
    again = [node for node in products if len(node.inputs) == 2]
    if len(first) != 1 or not again or len({id(node.inputs[1]) for node in again}) != 1:
        return None
    data, results = first[0].inputs[0], _read_elsewhere(nodes)
    weights, recurrent = _stored_gates(first[0].inputs[1]), _stored_gates(again[0].inputs[1])
    grids = {grid for node in nodes if node.op_type == "QuantizeLinear" and (grid := _grid(node)) is not None}
    source = _source_grid(data)
    if data is None or weights is None or recurrent is None or len(grids) != 1 or source is None or len(results) != 1:
        return None
    steps, units = len(again) + 1, recurrent[0].shape[2]
    if _size(results[0]) * weights[0].shape[2] != _size(data) * units or _size(data) % steps:
        return None
    bias = _whole_bias(first[0].inputs[2], np.repeat(weights[1] * np.float64(source[0]), units))
    if bias is None or weights[0].shape[1] != units:
        return None
    return WrittenLstm(name, data, results[0], steps, weights[0], recurrent[0], bias, weights[1], recurrent[1],
                       source, grids.pop(), int(cell), int(clip))  # fmt: skip


def _read_elsewhere(nodes: list[ir.Node]) -> list[ir.Value]:
    members = {id(node) for node in nodes}
    values = [value for node in nodes for value in node.outputs]
    return [value for value in values
            if value.is_graph_output() or any(id(use.node) not in members for use in value.uses())]  # fmt: skip


def _stored_gates(value: ir.Value | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Stored weights [4, units, columns] and the scale of each gate."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    stored, scale, zero = (constant(value) for value in (*node.inputs, None)[:3])
    if stored is None or scale is None or stored.dtype != np.int8 or (zero is not None and zero.any()):
        return None
    rows = np.broadcast_to(scale.reshape(-1), stored.shape[:1]).reshape(GATES, -1)
    if not (rows == rows[:, :1]).all():
        return None
    order = list(_NOTED_ORDER)
    return stored.reshape(GATES, -1, stored.shape[1])[order], rows[order, 0]


def _whole_bias(value: ir.Value | None, scales: np.ndarray) -> np.ndarray | None:
    array = None if value is None else constant(value)
    if array is None:
        return None
    units = array.size // GATES
    whole = np.rint(array.astype(np.float64).reshape(GATES, units)[list(_NOTED_ORDER)] / scales.reshape(GATES, units))
    return whole.astype(np.int32) if np.abs(whole).max(initial=0) < _MOST_EXACT else None


def _grid(node: ir.Node) -> tuple[float, int] | None:
    """Scale and zero of a QuantizeLinear or DequantizeLinear of a whole tensor of int8."""
    scale, zero = (constant(value) for value in (*node.inputs[1:], None)[:2])
    if scale is None or scale.size != 1 or zero is None or zero.dtype != np.int8:
        return None
    return float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])


def _source_grid(value: ir.Value | None) -> tuple[float, int] | None:
    """The grid of what was moved to `value`."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in ("Reshape", "Transpose"):
        value = node.inputs[0]
        node = None if value is None else value.producer()
    return _grid(node) if node is not None and node.op_type == "DequantizeLinear" else None


def _size(value: ir.Value) -> int:
    assert value.shape is not None
    return int(np.prod(value.shape.numpy(), dtype=np.int64))
