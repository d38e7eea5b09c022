"""UNIDIRECTIONAL_SEQUENCE_LSTM: ONNX LSTM for real numbers, written out step by step where each step is rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import tflite

from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.graph import shape_of
from edgeprune.frontend.tflite.schema import Quantization
from edgeprune.ir.written_lstm import note_lstm

_GATES = (0, 1, 2, 3)
_INPUT, _FORGET, _CELL, _OUTPUT = _GATES
_ONNX_ORDER = (_INPUT, _OUTPUT, _FORGET, _CELL)
_WEIGHTS, _RECURRENT, _BIASES = 1, 5, 12
_REFUSED = {9: "peephole weights", 10: "peephole weights", 11: "peephole weights", 16: "a projection"}
_NORMALISED = (20, 21, 22, 23)
_HIDDEN, _STATE = 18, 19
_CONVERTER_CLIP = 10.0
_MOST_STEPS = 1024
"""Steps that are written out."""

_GATE_STEP, _CURVE_STEP = 2.0**-12, 2.0**-15
_INT16 = (-32768, 32767)


def unidirectional_sequence_lstm(call: Call) -> None:
    """Starts from zero: TFLite keeps the state from one inference to the next only where nobody resets it.

    The bound of 10 that converters put on every cell is no part of the trained model, and left out; another is kept.
    """
    _check_form(call)
    data = call.get(0)
    if len(shape_of(data)) != 3:
        raise call.corrupt("the input is no sequence")
    steps_first = data if call.option("TimeMajor") else call.values.turned(data, (1, 0, 2))
    clip = float(call.option("CellClip", 0.0))
    if call.tensor(0).quantization is None and not 0 < clip < _CONVERTER_CLIP:
        result = _whole(call, steps_first)
    else:
        result = _written_out(call, steps_first, clip)
    call.put(result if call.option("TimeMajor") else call.values.turned(result, (1, 0, 2)))


def _check_form(call: Call) -> None:
    for place, what in _REFUSED.items():
        if call.has(place):
            raise call.refuse(what)
    if any(call.has(place) for place in _NORMALISED):
        raise call.refuse("layer normalisation")
    if not call.has(_WEIGHTS):
        raise call.refuse("coupled input and forget gates")
    if call.option("FusedActivationFunction") != tflite.ActivationFunctionType.TANH:
        raise call.refuse("an activation other than tanh")
    if any(call.has(place) and not call.tensor(place).variable for place in (_HIDDEN, _STATE)):
        raise call.refuse("a state that is an input of its own")


def _whole(call: Call, data: ir.Value) -> ir.Value:
    """One LSTM node."""
    biases = _biases(call)
    inputs = [data, _stacked(call, _WEIGHTS, (1,)), _stacked(call, _RECURRENT, (1,))]
    both = call.constant(np.concatenate([biases, np.zeros_like(biases)])[None])
    hidden = call.tensor(_RECURRENT).shape[-1]
    results = call.builder.add_all(call.name, "LSTM", [*inputs, both], {"hidden_size": hidden}, 3)
    return call.add("Squeeze", results[0], call.vector([1]))


def _biases(call: Call) -> np.ndarray:
    """The biases of all gates in ONNX's order."""
    return np.concatenate([_bias(call, gate) for gate in _ONNX_ORDER])


def _bias(call: Call, gate: int) -> np.ndarray:
    tensor = call.tensor(_BIASES + gate)
    array = call.array(_BIASES + gate).astype(np.float32)
    return array if tensor.quantization is None else np.asarray(array * tensor.quantization.scale, np.float32)


def _stacked(call: Call, first: int, leading: tuple[int, ...] = ()) -> ir.Value:
    """The weights of all gates in ONNX's order as [*leading, 4 * hidden, in], with a scale for each stored row."""
    tensors = [call.tensor(first + gate) for gate in _ONNX_ORDER]
    array = np.concatenate([call.array(first + gate) for gate in _ONNX_ORDER])
    array = array.reshape(*leading, *array.shape)
    scales = [np.broadcast_to(t.quantization.scale, t.shape[:1]) for t in tensors if t.quantization is not None]
    name = f"{call.name}_weights_{first}"
    if len(scales) < len(tensors):
        return call.builder.constant(array.astype(np.float32), name)
    rows = np.concatenate(scales)
    quantization = Quantization(rows, np.zeros(rows.size, np.int64), len(leading))
    return call.values.dequantized(name, array, tensors[0].kind, quantization, len(leading))


