"""Keeps removed units of the masked twin out of statistics, sums and divisions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.cut import Cut
from edgeprune.ir.dependency.labels import aligned, varying
from edgeprune.ir.dependency.names import Names
from edgeprune.ir.dependency.norm import SUMS, reduced_axes
from edgeprune.ir.dependency.product import read_product
from edgeprune.ir.dependency.stored import stored
from edgeprune.ir.dependency.trace import Trace
from edgeprune.ir.edit import bypass, constant, new_constant, new_node
from edgeprune.ir.ports import static_shape

_NOT_FINITE_AT_ZERO = ("Div", "Log", "Pow", "Reciprocal", "Mod")


class Masker:
    """Changes the nodes of one graph in place, by what `cut` removes."""

    def __init__(self, graph: ir.Graph, trace: Trace, cut: Cut) -> None:
        self._graph = graph
        self._names = Names(graph)
        self._trace = trace
        self._cut = cut

    def mask(self, node: ir.Node) -> None:
        """Let `node` see nothing of removed units where that would show in what stays."""
        if node.domain:
            return
        if node.op_type in (*SUMS, "LpNormalization"):
            self._mask_sum(node)
        elif node.op_type in ("LayerNormalization", "InstanceNormalization"):
            self._write_out(node)
        elif node.op_type in ("MatMul", "Gemm", "Einsum"):
            self._mask_product(node)
        elif node.op_type in _NOT_FINITE_AT_ZERO:
            self._mask_result(node)

    def clear(self, node: ir.Node, index: int) -> None:
        """Let `node` read zeros at input `index`."""
        data = node.inputs[index]
        assert data is not None
        steps = _Steps(self._graph, self._names, node)
        nothing = np.zeros((1,) * len(static_shape(data)), bool)
        node.replace_input_with(index, steps.where(nothing, data))
        steps.insert_before()

    def _kept(self, value: ir.Value | None, axes: tuple[int, ...]) -> np.ndarray | None:
        """What stays of `value` along `axes`, broadcast to it; None where all does."""
        assert value is not None
        kept = np.ones((1,) * len(static_shape(value)), bool)
        for layer in self._trace.layers(value):
            if set(varying(layer)) & set(axes):
                kept = kept & ~self._cut.removed(aligned(layer, kept.ndim))
        return None if kept.all() else kept

    def _mask_sum(self, node: ir.Node) -> None:
        axes, data = reduced_axes(node), node.inputs[0]
        kept = self._kept(data, axes or ())
        if kept is None or data is None:
            return
        steps = _Steps(self._graph, self._names, node)
        node.replace_input_with(0, steps.where(kept, data))
        steps.insert_before()
        if node.op_type == "ReduceMean":
            self._scale_result(node, 1 / kept.mean())

    def _scale_result(self, node: ir.Node, factor: float) -> None:
        result = node.outputs[0]
        users = [(use.node, use.idx) for use in result.uses()]
        steps = _Steps(self._graph, self._names, node)
        scaled = steps.add("Mul", result, steps.number(factor, result))
        self._read_instead(node, users, scaled, steps)

    def _write_out(self, node: ir.Node) -> None:
        """A normalisation in its parts, whose means run over what stays."""
        axes, data, result = reduced_axes(node), node.inputs[0], node.outputs[0]
        kept = self._kept(data, axes or ())
        if kept is None or data is None or axes is None:
            return
        steps = _Steps(self._graph, self._names, node)
        factor = steps.number(1 / kept.mean(), data)
        places = new_constant(self._graph, f"{node.name}_axes", np.array(axes, np.int64))

        def mean(value: ir.Value) -> ir.Value:
            sizes = tuple(1 if axis in axes else size for axis, size in enumerate(static_shape(data)))
            return steps.add("Mul", steps.add("ReduceMean", value, places, shape=sizes), factor, shape=sizes)

        centred = steps.where(kept, steps.add("Sub", data, mean(steps.where(kept, data))))
        variance = mean(steps.add("Mul", centred, centred))
        small = steps.number(node.attributes.get_float("epsilon", 1e-5), data)
        sizes = static_shape(variance)
        spread = steps.add("Sqrt", steps.add("Add", variance, small, shape=sizes), shape=sizes)
        whole = steps.add("Div", centred, spread)
        for op, index in (("Mul", 1), ("Add", 2)):
            array = constant(node.inputs[index]) if len(node.inputs) > index else None
            if array is not None:
                channels = node.op_type == "InstanceNormalization"
                shaped = array.reshape(-1, *(1,) * len(axes)) if channels else array
                whole = steps.add(op, whole, new_constant(self._graph, f"{node.name}_{op}", shaped))
        steps.insert_before()
        whole.shape = result.shape
        self._trace.copy(result, whole)
        bypass(node, whole)

    def _mask_product(self, node: ir.Node) -> None:
        """Removed units of two activations add nothing to the sums over their products."""
        found, data = read_product(node), node.inputs[0]
        if found is None or data is None or any(stored(value) is not None for value in node.inputs[:2]):
            return
        kept = self._kept(data, tuple(axis for axis, letter in enumerate(found.left) if letter in found.summed))
        if kept is not None:
            steps = _Steps(self._graph, self._names, node)
            node.replace_input_with(0, steps.where(kept, data))
            steps.insert_before()

    def _mask_result(self, node: ir.Node) -> None:
        result = node.outputs[0]
        kept = self._kept(result, tuple(range(len(static_shape(result)))))
        if kept is None:
            return
        users = [(use.node, use.idx) for use in result.uses()]
        steps = _Steps(self._graph, self._names, node)
        cleared = steps.where(kept, result)
        self._read_instead(node, users, cleared, steps)

    def _read_instead(self, node: ir.Node, users: list[tuple[ir.Node, int]], value: ir.Value, steps: _Steps) -> None:
        """Let `users` of the result of `node` read `value`, which has its labels."""
        for user, index in users:
            user.replace_input_with(index, value)
        self._trace.copy(node.outputs[0], value)
        self._graph.insert_after(node, steps.nodes)


class _Steps:
    """New nodes beside `node`, in order."""

    def __init__(self, graph: ir.Graph, names: Names, node: ir.Node) -> None:
        self.nodes: list[ir.Node] = []
        self._graph = graph
        self._names = names
        self._node = node

    def add(self, op: str, *inputs: ir.Value, shape: tuple[int, ...] | None = None) -> ir.Value:
        """A node of one output; of the shape of its first input unless `shape` says otherwise."""
        like = inputs[1] if op == "Where" else inputs[0]
        made = new_node(op, inputs, name=self._names.new(f"{self._node.name}_masked"), like=like)
        if shape is not None:
            made.outputs[0].shape = ir.Shape(shape)
        self.nodes.append(made)
        return made.outputs[0]

    def where(self, kept: np.ndarray, value: ir.Value) -> ir.Value:
        """`value` where `kept`, zero elsewhere."""
        mask = new_constant(self._graph, f"{self._node.name}_kept", kept)
        return self.add("Where", mask, value, self.number(0, value))

    def number(self, number: float, like: ir.Value) -> ir.Value:
        """A scalar constant of the type of `like`."""
        dtype = (like.dtype or ir.DataType.FLOAT).numpy()
        return new_constant(self._graph, f"{self._node.name}_number", np.asarray(number, dtype))

    def insert_before(self) -> None:
        """Put the new nodes before `node`."""
        self._graph.insert_before(self._node, self.nodes)
