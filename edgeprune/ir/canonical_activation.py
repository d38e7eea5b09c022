"""Recognises activations that an exporter spelled in parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isclose, pi, sqrt
from typing import Any

import onnx_ir as ir

from edgeprune.ir.canonical_terms import DEPTH, bounds, factors, scalar, scaled, shifted
from edgeprune.ir.edit import bypass, new_node


@dataclass(frozen=True)
class Spelling:
    """`value` is one factor of activation `op` of `source`, which is `source` * `value` * `factor`."""

    op: str
    source: ir.Value
    factor: float
    attributes: dict[str, Any] = field(default_factory=dict)


def recognise_activations(model: ir.Model) -> None:
    """Write Gelu, HardSwish, HardSigmoid and Mish as one node each, in place."""
    for node in list(model.graph):
        if node.op_type not in ("Mul", "Div") or node.domain or node.graph is None:
            continue
        found = _activation(node) if node.outputs[0].dtype == ir.DataType.FLOAT else None
        if found is not None:
            name = f"{node.name}_{found.op.lower()}"
            whole = new_node(found.op, [found.source], found.attributes, name=name, like=node.outputs[0])
            model.graph.insert_before(node, [whole])
            bypass(node, whole.outputs[0])


def _activation(node: ir.Node) -> Spelling | None:
    """The activation whose product `node` ends."""
    result = node.outputs[0]
    for value in _leaves(result, DEPTH):
        producer = value.producer()
        read = _FACTORS.get(producer.op_type) if producer is not None and not producer.domain else None
        for found in read(producer) if read is not None and producer is not None else ():
            if _is_product(result, value, found):
                return found
    return None


def _leaves(value: ir.Value, depth: int) -> list[ir.Value]:
    producer = value.producer()
    if depth == 0 or producer is None or producer.op_type not in ("Mul", "Div") or producer.domain:
        return [value]
    operands = producer.inputs if producer.op_type == "Mul" else producer.inputs[:1]
    return [leaf for operand in operands if operand is not None for leaf in _leaves(operand, depth - 1)]


def _is_product(result: ir.Value, value: ir.Value, spelling: Spelling) -> bool:
    """Whether `result` is exactly value * factor, times the source unless the spelling is of the factor alone."""
    wanted = [value] if spelling.op == "HardSigmoid" else [value, spelling.source]
    if result.shape is None or result.shape != spelling.source.shape:
        return False
    values, scale = factors(result, {id(each) for each in wanted}, DEPTH)
    return sorted(map(id, values)) == sorted(map(id, wanted)) and isclose(scale, spelling.factor, rel_tol=1e-5)


def _one_plus(node: ir.Node) -> list[Spelling]:
    """Gelu's second factor: 1 + erf(x / sqrt 2), or 1 + tanh of a cubic."""
    inner, shift = shifted(node.outputs[0])
    producer = inner.producer() if inner is not None else None
    if shift != 1.0 or producer is None:
        return []
    if producer.op_type == "Erf":
        source, scale = scaled(producer.inputs[0])
        if source is not None and isclose(scale, 1 / sqrt(2), rel_tol=1e-4):
            return [Spelling("Gelu", source, 0.5)]
    if producer.op_type == "Tanh":
        source = _cubic(producer.inputs[0])
        if source is not None:
            return [Spelling("Gelu", source, 0.5, {"approximate": "tanh"})]
    return []


def _cubic(value: ir.Value | None) -> ir.Value | None:
    """x where `value` is sqrt(2 / pi) * (x + 0.044715 * x^3)."""
    total, scale = scaled(value)
    producer = total.producer() if total is not None else None
    if producer is None or producer.op_type != "Add" or not isclose(scale, sqrt(2 / pi), rel_tol=1e-4):
        return None
    for source, term in (producer.inputs, producer.inputs[::-1]):
        if source is None or term is None:
            continue
        values, factor = factors(term, {id(source)}, DEPTH)
        cube = values[0].producer() if len(values) == 1 else None
        is_power = cube is not None and cube.op_type == "Pow" and cube.inputs[0] is source
        power = scalar(cube.inputs[1]) if cube is not None and is_power else None
        is_cube = power == 3.0 or (len(values) == 3 and all(each is source for each in values))
        if is_cube and isclose(factor, 0.044715, rel_tol=1e-4):
            return source
    return None


def _clipped(node: ir.Node) -> list[Spelling]:
    """Clip(x + 3, 0, 6), of HardSwish and HardSigmoid."""
    source, shift = shifted(node.inputs[0])
    if source is None or shift != 3.0 or bounds(node) != (0.0, 6.0):
        return []
    slope = {"alpha": 1 / 6, "beta": 0.5}
    return [Spelling("HardSwish", source, 1 / 6), Spelling("HardSigmoid", source, 1 / 6, slope)]


def _hard_sigmoid(node: ir.Node) -> list[Spelling]:
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    source = node.inputs[0]
    is_sixth = isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5
    return [Spelling("HardSwish", source, 1.0)] if is_sixth and source is not None else []


def _tanh(node: ir.Node) -> list[Spelling]:
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    source = producer.inputs[0] if producer is not None and producer.op_type == "Softplus" else None
    return [Spelling("Mish", source, 1.0)] if source is not None else []


_FACTORS: dict[str, Callable[[ir.Node], list[Spelling]]] = {
    "Add": _one_plus,
    "Clip": _clipped,
    "HardSigmoid": _hard_sigmoid,
    "Tanh": _tanh,
}
