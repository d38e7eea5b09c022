"""Means over whole images as global pools; transposed convolutions as plain ones where that is exact."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.canonical_movement import integers, static_shape
from edgeprune.ir.edit import bypass, constant, new_constant, new_node

_GLOBAL = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool", "AveragePool": "GlobalAveragePool"}


def name_global_pools(model: ir.Model) -> None:
    """Write reductions and average pools over every pixel of [N, C, H, W] as global pools, in place."""
    for node in list(model.graph):
        if node.op_type not in _GLOBAL or node.domain or not _covers_image(node):
            continue
        data, result = node.inputs[0], static_shape(node.outputs[0])
        assert data is not None and result is not None
        pool = new_node(_GLOBAL[node.op_type], [data], name=str(node.name), like=node.outputs[0])
        pool.outputs[0].shape = ir.Shape([*(static_shape(data) or [])[:2], 1, 1])
        nodes = [pool]
        if len(result) != 4:
            shape = integers(node, "shape", result)
            name = f"{node.name}_flat"
            nodes.append(new_node("Reshape", [pool.outputs[0], shape], name=name, like=node.outputs[0]))
        model.graph.insert_before(node, nodes)
        bypass(node, nodes[-1].outputs[0])


def _covers_image(node: ir.Node) -> bool:
    data = node.inputs[0]
    shape = static_shape(data)
    if shape is None or data is None or len(shape) != 4 or data.dtype != ir.DataType.FLOAT:
        return False
    if static_shape(node.outputs[0]) is None:
        return False
    if node.op_type == "AveragePool":
        return list(node.attributes.get_ints("kernel_shape", [])) == shape[2:] and not any(
            node.attributes.get_ints("pads", [])
        )
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return axes is not None and sorted(int(axis) % 4 for axis in axes.reshape(-1)) == [2, 3]


def untranspose_convolutions(model: ir.Model) -> None:
    """Write ConvTranspose with windows that do not overlap, or of stride 1, as Conv, in place.

    Where stride and window are equal, every pixel makes a block of its own: a 1x1 convolution and DepthToSpace.
    With stride 1, it is the convolution with the mirrored window. Both hold one group and no dilation.
    """
    for node in list(model.graph):
        weight = constant(node.inputs[1]) if node.op_type == "ConvTranspose" and not node.domain else None
        if weight is None or weight.ndim != 4 or weight.dtype != np.float32 or not _is_plain(node):
            continue
        strides, kernel = list(node.attributes.get_ints("strides", [])), list(weight.shape[2:])
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and constant(bias) is None:
            continue
        if strides == [1, 1]:
            _mirror(node, weight, bias)
        elif strides == kernel and kernel[0] == kernel[1] and not any(node.attributes.get_ints("pads", [])):
            _blocks(node, weight, bias, kernel[0])


def _is_plain(node: ir.Node) -> bool:
    attributes = node.attributes
    explicit = all(name in attributes for name in ("kernel_shape", "strides", "pads", "dilations"))
    return (
        explicit
        and attributes.get_int("group", 1) == 1
        and list(attributes.get_ints("dilations", [])) == [1, 1]
        and not any(attributes.get_ints("output_padding", [0]))
        and static_shape(node.inputs[0]) is not None
        and static_shape(node.outputs[0]) is not None
    )


def _mirror(node: ir.Node, weight: np.ndarray, bias: ir.Value | None) -> None:
    kernel = [*weight.shape[2:], *weight.shape[2:]]
    pads = [taps - 1 - pad for taps, pad in zip(kernel, node.attributes.get_ints("pads", []), strict=True)]
    if min(pads) < 0:
        return
    mirrored = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    convolution = _convolution(node, mirrored, bias, pads, static_shape(node.outputs[0]))
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, [convolution])
    bypass(node, convolution.outputs[0])


def _blocks(node: ir.Node, weight: np.ndarray, bias: ir.Value | None, block: int) -> None:
    """Output channels in the order of DepthToSpace's default mode: place in the block first, then channel."""
    shape, graph = static_shape(node.inputs[0]), node.graph
    assert shape is not None and isinstance(graph, ir.Graph)
    channels = weight.shape[1]
    points = weight.transpose(2, 3, 1, 0).reshape(block * block * channels, weight.shape[0], 1, 1)
    repeated = None
    if bias is not None:
        array = constant(bias)
        assert array is not None
        repeated = new_constant(graph, f"{bias.name}_blocks", np.tile(array, block * block))
    deep = [shape[0], block * block * channels, *shape[2:]]
    convolution = _convolution(node, points, repeated, [0] * 4, deep)
    spread = new_node(
        "DepthToSpace", [convolution.outputs[0]], {"blocksize": block}, name=f"{node.name}_blocks", like=node.outputs[0]
    )
    graph.insert_before(node, [convolution, spread])
    bypass(node, spread.outputs[0])


def _convolution(
    node: ir.Node, weight: np.ndarray, bias: ir.Value | None, pads: list[int], shape: list[int] | None
) -> ir.Node:
    assert isinstance(node.graph, ir.Graph)
    kernel = new_constant(node.graph, f"{node.name}_kernel", weight)
    attributes = {
        "kernel_shape": list(weight.shape[2:]),
        "strides": [1, 1],
        "pads": pads,
        "dilations": [1, 1],
        "group": 1,
    }
    inputs = [node.inputs[0], kernel, *([] if bias is None else [bias])]
    made = new_node("Conv", inputs, attributes, name=str(node.name), like=node.outputs[0])
    made.outputs[0].shape = ir.Shape(shape or [])
    made.metadata_props.update(node.metadata_props)
    return made
