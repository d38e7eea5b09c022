"""LSTM and GRU written out step by step, so that their matrix products can be rounded as any layer's are.

Each node that is written says which of its inputs are to be read rounded, and by which name: equal names share a grid.
What goes on from step to step (the cell, and the hidden state where it is mixed with the new one) is not rounded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgeprune.ir.canonical_fold import remove_unused
from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import constant, new_constant

ROUNDED_KEY = "edgeprune.rounded"
"""Metadata of a node: the inputs that it should read rounded, as words `INDEX:NAME`."""
MOST_STEPS = 64
"""Steps that are written out; longer layers stay as they are."""

_GATES = {"LSTM": 4, "GRU": 3}
_STATES = {"LSTM": 2, "GRU": 1}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
_RARE = ("activation_alpha", "activation_beta", "clip", "input_forget", "layout")


def write_out_recurrent(model: ir.Model, but: Collection[str] = ()) -> ir.Model:
    """`model` with every LSTM and GRU of the usual form and at most MOST_STEPS steps written out, but those `but`."""
    if not any(_writable(node) and node.name not in but for node in model.graph):
        return model
    model = copy_model(model)
    for node in [node for node in model.graph if _writable(node) and node.name not in but]:
        _Writer(node).write()
    remove_unused(model)
    return model


def rounded_inputs(node: ir.Node) -> dict[int, str]:
    """The inputs of `node` that should be read rounded, each with the name of its grid."""
    words = (word.partition(":") for word in node.metadata_props.get(ROUNDED_KEY, "").split())
    return {int(index): name for index, _, name in words}


def _writable(node: ir.Node) -> bool:
    if node.op_type not in _GATES or node.domain:
        return False
    inputs = [*node.inputs, *[None] * 8][:8]
    weights = [constant(value) for value in inputs[1:4]]
    if inputs[4] is not None or inputs[7] is not None or any(weight is None for weight in weights[:2]):
        return False
    if inputs[3] is not None and weights[2] is None:
        return False
    wanted = _ACTIVATIONS[node.op_type]
    given = node.attributes.get("activations")
    usual = given is None or list(given.as_strings()) == wanted * _directions(node)
    return (
        usual
        and not any(name in node.attributes and node.attributes[name].value for name in _RARE)
        and _steps(node) <= MOST_STEPS
    )


def _directions(node: ir.Node) -> int:
    return 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1


def _steps(node: ir.Node) -> int:
    return _shape(node.inputs[0])[0]


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    assert value is not None and value.shape is not None
    return tuple(int(size) for size in value.shape.numpy())


@dataclass
class _Direction:
    """The parameters of one direction as constants of the graph, and the state that it is in; None is zero."""

    recurrent: ir.Value
    recurrent_bias: np.ndarray
    hidden: ir.Value | None
    cell: ir.Value | None
    parts: list[ir.Value] = field(default_factory=list)


class _Writer:
    """Writes one node out, in its place."""

    def __init__(self, node: ir.Node) -> None:
        assert isinstance(node.graph, ir.Graph)
        self.node, self.graph, self.name, self.count = node, node.graph, str(node.name), 0
        self.steps, self.batch, self.inputs = _shape(node.inputs[0])
        self.gates = _GATES[node.op_type]
        weights = constant(node.inputs[2])
        assert weights is not None
        self.units = int(weights.shape[2])
        self.before_reset = bool(node.attributes.get_int("linear_before_reset", 0))

    def write(self) -> None:
        rows = self.reshaped(self.node.inputs[0], (self.steps * self.batch, self.inputs))
        sequences, lasts = [], []
        for number in range(_directions(self.node)):
            direction = self._direction(number, rows)
            backward = number == 1 or self.node.attributes.get_string("direction", "forward") == "reverse"
            order = list(range(self.steps))[:: -1 if backward else 1]
            made: dict[int, ir.Value] = {}
            for step in order:
                (self._lstm if self.node.op_type == "LSTM" else self._gru)(direction, direction.parts[step])
                assert direction.hidden is not None
                made[step] = self.reshaped(direction.hidden, (1, 1, self.batch, self.units))
            sequences.append(self.joined([made[step] for step in range(self.steps)], 0))
            ends = (direction.hidden, direction.cell)[: _STATES[self.node.op_type]]
            lasts.append([self.reshaped(end, (1, self.batch, self.units)) for end in ends])
        results = [self.joined(sequences, 1), *(self.joined(list(ends), 0) for ends in zip(*lasts, strict=True))]
        for old, new in zip(self.node.outputs, results, strict=False):
            self._replace(old, new)
        self.graph.remove(self.node, safe=True)

    def _direction(self, number: int, rows: ir.Value) -> _Direction:
        """`rows` are all inputs; their products are rounded before they are divided into steps."""
        arrays = [constant(value) for value in self.node.inputs[1:3]]
        assert arrays[0] is not None and arrays[1] is not None
        weight, recurrent = arrays[0][number], arrays[1][number]
        given = constant(self.node.inputs[3]) if len(self.node.inputs) > 3 else None
        biases = np.zeros((2, self.gates * self.units), np.float32) if given is None else given[number].reshape(2, -1)
        first, again = biases[0].copy(), biases[1].copy()
        joint = self.gates * self.units if self.node.op_type == "LSTM" else 2 * self.units
        first[:joint] += again[:joint]
        again[:joint] = 0
        if not (self.node.op_type == "GRU" and self.before_reset):
            first[joint:] += again[joint:]
            again[joint:] = 0
        product = self.product(rows, self.constant(weight), first)
        states = [self._initial(5 + index, number) for index in range(_STATES[self.node.op_type])]
        parts = self.split(product, [self.batch] * self.steps, 0)
        return _Direction(self.constant(recurrent), again, states[0], states[-1] if len(states) > 1 else None, parts)

    def _initial(self, index: int, number: int) -> ir.Value | None:
        value = self.node.inputs[index] if len(self.node.inputs) > index else None
        array = constant(value)
        if value is None or (array is not None and not array.any()):
            return None
        parts = self.split(value, [1] * _directions(self.node), 0)
        return self.reshaped(parts[number], (self.batch, self.units))

    def _lstm(self, d: _Direction, total: ir.Value) -> None:
        """One step: gates in ONNX's order input, output, forget, candidate."""
        units = self.units
        if d.hidden is not None:
            total = self.add("Add", [total, self.product(d.hidden, d.recurrent)], rounded="0:x 1:h")
        opened, candidate = self.split(total, [3 * units, units], 1)
        inner = self.add("Sigmoid", [opened], rounded="0:sum")
        i, o, f = self.split(inner, [units] * 3, 1)
        new = self.add("Tanh", [candidate], rounded="0:sum")
        cell = self.add("Mul", [i, new], rounded="0:gate 1:new")
        if d.cell is not None:
            cell = self.add("Add", [self.add("Mul", [f, d.cell], rounded="0:gate"), cell])
        d.cell = cell
        d.hidden = self.add("Mul", [o, self.add("Tanh", [cell], rounded="0:cell")], rounded="0:gate 1:shown")

    def _gru(self, d: _Direction, total: ir.Value) -> None:
        """One step: gates in ONNX's order update, reset, candidate."""
        units, hidden = self.units, d.hidden
        gates, new = self.split(total, [2 * units, units], 1)
        reset: ir.Value | None = None
        if hidden is not None and self.before_reset:
            inner, reset = self.split(self.product(hidden, d.recurrent, d.recurrent_bias), [2 * units, units], 1)
            gates = self.add("Add", [gates, inner], rounded="0:x 1:h")
        elif hidden is not None:
            gates = self.add("Add", [gates, self.product(hidden, self._rows(d, 0, 2))], rounded="0:x 1:h")
        z, r = self.split(self.add("Sigmoid", [gates], rounded="0:sum"), [units] * 2, 1)
        if hidden is not None and not self.before_reset:
            reset = self.product(self.add("Mul", [r, hidden], rounded="0:gate 1:hidden"), self._rows(d, 2, 3))
            new = self.add("Add", [new, reset], rounded="0:x 1:reset")
        elif self.before_reset:
            bias = d.recurrent_bias[2 * units :].reshape(1, -1)
            inner = reset if reset is not None else self.constant(np.repeat(bias, self.batch, 0))
            gated = self.add("Mul", [r, inner], rounded="0:gate 1:h")
            new = self.add("Add", [new, gated], rounded="0:x 1:gated")
        new = self.add("Tanh", [new], rounded="0:candidate")
        if hidden is None:
            d.hidden = self.add("Sub", [new, self.add("Mul", [z, new], rounded="0:gate 1:new")], rounded="0:new")
        else:
            apart = self.add("Mul", [z, self.add("Sub", [hidden, new], rounded="1:new")], rounded="0:gate")
            d.hidden = self.add("Add", [new, apart], rounded="0:new")

    def _rows(self, d: _Direction, first: int, last: int) -> ir.Value:
        """The recurrent weights of the gates from `first` to `last`, one constant for all steps."""
        name = f"{d.recurrent.name}_{first}_{last}"
        known = self.graph.initializers.get(name)
        array = constant(d.recurrent)
        assert array is not None
        return known or new_constant(self.graph, name, array[first * self.units : last * self.units])

    def add(
        self, op_type: str, inputs: Sequence[ir.Value | None], shape: Sequence[int] = (), rounded: str = ""
    ) -> ir.Value:
        return self._node(op_type, inputs, [tuple(shape) or _shape(inputs[0])], {}, rounded)[0]

    def product(self, value: ir.Value, weight: ir.Value, bias: np.ndarray | None = None) -> ir.Value:
        extra = [] if bias is None else [self.constant(bias)]
        shape = (_shape(value)[0], _shape(weight)[0])
        return self._node("Gemm", [value, weight, *extra], [shape], {"transB": 1})[0]

    def constant(self, array: np.ndarray) -> ir.Value:
        return new_constant(self.graph, f"{self.name}_constant", np.ascontiguousarray(array, np.float32))

    def reshaped(self, value: ir.Value | None, shape: tuple[int, ...]) -> ir.Value:
        sizes = new_constant(self.graph, f"{self.name}_shape", np.array(shape, np.int64))
        return self._node("Reshape", [value, sizes], [shape], {})[0]

    def joined(self, values: list[ir.Value], axis: int) -> ir.Value:
        if len(values) == 1:
            return values[0]
        shape = list(_shape(values[0]))
        shape[axis] = sum(_shape(value)[axis] for value in values)
        return self._node("Concat", values, [tuple(shape)], {"axis": axis})[0]

    def split(self, value: ir.Value, sizes: list[int], axis: int) -> list[ir.Value]:
        if len(sizes) == 1:
            return [value]
        shapes = [tuple(size if at == axis else other for at, other in enumerate(_shape(value))) for size in sizes]
        lengths = new_constant(self.graph, f"{self.name}_sizes", np.array(sizes, np.int64))
        return self._node("Split", [value, lengths], shapes, {"axis": axis})

    def _node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shapes: Sequence[tuple[int, ...]],
        attributes: dict[str, int],
        rounded: str = "",
    ) -> list[ir.Value]:
        name, self.count = f"{self.name}_{self.count}_{op_type}", self.count + 1
        node = ir.node(op_type, inputs, attributes, num_outputs=len(shapes), name=name)
        for index, (output, shape) in enumerate(zip(node.outputs, shapes, strict=True)):
            output.name, output.shape = f"{name}_{index}", ir.Shape(shape)
            output.type = ir.TensorType(ir.DataType.FLOAT)
        if rounded:
            words, own = (word.split(":") for word in rounded.split()), self.name.replace(" ", "_")
            node.metadata_props[ROUNDED_KEY] = " ".join(f"{index}:{own}/{role}" for index, role in words)
        self.graph.insert_before(self.node, node)
        return list(node.outputs)

    def _replace(self, old: ir.Value, new: ir.Value) -> None:
        if old.is_graph_output():
            name, old.name = old.name, None
            new.name = name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
