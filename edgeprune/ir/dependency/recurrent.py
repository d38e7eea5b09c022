"""Labels through LSTM, GRU and RNN: a unit is one hidden element, of all gates and both directions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.labels import varying
from edgeprune.ir.dependency.trace import Rule, Trace, Use, unknown, where
from edgeprune.ir.edit import constant
from edgeprune.ir.ports import static_shape

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DATA, _WEIGHT, _RECURRENT, _BIAS, _LENGTHS, _HIDDEN, _CELL, _PEEPHOLES = range(8)


def recurrent(trace: Trace, node: ir.Node) -> None:
    """Hidden elements are new units; states that come from outside are theirs too."""
    data = node.inputs[_DATA]
    assert data is not None
    fixed = [constant(node.inputs[index]) is not None for index in (_WEIGHT, _RECURRENT)]
    if not all(fixed) or node.attributes.get_int("layout", 0) == 1:
        unknown(trace, node)
        return
    trace.clear_of(data, (0, 1), f"{where(node)} steps along this axis")
    gates = _GATES[node.op_type]
    hidden = static_shape_of(node, _RECURRENT)[2]
    labels = trace.labels.fresh(hidden)
    outputs = [value for value in node.outputs if value.name]
    for value in outputs:
        rank = len(static_shape(value))
        trace.put(value, (labels.reshape((1,) * (rank - 1) + (hidden,)),))
    result = outputs[0]
    last = len(static_shape(result)) - 1

    def uses(index: int, axis: int, repeats: int, role: str = "out") -> None:
        if len(node.inputs) > index and constant(node.inputs[index]) is not None:
            made = Use(node, index, axis, "in" if role == "in" else "out", result, last, repeats=repeats)
            trace.uses.append(made)

    uses(_WEIGHT, 1, gates)
    uses(_RECURRENT, 1, gates)
    uses(_RECURRENT, 2, 1, "in")
    uses(_BIAS, 1, 2 * gates)
    uses(_PEEPHOLES, 1, 3)
    trace.use(node, _WEIGHT, 2, "in", data, 2)
    for index in (_HIDDEN, _CELL):
        if len(node.inputs) > index and node.inputs[index] is not None:
            uses(index, 2, 1)
            _join_state(trace, node, index, labels)
    for index in (_BIAS, _LENGTHS, _PEEPHOLES):
        if len(node.inputs) > index and node.inputs[index] is not None and constant(node.inputs[index]) is None:
            reason = f"{where(node)} computes input {index}"
            trace.pin_value(node.inputs[index], reason)
            if index != _LENGTHS:
                trace.pin(labels, reason)


def static_shape_of(node: ir.Node, index: int) -> tuple[int, ...]:
    """The shape of input `index` of `node`."""
    value = node.inputs[index]
    assert value is not None
    return static_shape(value)


def _join_state(trace: Trace, node: ir.Node, index: int, labels: np.ndarray) -> None:
    """The state before the first step has the hidden elements that come after it."""
    state = node.inputs[index]
    if constant(state) is not None:
        return
    reason = f"{where(node)} gets its state from elements that cannot be removed"
    row = labels.reshape(1, 1, -1)
    found = False
    for layer in trace.layers(state):
        if 2 in varying(layer):
            trace.labels.join(layer, row, reason)
            found = True
        else:
            trace.pin(layer, reason)
    if not found:
        trace.pin(labels, reason)


RULES: dict[str, Rule] = dict.fromkeys(_GATES, recurrent)
