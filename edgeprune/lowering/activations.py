"""ONNX nodes that are one elementwise step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.kernels.abi import Activation

BINARY_OPS = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"})
"""Binary ops that the elementwise family computes."""

_LIMIT = 3.4028234663852886e38


def _plain(node: ir.Node) -> Activation | None:
    return Activation(node.op_type)


def _clip(node: ir.Node) -> Activation | None:
    low, high = (_scalar(node, index) for index in (1, 2))
    if low is None or high is None:
        return None
    return Activation("Clip", low, high)


def _scalar(node: ir.Node, index: int) -> float | None:
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None:
        return -_LIMIT if index == 1 else _LIMIT
    return None if value.const_value is None else float(value.const_value.numpy())


def _with_alpha(default: float) -> Callable[[ir.Node], Activation | None]:
    return lambda node: Activation(node.op_type, node.attributes.get_float("alpha", default))


def _hard_sigmoid(node: ir.Node) -> Activation | None:
    return Activation("HardSigmoid", node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5))


def _gelu(node: ir.Node) -> Activation | None:
    return Activation("Gelu" if node.attributes.get_string("approximate", "none") == "none" else "GeluTanh")


def _selu(node: ir.Node) -> Activation | None:
    alpha = node.attributes.get_float("alpha", 1.67326319217681884765625)
    return Activation("Selu", alpha, node.attributes.get_float("gamma", 1.05070102214813232421875))


_TABLE: dict[str, Callable[[ir.Node], Activation | None]] = {
    "Abs": _plain,
    "Ceil": _plain,
    "Celu": _with_alpha(1.0),
    "Clip": _clip,
    "Elu": _with_alpha(1.0),
    "Erf": _plain,
    "Exp": _plain,
    "Floor": _plain,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain,
    "LeakyRelu": _with_alpha(0.01),
    "Log": _plain,
    "Mish": _plain,
    "Neg": _plain,
    "Reciprocal": _plain,
    "Relu": _plain,
    "Round": _plain,
    "Selu": _selu,
    "Sigmoid": _plain,
    "Sign": _plain,
    "Softplus": _plain,
    "Softsign": _plain,
    "Sqrt": _plain,
    "Tanh": _plain,
    "ThresholdedRelu": _with_alpha(1.0),
}


def activation_of(node: ir.Node) -> Activation | None:
    """The elementwise step that `node` is, or None."""
    row = _TABLE.get(node.op_type)
    if row is None or node.domain not in ("", "ai.onnx") or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    return row(node)


@dataclass(frozen=True)
class Gate:
    """x * f(x) written as two nodes, which is one activation."""

    inner: ir.Node
    product: ir.Node
    activation: Activation


def gated_activation(value: ir.Value, users: list[ir.Node]) -> Gate | None:
    """The activation that the two `users` of `value` spell out: x * sigmoid(x) or x * hardsigmoid(x)."""
    for inner, product in (users, users[::-1]):
        if product.op_type != "Mul" or {id(source) for source in product.inputs} != {id(value), id(inner.outputs[0])}:
            continue
        if len(inner.outputs[0].uses()) != 1:
            continue
        step = activation_of(inner)
        if step == Activation("Sigmoid"):
            return Gate(inner, product, Activation("Silu"))
        if step is not None and step.name == "HardSigmoid" and abs(step.alpha - 1 / 6) < 1e-6 and step.beta == 0.5:
            return Gate(inner, product, Activation("HardSwish"))
    return None
