"""Resize without what older operator sets and exporters write beside it: empty inputs, axes, sizes that stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.canonical_movement import static_shape
from edgeprune.ir.edit import bypass, constant, new_constant
from edgeprune.ir.interpolation import node_resamplings


def simplify_resizes(model: ir.Model) -> None:
    """Leave out empty inputs of Resize, give scales and sizes for all axes, and drop what changes nothing, in place."""
    for node in list(model.graph):
        if node.op_type != "Resize" or node.domain:
            continue
        for index, value in enumerate(node.inputs):
            known = constant(value) if index else None
            if known is not None and known.size == 0:
                node.replace_input_with(index, None)
        _name_all_axes(node)
        if node_resamplings(node) == [] and _is_inner(node):
            assert node.inputs[0] is not None
            bypass(node, node.inputs[0])


def _is_inner(node: ir.Node) -> bool:
    """Whether the data of `node` may stand for its result."""
    data = node.inputs[0]
    return not node.outputs[0].is_graph_output() or (data is not None and data.producer() is not None)


def _name_all_axes(node: ir.Node) -> None:
    """Write the attribute `axes` into scales, sizes and the region, where no aspect ratio has to be kept."""
    shape = static_shape(node.inputs[0])
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if "axes" not in node.attributes or shape is None or policy != "stretch":
        return
    axes = [axis % len(shape) for axis in node.attributes.get_ints("axes", [])]
    neutral = (np.repeat([0.0, 1.0], len(shape)), np.ones(len(shape)), np.array(shape))
    given = [*node.inputs, None, None, None][1:4]
    arrays = [constant(value) for value in given]
    if any(value is not None and array is None for value, array in zip(given, arrays, strict=True)):
        return
    for index, (array, whole) in enumerate(zip(arrays, neutral, strict=True), 1):
        if array is not None:
            places = [*axes, *(axis + len(shape) for axis in axes)][: array.size]
            whole[places] = array
            assert isinstance(node.graph, ir.Graph)
            name = f"{node.name}_axes_{index}"
            node.replace_input_with(index, new_constant(node.graph, name, whole.astype(array.dtype)))
    del node.attributes["axes"]
