"""Constants as nodes read them: plain, or quantized with a DequantizeLinear between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import constant


@dataclass(frozen=True)
class Holder:
    """A constant that follows units along `axis`: input `index` of `node`. `zero` broadcasts to what means zero."""

    node: ir.Node
    index: int
    axis: int
    zero: np.ndarray


def stored(value: ir.Value | None) -> np.ndarray | None:
    """The array behind a constant or a dequantized constant, as it is stored; None for anything computed."""
    array = constant(value)
    node = value.producer() if value is not None else None
    if array is None and node is not None and _dequantizes(node):
        return constant(node.inputs[0])
    return array


def holders(node: ir.Node, index: int, axis: int) -> list[Holder]:
    """The constants to cut along `axis` of input `index` of `node`; the first holds the numbers themselves."""
    value = node.inputs[index]
    if constant(value) is not None:
        return [Holder(node, index, axis, np.zeros((), np.int64))]
    source = value.producer() if value is not None else None
    array = constant(source.inputs[0]) if source is not None else None
    if source is None or array is None:
        return []
    points = constant(source.inputs[2]) if len(source.inputs) > 2 else None
    own = source.attributes.get_int("axis", 1) % max(array.ndim, 1)
    zero = np.zeros((), array.dtype) if points is None else points
    if zero.size > 1:
        zero = zero.reshape([-1 if each == own else 1 for each in range(array.ndim)])
    found = [Holder(source, 0, axis, zero.reshape(()) if zero.size == 1 else zero)]
    for place in (1, 2):
        scale = constant(source.inputs[place]) if len(source.inputs) > place else None
        if scale is not None and scale.size > 1 and own == axis:
            found.append(Holder(source, place, 0, np.zeros((), scale.dtype)))
    return found


def is_shared(value: ir.Value | None) -> bool:
    """Whether several nodes read one dequantized constant, so that it cannot be cut for one of them."""
    return value is not None and constant(value) is None and len(list(value.uses())) > 1


def _dequantizes(node: ir.Node) -> bool:
    constants = all(constant(value) is not None for value in node.inputs if value is not None)
    return node.op_type == "DequantizeLinear" and not node.domain and constants
