"""SPACE_TO_BATCH_ND, a convolution and BATCH_TO_SPACE_ND: what old converters make of one dilated convolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tflite

from edgeprune.frontend.tflite.schema import Operator, Subgraph, Tensor

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class _Triple:
    before: Operator
    convolution: Operator
    after: Operator


def join_dilations(graph: Subgraph) -> Subgraph:
    """`graph` with every such triple as PAD, a dilated convolution and SLICE."""
    triples = {id(triple.after): triple for triple in _triples(graph)}
    if not triples:
        return graph
    dropped = {id(op) for triple in triples.values() for op in (triple.before, triple.convolution)}
    tensors, operators = list(graph.tensors), []
    for operator in graph.operators:
        if id(operator) in triples:
            operators.extend(_dilated(triples[id(operator)], tensors))
        elif id(operator) not in dropped:
            operators.append(operator)
    return replace(graph, tensors=tuple(tensors), operators=tuple(operators))


def _triples(graph: Subgraph) -> list[_Triple]:
    readers = Counter(index for operator in graph.operators for index in operator.inputs)
    readers.update(graph.outputs)
    reader = {operator.inputs[0]: operator for operator in graph.operators if operator.inputs}
    found = []
    for before in graph.operators:
        convolution = _only(before, "SPACE_TO_BATCH_ND", readers, reader)
        after = None if convolution is None else _only(convolution, convolution.name, readers, reader)
        if convolution is None or after is None or after.name != "BATCH_TO_SPACE_ND":
            continue
        if convolution.name in _CONVOLUTIONS and _fits(graph.tensors, before, convolution, after):
            found.append(_Triple(before, convolution, after))
    return found


def _only(operator: Operator, name: str, readers: Mapping[int, int], reader: Mapping[int, Operator]) -> Operator | None:
    """What alone reads the one result of `operator`, where that is called `name`."""
    if operator.name != name or len(operator.outputs) != 1 or readers[operator.outputs[0]] != 1:
        return None
    return reader.get(operator.outputs[0])


def _fits(tensors: Sequence[Tensor], before: Operator, convolution: Operator, after: Operator) -> bool:
    """Whether both sides use the same constant blocks, the convolution neither pads nor strides, and scales agree."""
    arrays = [_constant(tensors, operator, place) for operator in (before, after) for place in (1, 2)]
    if any(array is None for array in arrays):
        return False
    blocks, pads, blocks_after, crops = (np.asarray(array) for array in arrays)
    options = convolution.options
    plain = options.get("StrideH") == options.get("StrideW") == 1 and options.get("Padding") == tflite.Padding.VALID
    undilated = options.get("DilationHFactor", 1) == options.get("DilationWFactor", 1) == 1
    shapes = blocks.shape == (2,) and pads.shape == crops.shape == (2, 2) and not np.any(pads < 0)
    if not (plain and undilated and shapes and np.array_equal(blocks, blocks_after) and np.all(blocks > 0)):
        return False
    ends = [(before.inputs[0], before.outputs[0]), (after.inputs[0], after.outputs[0])]
    return not np.any(crops < 0) and all(_alike(tensors[first], tensors[second]) for first, second in ends)


def _alike(first: Tensor, second: Tensor) -> bool:
    if first.quantization is None or second.quantization is None:
        return first.quantization is second.quantization
    return first.quantization.equals(second.quantization)


def _constant(tensors: Sequence[Tensor], operator: Operator, place: int) -> np.ndarray | None:
    return tensors[operator.inputs[place]].data if place < len(operator.inputs) else None


def _dilated(triple: _Triple, tensors: list[Tensor]) -> list[Operator]:
    """Three operators in place of the triple; their new constants and results are appended to `tensors`."""
    (height, width), pads, _, crops = (
        np.asarray(_constant(tensors, operator, place))
        for operator in (triple.before, triple.after)
        for place in (1, 2)
    )
    source, result = tensors[triple.before.inputs[0]], tensors[triple.after.outputs[0]]

    def new(tensor: Tensor) -> int:
        tensors.append(tensor)
        return len(tensors) - 1

    def vector(array: Any) -> int:
        data = np.asarray(array, np.int32)
        return new(Tensor(f"{result.name}_bounds", "INT32", np.dtype(np.int32), data.shape, data))

    around = np.zeros((4, 2), np.int32)
    around[1:3] = pads
    padded = new(replace(source, name=f"{result.name}_padded", data=None))
    whole = new(replace(result, name=f"{result.name}_whole", data=None))
    options = {**triple.convolution.options, "DilationHFactor": int(height), "DilationWFactor": int(width)}
    inputs = (padded, *triple.convolution.inputs[1:])
    ends = [0, -int(crops[0, 1]), -int(crops[1, 1]), 0]
    masks = sum(1 << axis for axis, end in enumerate(ends) if end == 0)
    begins = [0, int(crops[0, 0]), int(crops[1, 0]), 0]
    return [
        Operator("PAD", (triple.before.inputs[0], vector(around)), (padded,)),
        replace(triple.convolution, inputs=inputs, outputs=(whole,), options=options),
        Operator(
            "STRIDED_SLICE",
            (whole, vector(begins), vector(ends), vector([1] * 4)),
            triple.after.outputs,
            {"EndMask": masks},
        ),
    ]
