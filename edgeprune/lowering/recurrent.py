"""LSTM, GRU and RNN written out step by step, as the ONNX standard defines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeprune.lowering.expand import Expansion

_ACTIVATIONS = ("Sigmoid", "Tanh", "Relu")


@dataclass(frozen=True)
class _Direction:
    """One direction of one layer: its number, the order of its steps, and the names of what it works with.

    `projected` is the input times W plus its bias, by step, each [batch, gates * hidden]; `recurrent` is R
    transposed. `peepholes` are what gates add of the cell: input, output and forget, each [hidden].
    """

    number: int
    order: list[int]
    projected: list[str]
    recurrent: str
    bias: tuple[str, str]
    activations: list[str]
    hidden: int
    peepholes: tuple[str, ...] = ()


_Cell = Callable[[Expansion, _Direction, str, list[str]], list[str]]


def expand_lstm(e: Expansion) -> None:
    """Long short-term memory; states are (h, c)."""
    _expand(e, gates=4, states=2, default=["Sigmoid", "Tanh", "Tanh"], cell=_lstm_cell)


def expand_gru(e: Expansion) -> None:
    """Gated recurrent unit, with both forms of the reset."""
    _expand(e, gates=3, states=1, default=["Sigmoid", "Tanh"], cell=_gru_cell)


def expand_rnn(e: Expansion) -> None:
    """The plain recurrent layer."""
    _expand(e, gates=1, states=1, default=["Tanh"], cell=_rnn_cell)


def _expand(e: Expansion, gates: int, states: int, default: list[str], cell: _Cell) -> None:
    _refuse_rare_forms(e)
    directions = [_direction(e, number, gates, default) for number in range(e.shape(1)[0])]
    finals: list[list[str]] = []
    outputs: list[str] = []
    for direction in directions:
        state, hidden = _initial(e, direction, states), {}
        for step in direction.order:
            state = cell(e, direction, direction.projected[step], state)
            hidden[step] = e.add("Unsqueeze", state[0], e.constant(np.array([0, 1], np.int64)))
        outputs.append(_joined(e, [hidden[step] for step in range(len(hidden))], 0))
        finals.append([e.add("Unsqueeze", value, e.constant(np.array([0], np.int64))) for value in state])
    results = [_joined(e, outputs, 1), *(_joined(e, list(pair), 0) for pair in zip(*finals, strict=True))]
    for name, value in zip(e.node.output, results, strict=False):
        if name:
            e.add("Identity", value, to=name)


def _joined(e: Expansion, parts: list[str], axis: int) -> str:
    return parts[0] if len(parts) == 1 else str(e.add("Concat", *parts, axis=axis))


def _refuse_rare_forms(e: Expansion) -> None:
    if e.input(4):
        raise e.refuse("sequence lengths")
    for name in ("clip", "input_forget", "layout", "activation_alpha", "activation_beta"):
        if e.attributes.get(name):
            raise e.refuse(f"attribute {name}")


def _direction(e: Expansion, number: int, gates: int, default: list[str]) -> _Direction:
    hidden, steps = e.shape(2)[-1], e.shape(0)[0]
    names = [name.decode() for name in e.attributes.get("activations", [])] or default * 2
    chosen = names[number * len(default) : (number + 1) * len(default)]
    if not set(chosen) <= set(_ACTIVATIONS):
        raise e.refuse(f"activations {', '.join(chosen)}")
    backward = number == 1 or e.attributes.get("direction", b"forward") == b"reverse"
    order = list(range(steps))[::-1] if backward else list(range(steps))
    bias = _biases(e, number, gates * hidden)
    projected = e.add("Add", e.add("MatMul", e.input(0), _weight(e, 1, number)), bias[0])
    recurrent, peepholes = _weight(e, 2, number), _peepholes(e, number, hidden)
    return _Direction(number, order, _steps(e, projected, steps), recurrent, bias, chosen, hidden, peepholes)


def _peepholes(e: Expansion, number: int, hidden: int) -> tuple[str, ...]:
    if not e.input(7):
        return ()
    array = e.constants.get(e.input(7))
    if array is None:
        raise e.refuse("peephole weights that are not constant")
    return tuple(e.constant(array[number, start : start + hidden]) for start in range(0, 3 * hidden, hidden))


def _steps(e: Expansion, value: str, steps: int) -> list[str]:
    parts = e.add("Split", value, e.constant(np.ones(steps, np.int64)), count=steps, axis=0) if steps > 1 else [value]
    return [e.add("Squeeze", part, e.constant(np.array([0], np.int64))) for part in parts]


def _weight(e: Expansion, index: int, number: int) -> str:
    array = e.constants.get(e.input(index))
    if array is not None:
        return e.constant(np.ascontiguousarray(array[number].T))
    return str(e.add("Transpose", e.add("Gather", e.input(index), e.constant(np.int64(number)), axis=0), perm=[1, 0]))


def _biases(e: Expansion, number: int, size: int) -> tuple[str, str]:
    """The biases of W and of R."""
    if not e.input(3):
        zero = e.constant(np.zeros(size, np.float32))
        return zero, zero
    array = e.constants.get(e.input(3))
    if array is not None:
        return e.constant(array[number, :size]), e.constant(array[number, size:])
    both = e.add("Gather", e.input(3), e.constant(np.int64(number)), axis=0)
    first, second = e.add("Split", both, e.constant(np.array([size, size], np.int64)), count=2, axis=0)
    return first, second


def _initial(e: Expansion, direction: _Direction, states: int) -> list[str]:
    zero = np.zeros((e.shape(0)[1], direction.hidden), np.float32)
    number = e.constant(np.int64(direction.number))
    given = [e.input(5 + i) for i in range(states)]
    return [e.add("Gather", name, number, axis=0) if name else e.constant(zero) for name in given]


def _split(e: Expansion, value: str, parts: int, hidden: int) -> list[str]:
    return list(e.add("Split", value, e.constant(np.full(parts, hidden, np.int64)), count=parts, axis=-1))


def _recurrent(e: Expansion, d: _Direction, state: str) -> str:
    return str(e.add("Add", e.add("MatMul", state, d.recurrent), d.bias[1]))


def _lstm_cell(e: Expansion, d: _Direction, gate: str, state: list[str]) -> list[str]:
    hidden, cell = state
    i, o, f, c = _split(e, e.add("Add", gate, _recurrent(e, d, hidden)), 4, d.hidden)
    gated, candidate, shown = d.activations
    if d.peepholes:
        i, f = _peeped(e, i, cell, d.peepholes[0]), _peeped(e, f, cell, d.peepholes[2])
    kept = e.add("Mul", e.add(gated, f), cell)
    cell = e.add("Add", kept, e.add("Mul", e.add(gated, i), e.add(candidate, c)))
    if d.peepholes:
        o = _peeped(e, o, cell, d.peepholes[1])
    return [e.add("Mul", e.add(gated, o), e.add(shown, cell)), cell]


def _peeped(e: Expansion, gate: str, cell: str, weight: str) -> str:
    return str(e.add("Add", gate, e.add("Mul", cell, weight)))


def _gru_cell(e: Expansion, d: _Direction, gate: str, state: list[str]) -> list[str]:
    hidden = state[0]
    gated, candidate = d.activations
    xz, xr, xh = _split(e, gate, 3, d.hidden)
    rz, rr, rh = _split(e, _recurrent(e, d, hidden), 3, d.hidden)
    z, r = e.add(gated, e.add("Add", xz, rz)), e.add(gated, e.add("Add", xr, rr))
    if not e.attributes.get("linear_before_reset"):
        reset = _recurrent(e, d, e.add("Mul", r, hidden))
        summed = e.add("Add", xh, _split(e, reset, 3, d.hidden)[2])
    else:
        summed = e.add("Add", xh, e.add("Mul", r, rh))
    new = e.add(candidate, summed)
    return [e.add("Add", new, e.add("Mul", z, e.add("Sub", hidden, new)))]


def _rnn_cell(e: Expansion, d: _Direction, gate: str, state: list[str]) -> list[str]:
    return [e.add(d.activations[0], e.add("Add", gate, _recurrent(e, d, state[0])))]
