"""ONNX ops that TVM's front end does not take, written out in ops that it does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Expansion:
    """The nodes that stand for one node; names of new values start with the node's own output."""

    def __init__(
        self, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], constants: dict[str, np.ndarray]
    ) -> None:
        self.node = node
        self.shapes = shapes
        self.constants = constants
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def input(self, index: int) -> str:
        """The name of input `index`, empty where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of input `index`."""
        return self.shapes[self.input(index)]

    def constant(self, value: Any) -> str:
        """A new initializer."""
        name = f"{self._stem()}_c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *inputs: str, to: str = "", count: int = 1, **attributes: Any) -> Any:
        """A new node; gives the name of its output, or a list where it has `count` of them."""
        stem = f"{self._stem()}_{len(self.nodes)}"
        outputs = [to or stem] if count == 1 else [f"{stem}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=stem, **attributes))
        return outputs[0] if count == 1 else outputs

    def refuse(self, what: str) -> NotImplementedError:
        """The error for a form of the op that has no expansion."""
        return NotImplementedError(f"{self.node.op_type} with {what}")

    def _stem(self) -> str:
        return next(name for name in self.node.output if name)


def expand(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with such nodes replaced; itself where it has none. Raises NotImplementedError for a form not known."""
    from edgeprune.lowering.recurrent import expand_gru, expand_lstm, expand_rnn
    from edgeprune.lowering.resize import expand_resize

    table: dict[str, Callable[[Expansion], None]] = {
        "Celu": _celu,
        "Einsum": _einsum,
        "GRU": expand_gru,
        "Gather": _gather,
        "LSTM": expand_lstm,
        "OneHot": _one_hot,
        "RNN": expand_rnn,
        "Resize": expand_resize,
    }
    if not any(node.op_type in table for node in model.graph.node):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    shapes, constants = _shapes(model), {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    del result.graph.node[:]
    for node in model.graph.node:
        if node.op_type not in table:
            result.graph.node.append(node)
            continue
        expansion = Expansion(node, shapes, constants)
        table[node.op_type](expansion)
        result.graph.node.extend(expansion.nodes)
        result.graph.initializer.extend(expansion.initializers)
    return result


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {item.name: tuple(item.dims) for item in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
    return shapes


def _celu(e: Expansion) -> None:
    alpha = e.constant(np.float32(e.attributes.get("alpha", 1.0)))
    scaled = e.add("Div", e.input(0), alpha)
    e.add("Mul", e.add("Elu", scaled, alpha=1.0), alpha, to=e.node.output[0])


def _einsum(e: Expansion) -> None:
    """A product of two tensors as a product of stacked matrices, whose columns lie side by side; others stay."""
    terms = _product_terms(e)
    if terms is None:
        e.nodes.append(e.node)
        return
    left, right, result = terms
    shared = [axis for axis in result if axis in left and axis in right]
    rows = [axis for axis in result if axis not in right]
    columns = [axis for axis in result if axis not in left]
    summed = [axis for axis in left if axis not in result]
    sizes = dict(zip(left, e.shape(0), strict=True)) | dict(zip(right, e.shape(1), strict=True))

    def arranged(name: str, axes: str, *groups: list[str]) -> str:
        order = [axis for group in groups for axis in group]
        turned = e.add("Transpose", name, perm=[axes.index(axis) for axis in order])
        shape = [math.prod(sizes[axis] for axis in group) for group in groups]
        return str(e.add("Reshape", turned, e.constant(np.array(shape, np.int64))))

    product = e.add(
        "MatMul", arranged(e.input(0), left, shared, rows, summed), arranged(e.input(1), right, shared, summed, columns)
    )
    order = [*shared, *rows, *columns]
    shape = e.constant(np.array([sizes[axis] for axis in order], np.int64))
    if not result:
        e.add("Reshape", product, shape, to=e.node.output[0])
        return
    spread = e.add("Reshape", product, shape)
    e.add("Transpose", spread, perm=[order.index(axis) for axis in result], to=e.node.output[0])


def _product_terms(e: Expansion) -> tuple[str, str, str] | None:
    """The axes of both inputs and of the result, where each axis is shared, summed, or of one input and the result."""
    equation = bytes(e.attributes["equation"]).decode().replace(" ", "")
    inputs, arrow, result = equation.partition("->")
    left, comma, right = inputs.partition(",")
    if not (arrow and comma and f"{left}{right}{result}".isalpha()):
        return None
    terms = (left, right, result)
    once = all(len(set(axes)) == len(axes) for axes in terms)
    known = all(sum(axis in axes for axes in terms) > 1 for axis in set(f"{left}{right}{result}"))
    equal = all(e.shape(0)[left.index(axis)] == e.shape(1)[right.index(axis)] for axis in set(left) & set(right))
    return terms if once and known and equal else None


def _gather(e: Expansion) -> None:
    """A slice, where the indices are constant and evenly spaced: it needs no handling of negative indices."""
    axis = e.attributes.get("axis", 0) % len(e.shape(0))
    extent = e.shape(0)[axis]
    indices = e.constants.get(e.input(1))
    spans = None if indices is None else _span(indices.reshape(-1) % max(1, extent))
    if indices is None or spans is None:
        e.nodes.append(e.node)
        return
    bounds = [e.constant(np.array([number], np.int64)) for number in (spans[0], spans[1], axis, spans[2])]
    flat = e.add("Slice", e.input(0), *bounds)
    shape = [*e.shape(0)[:axis], *indices.shape, *e.shape(0)[axis + 1 :]]
    e.add("Reshape", flat, e.constant(np.array(shape, np.int64)), to=e.node.output[0])


def _span(indices: np.ndarray) -> tuple[int, int, int] | None:
    """Start, end and step of rising, evenly spaced indices."""
    steps = np.unique(np.diff(indices))
    if indices.size == 0 or steps.size > 1 or (steps.size and steps[0] < 1):
        return None
    return int(indices[0]), int(indices[-1]) + 1, int(steps[0]) if steps.size else 1


def _one_hot(e: Expansion) -> None:
    depth, values = e.constants.get(e.input(1)), e.constants.get(e.input(2))
    if depth is None or values is None:
        raise e.refuse("a depth or values that are not constant")
    count = int(depth.reshape(()))
    rank = len(e.shape(0)) + 1
    axis = e.attributes.get("axis", -1) % rank
    indices = _as_int64(e)
    wrapped = e.add(
        "Where",
        e.add("Less", indices, e.constant(np.int64(0))),
        e.add("Add", indices, e.constant(np.int64(count))),
        indices,
    )
    places = np.arange(count, dtype=np.int64).reshape([-1 if i == axis else 1 for i in range(rank)])
    equal = e.add("Equal", e.add("Unsqueeze", wrapped, e.constant(np.array([axis], np.int64))), e.constant(places))
    e.add("Where", equal, e.constant(values[1]), e.constant(values[0]), to=e.node.output[0])


def _as_int64(e: Expansion) -> str:
    name = f"{e.node.output[0]}_indices"
    e.nodes.append(helper.make_node("Cast", [e.input(0)], [name], name=name, to=onnx.TensorProto.INT64))
    return name
