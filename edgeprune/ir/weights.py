"""The weights of convolutions and linear layers as arrays of one layout, [groups, taps, in, out]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError

Kind = Literal["conv", "depthwise", "linear"]


@dataclass(frozen=True)
class WeightedLayer:
    """A node with a constant weight.

    `kind` is "conv", "depthwise" (a convolution with one input channel in each of several groups) or "linear"
    (Gemm, or MatMul with a constant matrix on the right).
    """

    name: str
    node: ir.Node
    weight: ir.Value
    kind: Kind
    groups: int

    @property
    def bias(self) -> ir.Value | None:
        """The bias input of the node, whether constant or not; None where there is none."""
        inputs = self.node.inputs
        return inputs[2] if self.node.op_type in ("Conv", "Gemm") and len(inputs) > 2 else None

    @property
    def shared(self) -> bool:
        """Whether other nodes read the same weight."""
        return len(self.weight.uses()) > 1


def weighted_layers(model: ir.Model) -> list[WeightedLayer]:
    """Every Conv, Gemm and MatMul of the main graph whose weight is a constant, in graph order.

    Raises EdgepruneError (model-corrupt) where a weight does not fit what its node reads.
    """
    found = (_weighted_layer(node) for node in model.graph)
    return [layer for layer in found if layer is not None]


def read_weight(layer: WeightedLayer) -> np.ndarray:
    """The weight as a new float32 array [groups, taps, in, out].

    Taps are kernel positions in row-major order; `in` and `out` count channels of one group. A linear layer is
    [1, 1, K, N], a depthwise one [channels, taps, 1, multiplier].
    """
    return arrange_weight(layer, _constant(layer).astype(np.float32))


def arrange_weight(layer: WeightedLayer, array: np.ndarray) -> np.ndarray:
    """What belongs to each weight, in the shape that ONNX holds the weight, as `read_weight` orders weights."""
    if layer.kind == "linear":
        matrix = array.T if _transposed(layer.node) else array
        return np.ascontiguousarray(matrix[None, None])
    outputs, inputs = array.shape[:2]
    grouped = array.reshape(layer.groups, outputs // layer.groups, inputs, -1)
    return np.ascontiguousarray(grouped.transpose(0, 3, 2, 1))


def write_weight(layer: WeightedLayer, array: np.ndarray) -> None:
    """Put `array` [groups, taps, in, out] back as the node's weight, in the order and dtype that ONNX holds.

    Raises ValueError where the shape is not that of `read_weight`.
    """
    old = _constant(layer)
    if layer.kind == "linear":
        matrix = array[0, 0].T if _transposed(layer.node) else array[0, 0]
    else:
        outputs, inputs = old.shape[:2]
        taps = math.prod(old.shape[2:])
        if array.shape != (layer.groups, taps, inputs, outputs // layer.groups):
            raise ValueError(f"{layer.name}: weight {array.shape} does not fit {old.shape} in {layer.groups} groups")
        matrix = array.transpose(0, 3, 2, 1).reshape(old.shape)
    if matrix.shape != old.shape:
        raise ValueError(f"{layer.name}: weight {array.shape} does not fit {old.shape}")
    layer.weight.const_value = ir.tensor(np.ascontiguousarray(matrix, dtype=old.dtype), name=layer.weight.name)


def read_bias(layer: WeightedLayer) -> np.ndarray | None:
    """The constant bias as a new float32 array [groups * out], zeros where there is none; None where it is computed."""
    outputs = _outputs(layer)
    if layer.bias is None:
        return np.zeros(outputs, np.float32)
    if layer.bias.const_value is None:
        return None
    return np.broadcast_to(layer.bias.const_value.numpy().astype(np.float32).reshape(-1), (outputs,)).copy()


def write_bias(layer: WeightedLayer, array: np.ndarray) -> None:
    """Put `array` [groups * out] in place of the constant bias; a bias that other nodes read too is left to them.

    Raises EdgepruneError (weight-not-constant) where the layer has no constant bias.
    """
    bias = layer.bias
    if bias is None or bias.const_value is None:
        raise EdgepruneError("weight-not-constant", "the bias is not a constant", where=f"node {layer.name}")
    tensor = np.ascontiguousarray(array, dtype=bias.const_value.dtype.numpy())
    if len(bias.uses()) == 1:
        bias.const_value = ir.tensor(tensor, name=bias.name)
        bias.shape = ir.Shape(tensor.shape)
        return
    graph = layer.node.graph
    own = ir.val(f"{bias.name}_{layer.name}", const_value=ir.tensor(tensor, name=f"{bias.name}_{layer.name}"))
    assert isinstance(graph, ir.Graph)
    graph.register_initializer(own)
    layer.node.replace_input_with(2, own)


def output_positions(layer: WeightedLayer) -> int:
    """How often each weight is used in one inference: output pixels of a convolution, rows of a linear layer.

    Raises EdgepruneError (shape-unknown) where the node's output shape is not static.
    """
    shape = layer.node.outputs[0].shape
    if shape is None or not shape.is_static():
        raise EdgepruneError("shape-unknown", "the output shape is not known", where=f"node {layer.name}")
    return math.prod(int(size) for size in shape.numpy()) // _outputs(layer)


def _weighted_layer(node: ir.Node) -> WeightedLayer | None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    weight = node.inputs[1]
    if weight is None or weight.const_value is None or not weight.const_value.dtype.is_floating_point():
        return None
    name = node.name or f"{node.op_type}({weight.name})"
    sizes = weight.const_value.shape.numpy()
    if node.op_type != "Conv":
        if len(sizes) != 2:
            return None
        _check_inputs(name, node, -1, int(sizes[1 if _transposed(node) else 0]))
        return WeightedLayer(name, node, weight, "linear", 1)
    groups = node.attributes.get_int("group", 1)
    _check_inputs(name, node, 1, int(sizes[1]) * groups)
    depthwise = groups > 1 and sizes[1] == 1
    return WeightedLayer(name, node, weight, "depthwise" if depthwise else "conv", groups)


def _check_inputs(name: str, node: ir.Node, axis: int, wanted: int) -> None:
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    if shape is None or not shape.is_static() or node.attributes.get_int("transA", 0) == 1:
        return
    given = shape.numpy()[axis]
    if given != wanted:
        raise EdgepruneError(
            "model-corrupt",
            f"the weight takes {wanted} input channels, and there are {given}",
            where=f"node {name} ({node.op_type})",
            hint="export the model again; ONNX Runtime cannot run it either",
        )


def _constant(layer: WeightedLayer) -> np.ndarray:
    if layer.weight.const_value is None:
        raise EdgepruneError("weight-not-constant", "the weight is not a constant", where=f"node {layer.name}")
    return layer.weight.const_value.numpy()


def _outputs(layer: WeightedLayer) -> int:
    shape = _constant(layer).shape
    matrix_columns = layer.kind == "linear" and not _transposed(layer.node)
    return int(shape[1] if matrix_columns else shape[0])


def _transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
