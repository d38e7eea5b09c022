"""Labels through arithmetic: operands of one tensor lose the same elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.labels import aligned, varying
from edgeprune.ir.dependency.stored import stored
from edgeprune.ir.dependency.trace import Rule, Trace, where
from edgeprune.ir.ports import static_shape


def elementwise(trace: Trace, node: ir.Node) -> None:
    """Operands are joined where they meet; constants follow."""
    for result in node.outputs:
        rank = len(static_shape(result))
        trace.put(result, joined(trace, node, node.inputs, rank))
        _follow(trace, node, result, rank)


def joined(trace: Trace, node: ir.Node, operands: Sequence[ir.Value | None], rank: int) -> tuple[np.ndarray, ...]:
    """The labels of `operands`, broadcast to `rank` axes and joined."""
    reason = f"{where(node)} combines them with elements that cannot be removed"
    computed = [value for value in operands if value is not None and stored(value) is None]
    merged: list[np.ndarray] = []
    for value in computed:
        for layer in trace.layers(value):
            merged = _merge(trace, merged, aligned(layer, rank), reason)
    for value in computed:
        _pin_missing(trace, value, merged, rank, reason)
    return tuple(merged)


def _merge(trace: Trace, merged: list[np.ndarray], layer: np.ndarray, reason: str) -> list[np.ndarray]:
    """`merged` with `layer` joined to all that vary along an axis of it."""
    rest = []
    for each in merged:
        if set(varying(each)) & set(varying(layer)):
            trace.labels.join(each, layer, reason)
            layer = trace.labels.roots(np.broadcast_to(layer, np.broadcast_shapes(each.shape, layer.shape)))
        else:
            rest.append(each)
    return [*rest, layer]


def _pin_missing(trace: Trace, value: ir.Value, merged: list[np.ndarray], rank: int, reason: str) -> None:
    """Pin what an operand lacks: it has the elements, and nothing says that they may go."""
    shape = (1,) * (rank - len(static_shape(value))) + static_shape(value)
    own = {axis for layer in trace.layers(value) for axis in varying(aligned(layer, rank))}
    for layer in merged:
        wanted = [axis for axis in varying(layer) if shape[axis] > 1]
        if wanted and not own & set(wanted):
            trace.pin(layer, reason)


def quantization(trace: Trace, node: ir.Node) -> None:
    """Numbers stay in their places and scales along an axis follow; constants have no units of their own."""
    if stored(node.outputs[0]) is not None:
        return
    layers = trace.layers(node.inputs[0])
    trace.put(node.outputs[0], layers)
    scale = stored(node.inputs[1])
    if scale is None:
        trace.pin_value(node.inputs[0], f"{where(node)} computes its scale")
    elif scale.size > 1:
        axis = node.attributes.get_int("axis", 1) % len(static_shape(node.outputs[0]))
        for index in (1, 2):
            trace.use(node, index, 0, "scale", node.outputs[0], axis)


def _follow(trace: Trace, node: ir.Node, result: ir.Value, rank: int) -> None:
    for index, value in enumerate(node.inputs):
        array = stored(value)
        if array is None:
            continue
        for axis, size in enumerate(array.shape):
            if size > 1:
                trace.use(node, index, axis, "affine", result, rank - array.ndim + axis)


_CURVES = (
    "Celu",
    "Clip",
    "Elu",
    "Erf",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "Relu",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
)
_ROUNDING = ("Abs", "Cast", "Ceil", "Floor", "Identity", "Neg", "Round", "Sign")
_FUNCTIONS = ("Cos", "Exp", "Log", "Reciprocal", "Sin", "Sqrt", "Tan", "IsInf", "IsNaN", "Not")
_ARITHMETIC = ("Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "PRelu", "Pow", "Sub", "Sum")
_CHOICES = ("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Or", "Where", "Xor")

RULES: dict[str, Rule] = {
    **dict.fromkeys((*_CURVES, *_ROUNDING, *_FUNCTIONS, *_ARITHMETIC, *_CHOICES), elementwise),
    "QuantizeLinear": quantization,
    "DequantizeLinear": quantization,
}
