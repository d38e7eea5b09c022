"""Quantized models as real numbers: weights that are stored as integers, values that are rounded to a grid."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import bypass, constant, new_constant, new_node


def with_real_weights(model: ir.Model) -> ir.Model:
    """A model whose constants that go through DequantizeLinear are float32; `model` itself where there are none.

    The quantization of what is computed stays.
    """
    if not any(_stored(node) for node in model.graph):
        return model
    model = copy_model(model)
    for node in list(model.graph):
        if _stored(node):
            bypass(node, new_constant(model.graph, f"{node.inputs[0].name}_real", _real(node)))  # type: ignore[union-attr]
    return model


def without_pairs(model: ir.Model) -> ir.Model:
    """A copy of `model` in which no computed value is rounded to a grid.

    A QuantizeLinear stays where what reads it has another scale: integers are meant then.
    """
    model = copy_model(model)
    for node in list(model.graph):
        readers = [use.node for use in node.outputs[0].uses()] if node.op_type == "QuantizeLinear" else []
        source = node.inputs[0]
        if not readers or source is None or node.outputs[0].is_graph_output():
            continue
        if all(reader.op_type == "DequantizeLinear" and _same_grid(node, reader) for reader in readers):
            for reader in dict.fromkeys(readers):
                if reader.outputs[0].is_graph_output():
                    _bypass_output(reader, source)
                else:
                    bypass(reader, source)
            model.graph.remove(node, safe=True)
    return model


def _bypass_output(node: ir.Node, source: ir.Value) -> None:
    """Let a model output, the result of `node`, be a copy of `source` under its name."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    copy = new_node("Identity", [source], name=f"{node.name}_copy", like=node.outputs[0])
    graph.insert_before(node, copy)
    bypass(node, copy.outputs[0])


def _same_grid(quantize: ir.Node, dequantize: ir.Node) -> bool:
    arrays = [[constant(value) for value in node.inputs[1:]] for node in (quantize, dequantize)]
    return all(
        one is not None and other is not None and np.array_equal(one, other) for one, other in zip(*arrays, strict=True)
    )


def _stored(node: ir.Node) -> bool:
    return (
        node.op_type == "DequantizeLinear"
        and not node.domain
        and not node.outputs[0].is_graph_output()
        and all(value is None or constant(value) is not None for value in node.inputs)
    )


def _real(node: ir.Node) -> np.ndarray:
    stored, scale, *rest = (constant(value) for value in node.inputs)
    assert stored is not None and scale is not None
    zero = rest[0] if rest and rest[0] is not None else np.zeros_like(scale)
    if scale.ndim:
        axis = node.attributes.get_int("axis", 1)
        places = tuple(place for place in range(stored.ndim) if place != axis % stored.ndim)
        scale, zero = (np.expand_dims(array, places) for array in (scale, zero))
    whole = stored.astype(np.float32) - zero.astype(np.float32)
    return np.asarray(whole * scale, np.float32)
