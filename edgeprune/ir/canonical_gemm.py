"""Gemm in one form: alpha = beta = 1, transA = 0, transB = 1; a matrix product with constant weights becomes one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import bypass, constant, new_constant, new_node


def normalise_linear(model: ir.Model) -> None:
    """Bring every Gemm to normal form, and every 2-D MatMul with a constant right side to a Gemm, in place."""
    for node in list(model.graph):
        if node.op_type == "MatMul" and not node.domain:
            _matmul_to_gemm(node)
        elif node.op_type == "Gemm" and not node.domain:
            _normalise_gemm(node)


def _matmul_to_gemm(node: ir.Node) -> None:
    data, weight = node.inputs
    array = constant(weight)
    if array is None or array.ndim != 2 or data is None or data.shape is None or len(data.shape) != 2:
        return
    if array.dtype != np.float32:
        return
    graph = node.graph
    assert isinstance(graph, ir.Graph) and weight is not None
    transposed = new_constant(graph, f"{weight.name}_transposed", array.T)
    gemm = new_node("Gemm", [data, transposed], {"transB": 1}, name=str(node.name), like=node.outputs[0])
    gemm.metadata_props.update(node.metadata_props)
    graph.insert_before(node, [gemm])
    bypass(node, gemm.outputs[0])


def _normalise_gemm(node: ir.Node) -> None:
    attributes = node.attributes
    _transpose_operand(node, 0, wanted=0, given=attributes.get_int("transA", 0))
    _transpose_operand(node, 1, wanted=1, given=attributes.get_int("transB", 0))
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    if alpha != 1.0:
        _scale_operand(node, 1, alpha)
    if beta != 1.0 and len(node.inputs) > 2 and node.inputs[2] is not None:
        _scale_operand(node, 2, beta)
    for name in ("alpha", "beta", "transA", "transB"):
        attributes.pop(name, None)
    attributes.add(ir.AttrInt64("transB", 1))
    _normalise_bias(node)


def _transpose_operand(node: ir.Node, index: int, *, wanted: int, given: int) -> None:
    value, graph = node.inputs[index], node.graph
    assert isinstance(graph, ir.Graph) and value is not None
    if given == wanted:
        return
    array = constant(value)
    if array is not None:
        node.replace_input_with(index, new_constant(graph, f"{value.name}_transposed", array.T))
        return
    turn = new_node("Transpose", [value], {"perm": [1, 0]}, name=f"{node.name}_transpose_{index}", like=value)
    turn.outputs[0].shape = None if value.shape is None else ir.Shape(list(value.shape)[::-1])
    graph.insert_before(node, [turn])
    node.replace_input_with(index, turn.outputs[0])


def _scale_operand(node: ir.Node, index: int, factor: float) -> None:
    value, graph = node.inputs[index], node.graph
    assert isinstance(graph, ir.Graph) and value is not None and value.dtype is not None
    array = constant(value)
    if array is not None:
        scaled = (array * np.asarray(factor, array.dtype)).astype(array.dtype)
        node.replace_input_with(index, new_constant(graph, f"{value.name}_scaled", scaled))
        return
    scale = new_constant(graph, f"{node.name}_factor_{index}", np.asarray(factor, value.dtype.numpy()))
    product = new_node("Mul", [value, scale], name=f"{node.name}_scale_{index}", like=value)
    graph.insert_before(node, [product])
    node.replace_input_with(index, product.outputs[0])


def _normalise_bias(node: ir.Node) -> None:
    """Bias as one value per output column; any other added term becomes an Add of its own."""
    bias, shape, graph = node.inputs[2] if len(node.inputs) > 2 else None, node.outputs[0].shape, node.graph
    assert isinstance(graph, ir.Graph)
    if bias is None:
        node.resize_inputs(2)
        return
    if shape is None or not shape.is_static():
        return
    columns = int(shape.numpy()[1])
    array = constant(bias)
    if array is None and _is_stored(bias, columns):
        return
    if array is not None and (array.ndim < 2 or array.shape[0] == 1):
        if array.shape != (columns,):
            vector = np.broadcast_to(array.reshape(-1), (columns,))
            node.replace_input_with(2, new_constant(graph, f"{bias.name}_vector", vector))
        return
    node.resize_inputs(2)
    total = new_node("Add", [node.outputs[0], bias], name=f"{node.name}_add", like=node.outputs[0])
    _insert_after(node, total)


def _is_stored(bias: ir.Value, columns: int) -> bool:
    """Whether a bias is a constant vector in integers: QDQ keeps it with its layer."""
    producer = bias.producer()
    stored = constant(producer.inputs[0]) if producer is not None and producer.op_type == "DequantizeLinear" else None
    return stored is not None and stored.shape == (columns,)


def _insert_after(node: ir.Node, follower: ir.Node) -> None:
    """Put `follower`, which already reads `node`, between `node` and everything else that read it."""
    graph, old, new = node.graph, node.outputs[0], follower.outputs[0]
    assert isinstance(graph, ir.Graph)
    graph.insert_after(node, [follower])
    for user, index in list(old.uses()):
        if user is not follower:
            user.replace_input_with(index, new)
    for index, output in enumerate(graph.outputs):
        if output is old:
            old.name, new.name = new.name, old.name
            graph.outputs[index] = new
