"""A TFLite subgraph to an ONNX graph: every operator in order, real-valued inputs and outputs in TFLite's shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.dilation import join_dilations
from edgeprune.frontend.tflite.graph import GraphBuilder
from edgeprune.frontend.tflite.schema import Operator, Subgraph, Tensor
from edgeprune.frontend.tflite.states import NEXT
from edgeprune.frontend.tflite.table import CONVERTERS
from edgeprune.frontend.tflite.values import Values
from edgeprune.ir.states import State, note_states


def convert(subgraphs: Sequence[Subgraph]) -> ir.Model:
    """The model that the first of `subgraphs` describes. Raises EdgepruneError (op-unsupported, model-corrupt)."""
    subgraph = join_dilations(subgraphs[0])
    builder = GraphBuilder(subgraph.name or "tflite")
    values = Values(builder, subgraph)
    for place, index in enumerate(subgraph.inputs):
        _add_input(values, index, place)
    names = [builder.unique(values.tensors[index].name or f"output_{n}") for n, index in enumerate(subgraph.outputs)]
    for operator in subgraph.operators:
        _convert_operator(operator, values)
    states = _add_outputs(values, subgraph, names)
    _check_starts(subgraphs)
    model = builder.model()
    note_states(model, states)
    return model


def _add_input(values: Values, index: int, place: int) -> None:
    tensor = values.tensors[index]
    if tensor.dtype is None:
        raise EdgepruneError(
            "dtype-unsupported",
            f"input '{tensor.name}' is of type {tensor.kind}",
            where=f"input '{tensor.name}'",
            hint="only tensors of numbers can go in",
        )
    real = tensor.quantization is not None or tensor.dtype.kind == "f"
    name = tensor.name or f"input_{place}"
    value = values.builder.input(name, np.dtype(np.float32) if real else tensor.dtype, tensor.shape)
    values.put(index, value)


def _convert_operator(operator: Operator, values: Values) -> None:
    call = Call(operator, values)
    convert_one = None if operator.custom else CONVERTERS.get(operator.name)
    if convert_one is None:
        raise call.refuse("there is no conversion for it" if not operator.custom else "it is a custom operator")
    try:
        convert_one(call)
    except EdgepruneError:
        raise
    except Exception as error:
        raise call.corrupt(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _add_outputs(values: Values, subgraph: Subgraph, names: Sequence[str]) -> list[State]:
    """Outputs under TFLite's names; one that is an input, a constant or another output becomes a value of its own.

    Those of variables come last, and are returned with their inputs.
    """
    graph = values.builder.graph
    for index, name in zip(subgraph.outputs, names, strict=True):
        value = values.get(index)
        if value.producer() is None or value.is_graph_output():
            value = values.builder.add(name, "Identity", [value], {})
        value.name = name
        graph.outputs.append(value)
    states = []
    for port, value in values.states.outputs().items():
        name = values.builder.unique(port + NEXT)
        kept = values.builder.add(name, "Identity", [value], {})
        kept.name = name
        graph.outputs.append(kept)
        states.append(State(port, name))
    return states


def _check_starts(subgraphs: Sequence[Subgraph]) -> None:
    """Variables start at zero; a graph that starts them elsewhere is refused."""
    started = [operator.options.get("InitSubgraphIndex") for operator in subgraphs[0].operators]
    for number in (number for number in started if number is not None):
        if not 0 < number < len(subgraphs):
            raise ValueError(f"there is no graph {number}")
        graph = subgraphs[number]
        for operator in graph.operators:
            values = [graph.tensors[index] for index in operator.inputs[1:] if index >= 0]
            if operator.name not in ("VAR_HANDLE", "ASSIGN_VARIABLE") or not all(_is_zero(value) for value in values):
                raise Call(operator, Values(GraphBuilder("start"), graph)).refuse("variables that do not start at zero")


def _is_zero(tensor: Tensor) -> bool:
    if tensor.data is None:
        return False
    zero = 0 if tensor.quantization is None else tensor.quantization.zero_point[0]
    return bool(np.all(tensor.data == zero))