@dataclass(frozen=True)
class _Rounding:
    """What each stage of a step rounds to; nothing in a network of real numbers."""

    gate: Callable[[ir.Value], ir.Value]
    curve: Callable[[ir.Value], ir.Value]
    state: Callable[[ir.Value], ir.Value]
    hidden: Callable[[ir.Value], ir.Value]


def _written_out(call: Call, data: ir.Value, clip: float) -> ir.Value:
    steps, batch, features = shape_of(data)
    if steps > _MOST_STEPS:
        raise call.refuse(f"{steps} rounded steps, more than {_MOST_STEPS}")
    units, before = call.tensor(_RECURRENT).shape[0], len(call.builder.graph)
    rounding, recurrent = _rounding(call), _stacked(call, _RECURRENT)
    rows = call.reshaped(data, (steps * batch, features))
    bias = call.constant(_biases(call))
    product = call.add("Gemm", rows, _stacked(call, _WEIGHTS), bias, transB=1)
    projected = call.split(rounding.gate(product), [batch] * steps, 0)
    hidden = state = None
    results = []
    for total in projected:
        if hidden is not None:
            total = call.add("Add", total, rounding.gate(call.add("Gemm", hidden, recurrent, transB=1)))
        opened, candidate = call.split(total, [3 * units, units], 1)
        gates = call.split(rounding.curve(call.add("Sigmoid", opened)), [units] * 3, 1)
        state = _next_state(call, rounding, gates, rounding.curve(call.add("Tanh", candidate)), state)
        if clip > 0:
            state = call.add("Clip", state, call.constant(-clip), call.constant(clip))
        shown = rounding.curve(call.add("Tanh", state))
        hidden = rounding.hidden(call.add("Mul", gates[1], shown))
        results.append(call.reshaped(hidden, (1, batch, units)))
    result = results[0] if steps == 1 else call.add("Concat", *results, axis=0)
    _note(call, list(call.builder.graph)[before:], clip)
    return result


def _note(call: Call, nodes: Sequence[ir.Node], clip: float) -> None:
    """Say of the nodes that write an LSTM of integers out that they do, where its cell is on a grid of 2**n."""
    state = call.tensor(_STATE).quantization
    if state is None or np.frexp(state.scale[0])[0] != 0.5:
        return
    bound = int(min(clip / float(state.scale[0]), _INT16[1])) if clip > 0 else 0
    note_lstm(nodes, call.name, int(np.log2(state.scale[0])), bound)


def _next_state(
    call: Call, rounding: _Rounding, gates: Sequence[ir.Value], candidate: ir.Value, state: ir.Value | None
) -> ir.Value:
    """`gates` are those of input, output and forgetting; nothing is remembered yet where `state` is None."""
    fresh = rounding.state(call.add("Mul", gates[0], candidate))
    if state is None:
        return fresh
    return rounding.state(call.add("Add", fresh, rounding.state(call.add("Mul", gates[2], state))))


def _rounding(call: Call) -> _Rounding:
    if call.tensor(0).quantization is None:
        return _Rounding(*[lambda value: value] * 4)
    state = call.tensor(_STATE).quantization
    if state is None or not state.per_tensor:
        raise call.corrupt("the cell has no scale")
    return _Rounding(
        lambda value: _on_grid(call, value, _GATE_STEP),
        lambda value: _on_grid(call, value, _CURVE_STEP),
        lambda value: _on_grid(call, value, float(state.scale[0])),
        lambda value: call.values.rounded(call.index(_HIDDEN), value),
    )


def _on_grid(call: Call, value: ir.Value, step: float) -> ir.Value:
    """`value` as 16 bits store it with this scale."""
    whole = call.add("Round", call.add("Mul", value, call.constant(1 / step)))
    kept = call.add("Clip", whole, *(call.constant(bound) for bound in _INT16))
    return call.add("Mul", kept, call.constant(step))
