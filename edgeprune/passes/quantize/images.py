"""What flows between convolutions: images, and the operators that make images of images."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.ir.edit import constant
from edgeprune.ir.quantization import moved_input

_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_ACTIVATIONS = frozenset(
    {
        "Abs",
        "Ceil",
        "Celu",
        "Clip",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tanh",
        "ThresholdedRelu",
    }
)
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu")


class Images:
    """The values of a canonical model that are images: made by convolutions and pools, and by what follows them.

    A value whose elements were moved to another rank is none, until they are moved back.
    """

    def __init__(self, model: ir.Model) -> None:
        self._ranks: dict[int, int] = {}
        self._members: set[int] = set()
        for value in model.graph.inputs:
            if _rank(value) == 4 and value.dtype == ir.DataType.FLOAT:
                self._ranks[id(value)] = 4
                self._members.add(id(value))
        for node in model.graph:
            rank = self._rank(node)
            for value in node.outputs if rank is not None and not node.domain else ():
                self._ranks[id(value)] = rank or 0
                if _rank(value) == rank:
                    self._members.add(id(value))

    def __contains__(self, value: object) -> bool:
        """Whether `value` is an image."""
        return id(value) in self._members

    def _rank(self, node: ir.Node) -> int | None:
        """The rank of the images that `node` gives, or that its elements come from; None where it gives none."""
        if node.op_type in _CONVOLUTIONS:
            return _rank(node.inputs[0])
        if is_pool(node):
            known = node.op_type in _POOLS or _rank(node.inputs[0]) == 4 or node.inputs[0] in self
            return _rank(node.inputs[0]) if known else None
        moved = moved_input(node)
        if moved is not None:
            return self._ranks.get(id(moved))
        if node.op_type in (*_BINARY, "Concat", "Resize", *_ACTIVATIONS):
            ranks = [self._ranks[id(value)] for value in node.inputs if value is not None and value in self]
            return ranks[0] if ranks else None
        return None


def is_pool(node: ir.Node) -> bool:
    """Whether `node` pools the pixels of images; a mean over them is a pool too."""
    return not node.domain and (node.op_type in _POOLS or (node.op_type == "ReduceMean" and _reduces_pixels(node)))


def same_numbers(node: ir.Node) -> bool:
    """Whether `node` gives numbers that it reads: the largest of a window, or the nearest pixel."""
    if node.op_type == "Resize":
        return node.attributes.get_string("mode", "nearest") == "nearest"
    return node.op_type in ("MaxPool", "GlobalMaxPool")


def unary_source(node: ir.Node) -> ir.Value | None:
    """What an elementwise `node` of one computed value reads: an activation, or arithmetic with a constant."""
    if node.domain or (node.op_type not in _ACTIVATIONS and node.op_type not in _BINARY):
        return None
    computed = [value for value in node.inputs if value is not None and constant(value) is None]
    return computed[0] if len(computed) == 1 else None


def gate_of(node: ir.Node) -> ir.Node | None:
    """The f of x * f(x) where `node` is the product; None for any other node."""
    if node.op_type != "Mul" or node.domain or len(node.inputs) != 2:
        return None
    for x, gate in (node.inputs, node.inputs[::-1]):
        inner = None if gate is None else gate.producer()
        if x is not None and inner is not None and inner.op_type in _ACTIVATIONS and inner.inputs[0] is x:
            return inner
    return None


def arithmetic(node: ir.Node) -> bool:
    """Whether `node` is elementwise arithmetic, or a Resize that makes new numbers."""
    return not node.domain and node.op_type in (*_BINARY, "Resize")


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _reduces_pixels(node: ir.Node) -> bool:
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    rank = _rank(node.inputs[0])
    if axes is None or rank is None or rank < 3:
        return False
    return sorted(int(axis) % rank for axis in axes.reshape(-1)) == list(range(2, rank))
