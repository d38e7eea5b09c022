"""Reads arithmetic with constants: sums and products of a value and scalars."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.ir.edit import constant

DEPTH = 4
"""How many multiplications of one product are looked through."""

_INFINITY = float("inf")


def scalar(value: ir.Value | None) -> float | None:
    """The number that `value` always is; None where it is computed, not a float or has several elements."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 and array.dtype.kind == "f" else None


def factors(value: ir.Value | None, stops: set[int], depth: int) -> tuple[list[ir.Value], float]:
    """The factors of a product, and the product of its scalar constants."""
    assert value is not None
    number, producer = scalar(value), value.producer()
    if number is not None:
        return [], number
    if id(value) in stops or depth == 0 or producer is None or producer.op_type not in ("Mul", "Div"):
        return [value], 1.0
    left, left_scale = factors(producer.inputs[0], stops, depth - 1)
    if producer.op_type == "Mul":
        right, right_scale = factors(producer.inputs[1], stops, depth - 1)
        return left + right, left_scale * right_scale
    divisor = scalar(producer.inputs[1])
    return (left, left_scale / divisor) if divisor else ([value], 1.0)


def scaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """`value` as another value times a scalar."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type not in ("Mul", "Div"):
        return value, 1.0
    left, right = producer.inputs
    number = scalar(right)
    if number:
        return left, number if producer.op_type == "Mul" else 1 / number
    number = scalar(left)
    return (right, number) if number is not None and producer.op_type == "Mul" else (value, 1.0)


def shifted(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """`value` as another value plus a scalar."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type not in ("Add", "Sub"):
        return value, 0.0
    left, right = producer.inputs
    number = scalar(right)
    if number is not None:
        return left, number if producer.op_type == "Add" else -number
    number = scalar(left)
    return (right, number) if number is not None and producer.op_type == "Add" else (value, 0.0)


def bounds(node: ir.Node) -> tuple[float, float] | None:
    """The numbers that a Clip keeps between; None where they are not constant."""
    found = []
    for index, default in ((1, -_INFINITY), (2, _INFINITY)):
        value = node.inputs[index] if len(node.inputs) > index else None
        number = default if value is None else scalar(value)
        if number is None:
            return None
        found.append(number)
    return found[0], found[1]
