"""Small edits of a graph that several passes need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant value; None for anything else."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def new_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer of `graph` that holds `array`, under `name` or, where taken, a name with a number."""
    taken = graph.initializers
    unique, count = name, 1
    while unique in taken:
        unique, count = f"{name}_{count}", count + 1
    tensor = ir.tensor(np.asarray(array, order="C"), name=unique)
    value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def new_node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str,
    like: ir.Value,
) -> ir.Node:
    """A node with one output of the type and shape of `like`; it belongs to no graph yet."""
    node = ir.node(op_type, inputs, attributes or {}, name=name)
    node.outputs[0].name = f"{name}_output"
    node.outputs[0].type = like.type
    node.outputs[0].shape = like.shape
    return node


def bypass(node: ir.Node, replacement: ir.Value) -> None:
    """Remove `node`, whose first output is `replacement` from now on; a model output keeps its name."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    old = node.outputs[0]
    if old.is_graph_output():
        name = old.name
        old.name = None
        replacement.name = name
    ir.convenience.replace_all_uses_with(old, replacement, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`, where nothing else does and it is no model output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None
