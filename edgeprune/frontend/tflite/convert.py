"""A TFLite subgraph to an ONNX graph: every operator in order, real-valued inputs and outputs in TFLite's shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.graph import GraphBuilder
from edgeprune.frontend.tflite.schema import Operator, Subgraph, Tensor
from edgeprune.frontend.tflite.table import CONVERTERS
from edgeprune.frontend.tflite.values import Values


def convert(subgraphs: Sequence[Subgraph]) -> ir.Model:
    """The model that the first of `subgraphs` describes. Raises EdgepruneError (op-unsupported, model-corrupt)."""
    subgraph = subgraphs[0]
    builder = GraphBuilder(subgraph.name or "tflite")
    values = Values(builder, subgraph)
    for place, index in enumerate(subgraph.inputs):
        _add_input(values, index, place)
    for operator in subgraph.operators:
        _convert_operator(operator, values)
    _add_outputs(values, subgraph)
    return builder.model()


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


def _add_outputs(values: Values, subgraph: Subgraph) -> None:
    """Outputs under TFLite's names; one that is an input, a constant or another output becomes a value of its own."""
    graph = values.builder.graph
    for place, index in enumerate(subgraph.outputs):
        value = values.get(index)
        name = _output_name(values, values.tensors[index], place)
        if value.producer() is None or value.is_graph_output():
            value = values.builder.add(name, "Identity", [value], {})
        value.name = name
        graph.outputs.append(value)


def _output_name(values: Values, tensor: Tensor, place: int) -> str:
    return values.builder.unique(tensor.name or f"output_{place}")
