"""Writes group and Lp normalization out in operators that every stage knows."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import bypass, new_constant, new_node

PER_CHANNEL_SINCE = 21
"""The operator set from which GroupNormalization scales and shifts every channel on its own."""


def write_out_group_norms(model: ir.Model) -> None:
    """Replace every GroupNormalization, as the model's operator set means it, by InstanceNormalization, in place."""
    version = model.graph.opset_imports.get("", 0)
    for node in list(model.graph.all_nodes()):
        if node.op_type == "GroupNormalization" and not node.domain and isinstance(node.graph, ir.Graph):
            _write_out(node, node.graph, version >= PER_CHANNEL_SINCE)


def write_out_lp_norms(model: ir.Model) -> None:
    """Replace every LpNormalization by a quotient, in place; where the norm is 0, so is the result."""
    for node in list(model.graph):
        data = node.inputs[0] if node.op_type == "LpNormalization" and not node.domain else None
        if data is None or data.dtype is None:
            continue
        name, smallest = str(node.name), np.finfo(data.dtype.numpy()).tiny
        axes = new_constant(model.graph, f"{name}_axes", np.array([node.attributes.get_int("axis", -1)], np.int64))
        op = "ReduceL1" if node.attributes.get_int("p", 2) == 1 else "ReduceL2"
        norm = new_node(op, [data, axes], {"keepdims": 1}, name=f"{name}_norm", like=node.outputs[0])
        least = new_constant(model.graph, f"{name}_least", np.array(smallest, data.dtype.numpy()))
        bounded = new_node("Max", [norm.outputs[0], least], name=f"{name}_bounded", like=node.outputs[0])
        quotient = new_node("Div", [data, bounded.outputs[0]], name=name, like=node.outputs[0])
        norm.outputs[0].shape = bounded.outputs[0].shape = None
        model.graph.insert_before(node, [norm, bounded, quotient])
        bypass(node, quotient.outputs[0])


def _write_out(node: ir.Node, graph: ir.Graph, per_channel: bool) -> None:
    """Groups become the channels of an image of one row; no shape need be known."""
    data, scale, bias = node.inputs
    assert data is not None and scale is not None and bias is not None
    groups, name = node.attributes.get_int("num_groups", 1), str(node.name)
    dtype = (scale.dtype or ir.DataType.FLOAT).numpy()
    nodes: list[ir.Node] = []

    def add(op: str, *inputs: ir.Value, **attributes: float) -> ir.Value:
        step = new_node(op, inputs, attributes, name=f"{name}_{len(nodes)}", like=node.outputs[0])
        step.outputs[0].shape = None
        nodes.append(step)
        return step.outputs[0]

    def vector(role: str, values: list[int]) -> ir.Value:
        return new_constant(graph, f"{name}_{role}", np.array(values, np.int64))

    rows = add("Reshape", data, vector("groups", [0, groups, -1]))
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    if per_channel:
        ones = new_constant(graph, f"{name}_one", np.ones(groups, dtype))
        zeros = new_constant(graph, f"{name}_zero", np.zeros(groups, dtype))
        normal = add("InstanceNormalization", rows, ones, zeros, epsilon=epsilon)
        size = add("Shape", scale)
        size.type = ir.TensorType(ir.DataType.INT64)
        around = add("Concat", vector("batch", [0]), size, vector("pixels", [-1]), axis=0)
        around.type = ir.TensorType(ir.DataType.INT64)
        last = vector("last", [1])
        product = add("Mul", add("Reshape", normal, around), add("Unsqueeze", scale, last))
        normal = add("Add", product, add("Unsqueeze", bias, last))
    else:
        normal = add("InstanceNormalization", rows, scale, bias, epsilon=epsilon)
    shape = add("Shape", data)
    shape.type = ir.TensorType(ir.DataType.INT64)
    result = add("Reshape", normal, shape)
    graph.insert_before(node, nodes)
    bypass(node, result)
