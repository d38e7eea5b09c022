"""Labels through products of matrices: Gemm, MatMul and Einsum, with weights or between activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.labels import varying
from edgeprune.ir.dependency.stored import stored
from edgeprune.ir.dependency.trace import Layers, Rule, Trace, Use, unknown, where
from edgeprune.ir.ports import static_shape


@dataclass(frozen=True)
class Product:
    """A product as einsum writes it: one letter for every axis of two operands and of the result."""

    node: ir.Node
    left: str
    right: str
    result: str

    @property
    def terms(self) -> tuple[str, str]:
        """The letters of both operands."""
        return self.left, self.right

    @property
    def shared(self) -> set[str]:
        """Letters of both operands that the result keeps: one product for each of their places."""
        return set(self.left) & set(self.right) & set(self.result)

    @property
    def summed(self) -> set[str]:
        """Letters of both operands that are summed over."""
        return (set(self.left) & set(self.right)) - set(self.result)


def read_product(node: ir.Node) -> Product | None:
    """Gemm, MatMul or a two-operand Einsum in letters; None where it is written otherwise."""
    if node.op_type == "Gemm":
        left = "km" if node.attributes.get_int("transA", 0) else "mk"
        return Product(node, left, "nk" if node.attributes.get_int("transB", 0) else "kn", "mn")
    shapes = [static_shape(value) for value in node.inputs if value is not None]
    if node.op_type == "MatMul":
        return _matmul(node, shapes[0], shapes[1])
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    operands, arrow, result = equation.partition("->")
    terms = operands.split(",")
    plain = arrow and "." not in equation and len(terms) == 2 and len(shapes) == 2
    if not plain or any(len(set(term)) < len(term) for term in (*terms, result)):
        return None
    return Product(node, terms[0], terms[1], result) if _same_sizes(terms, shapes) else None


def _same_sizes(terms: list[str], shapes: list[tuple[int, ...]]) -> bool:
    sizes = [dict(zip(term, shape, strict=True)) for term, shape in zip(terms, shapes, strict=True)]
    return all(sizes[1].get(letter, size) == size for letter, size in sizes[0].items())


def _matmul(node: ir.Node, left: tuple[int, ...], right: tuple[int, ...]) -> Product | None:
    """Leading axes that one operand broadcasts get letters of their own there."""
    if min(len(left), len(right)) < 2:
        return None
    rank = max(len(left), len(right))
    batch = [chr(ord("a") + axis) for axis in range(rank - 2)]
    terms = []
    for shape, other, ends in ((left, right, "yk"), (right, left, "kz")):
        letters = batch[rank - len(shape) :]
        sizes, others = shape[:-2], (1,) * (len(shape) - len(other)) + other[:-2]
        others = others[len(others) - len(sizes) :] if len(others) >= len(sizes) else others
        own = [
            letter.upper() if size == 1 and meets > 1 else letter
            for letter, size, meets in zip(letters, sizes, others, strict=True)
        ]
        terms.append("".join(own) + ends)
    return Product(node, terms[0], terms[1], "".join(batch) + "yz")


def product(trace: Trace, node: ir.Node) -> None:
    """Weights make units and read them; activations that are multiplied are cut together."""
    found = read_product(node)
    constants = [stored(value) is not None for value in node.inputs[:2]]
    if found is None or all(constants):
        unknown(trace, node)
    elif any(constants):
        _weighted(trace, found, constants.index(True))
    else:
        _activations(trace, found)
    if node.op_type == "Gemm" and len(node.inputs) > 2:
        _add_bias(trace, node)


def _add_bias(trace: Trace, node: ir.Node) -> None:
    bias = stored(node.inputs[2])
    if bias is None:
        trace.pin_value(node.outputs[0], f"{where(node)} computes its bias")
        trace.pin_value(node.inputs[2], f"{where(node)} reads it as a bias")
    elif bias.ndim and bias.shape[-1] > 1:
        trace.use(node, 2, bias.ndim - 1, "out", node.outputs[0], 1)


def _weighted(trace: Trace, found: Product, index: int) -> None:
    """The axes of the weight that only it has make new units; those that are summed over read units."""
    node, data_index = found.node, 1 - index
    weight, letters, result = found.terms[index], found.terms[data_index], node.outputs[0]
    data = node.inputs[data_index]
    assert data is not None
    kept = set(letters) & set(found.result)
    layers = []
    for layer in trace.layers(data):
        of_layer = {letters[axis] for axis in varying(layer)}
        if of_layer & kept and of_layer - kept:
            outer = tuple(axis for axis in varying(layer) if letters[axis] in kept)
            layer = trace.only(layer, outer, f"{where(node)} reads them as one")
        if {letters[axis] for axis in varying(layer)} <= kept:
            layers.append(_spread(layer, letters, found.result))
    trace.put(result, tuple(layers))
    own = [letter for letter in weight if letter not in letters]
    if own:
        trace.fresh(result, *(found.result.index(letter) for letter in own))
    for axis, letter in enumerate(weight):
        if letter in found.result:
            trace.use(node, index, axis, "out", result, found.result.index(letter))
        else:
            trace.use(node, index, axis, "in", data, letters.index(letter))


def _activations(trace: Trace, found: Product) -> None:
    """Heads are cut whole; summed axes are cut alike in both operands; free axes stay cut in the result."""
    node = found.node
    sides: list[list[np.ndarray]] = [[], []]
    for value, letters, layers in zip(node.inputs, found.terms, sides, strict=False):
        for layer in trace.layers(value):
            layers.append(_one_part(trace, found, layer, letters))
    shared: list[np.ndarray] = []
    summed: list[list[np.ndarray]] = [[], []]
    free: list[np.ndarray] = []
    for side, letters in enumerate(found.terms):
        for layer in sides[side]:
            names = {letters[axis] for axis in varying(layer)}
            if names and names <= found.summed:
                summed[side].append(_spread(layer, letters, "".join(sorted(found.summed))))
            elif names and names <= found.shared:
                shared.append(_spread(layer, letters, found.result))
            elif names:
                free.append(_spread(layer, letters, found.result))
    reason = f"{where(node)} multiplies them with elements that cannot be removed"
    merged = _meet(trace, shared, reason, found)
    _meet_both(trace, summed, reason)
    trace.put(node.outputs[0], (*merged, *free))
    for index, (value, letters) in enumerate(zip(node.inputs, found.terms, strict=False)):
        if value is not None:
            trace.uses.extend(Use(node, index, axis, "product", value, axis) for axis in range(len(letters)))


def _one_part(trace: Trace, found: Product, layer: np.ndarray, letters: str) -> np.ndarray:
    """`layer` tied so that it differs along shared letters, or free letters, or summed letters alone.

    What differs from matrix to matrix of a stack is a head; rows and columns are channels.
    """
    parts = (found.shared, set(letters) - found.shared - found.summed, found.summed)
    axes = [[axis for axis in varying(layer) if letters[axis] in part] for part in parts]
    chosen = next((each for each in axes if each), [])
    if sum(1 for each in axes if each) > 1:
        layer = trace.only(layer, tuple(chosen), f"{where(found.node)} reads them as one")
    if axes[0] or (chosen != axes[2] and min(chosen, default=0) < len(letters) - 2):
        trace.heads.append(layer)
    return layer


def _spread(layer: np.ndarray, letters: str, target: str) -> np.ndarray:
    """`layer` on the axes of `target`: size 1 where it has no such letter."""
    kept = [axis for axis, letter in enumerate(letters) if letter in target]
    rest = tuple(axis for axis in range(layer.ndim) if axis not in kept)
    small = layer[tuple(slice(1) if axis in rest else slice(None) for axis in range(layer.ndim))]
    named = [letter for letter in letters if letter in target]
    order = sorted(range(len(kept)), key=lambda place: target.index(named[place]))
    ordered = small.squeeze(rest).transpose(order)
    sizes = dict(zip([named[place] for place in order], ordered.shape, strict=True))
    return ordered.reshape([sizes.get(letter, 1) for letter in target])


def _meet(trace: Trace, layers: list[np.ndarray], reason: str, found: Product) -> Layers:
    """Layers of both operands along shared letters, joined; one that meets none is pinned."""
    merged: list[np.ndarray] = []
    counts: list[int] = []
    for layer in layers:
        place = next((i for i, each in enumerate(merged) if set(varying(each)) & set(varying(layer))), None)
        if place is None:
            merged.append(layer)
            counts.append(1)
        else:
            trace.labels.join(merged[place], layer, reason)
            counts[place] += 1
    for layer, count in zip(merged, counts, strict=True):
        if count < 2:
            trace.pin(layer, reason)
    return tuple(merged)


def _meet_both(trace: Trace, sides: list[list[np.ndarray]], reason: str) -> None:
    """Layers along summed letters, joined with those of the other operand; one that meets none is pinned."""
    for side, layers in enumerate(sides):
        for layer in layers:
            meeting = [each for each in sides[1 - side] if set(varying(each)) & set(varying(layer))]
            for each in meeting:
                trace.labels.join(layer, each, reason)
            if not meeting:
                trace.pin(layer, reason)


RULES: dict[str, Rule] = dict.fromkeys(("Gemm", "MatMul", "Einsum"), product)
