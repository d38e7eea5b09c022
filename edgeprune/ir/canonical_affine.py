"""Folds batch norm and constant per-channel arithmetic into the convolution or linear layer before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.edit import bypass, constant, new_constant, new_node, only_consumer

_ARITHMETIC = ("Add", "Sub", "Mul", "Div")
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SCALE_KEY = "edgeprune.bn_scale"
"""The node metadata entry that holds the scale of a folded batch norm, one number a channel."""


@dataclass(frozen=True)
class Affine:
    """y = x * scale + shift; both float64, of the rank of x, of size 1 on every axis but the channels'."""

    scale: np.ndarray
    shift: np.ndarray


def fold_affine(model: ir.Model) -> None:
    """Fold every batch norm and constant Add, Sub, Mul, Div that follows a layer into its weights, in place.

    A batch norm without such a layer becomes Mul and Add. Layers are Conv, ConvTranspose, Gemm (normal form) and,
    for scales alone, MatMul with a constant right side.
    """
    for node in list(model.graph):
        if node.graph is None:
            continue
        affine = read_affine(node)
        if affine is None:
            continue
        source = data_input(node)
        layer = source.producer()
        if layer is not None and only_consumer(source) is node and _absorb_in(layer, affine, source):
            _note_scale(layer, node)
            bypass(node, source)
        elif node.op_type == "BatchNormalization":
            _split_batch_norm(node, affine)


def read_batch_norm_scale(node: ir.Node) -> np.ndarray | None:
    """The scale [channels] of the batch norm that was folded into `node`; None where there was none."""
    noted = node.metadata_props.get(_SCALE_KEY)
    return None if noted is None else np.array(noted.split(), np.float32)


def _note_scale(layer: ir.Node, node: ir.Node) -> None:
    scale = constant(node.inputs[1]) if node.op_type == "BatchNormalization" else None
    if scale is not None:
        layer.metadata_props[_SCALE_KEY] = " ".join(f"{value:.6g}" for value in scale)


def data_input(node: ir.Node) -> ir.Value:
    """The input of a batch norm, or of arithmetic with a constant, that is not constant."""
    index = 1 if node.op_type in _ARITHMETIC and constant(node.inputs[0]) is not None else 0
    value = node.inputs[index]
    assert value is not None
    return value


def read_affine(node: ir.Node) -> Affine | None:
    """What a batch norm, or arithmetic with a constant, does to its data; None where it is not a fixed affine map."""
    if node.op_type == "BatchNormalization":
        return _read_batch_norm(node)
    if node.op_type in _ARITHMETIC:
        return _read_arithmetic(node)
    return None


def _read_batch_norm(node: ir.Node) -> Affine | None:
    parameters = [constant(value) for value in node.inputs[1:5]]
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or node.attributes.get_int("training_mode") == 1 or any(array is None for array in parameters):
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in parameters)
    spread = variance + node.attributes.get_float("epsilon", 1e-5)
    if not np.all(spread > 0):
        raise EdgepruneError(
            "model-nan",
            f"batch norm '{node.name}' has a variance that is not positive",
            where=f"node '{node.name}' (BatchNormalization)",
            hint="export a sound checkpoint",
        )
    scale = gamma / np.sqrt(spread)
    axes = (1, -1) + (1,) * (len(shape) - 2)
    return Affine(scale.reshape(axes), (beta - mean * scale).reshape(axes))


def _read_arithmetic(node: ir.Node) -> Affine | None:
    left, right = constant(node.inputs[0]), constant(node.inputs[1])
    value = right if left is None else left
    data, result = data_input(node), node.outputs[0]
    if value is None or (left is not None and right is not None) or value.dtype.kind != "f":
        return None
    if data.shape is None or data.shape != result.shape or value.ndim > len(data.shape):
        return None
    array = value.astype(np.float64).reshape((1,) * (len(data.shape) - value.ndim) + value.shape)
    one, zero = np.ones_like(array), np.zeros_like(array)
    if node.op_type == "Add":
        return Affine(one, array)
    if node.op_type == "Sub":
        return Affine(one, -array) if left is None else Affine(-one, array)
    if node.op_type == "Mul":
        return Affine(array, zero)
    return Affine(one / array, zero) if left is None and np.all(array) else None


def _absorb_in(layer: ir.Node, affine: Affine, output: ir.Value) -> bool:
    """Fold `affine` into `layer`, or where that adds a constant to a matrix product, a scale into both."""
    if layer.op_type != "Add" or np.any(affine.shift):
        return _absorb(layer, affine, output)
    added = read_affine(layer)
    product = data_input(layer)
    multiply = product.producer()
    if added is None or multiply is None or multiply.op_type != "MatMul" or only_consumer(product) is not layer:
        return False
    if not _absorb(multiply, affine, product):
        return False
    index = 1 if layer.inputs[0] is product else 0
    old = constant(layer.inputs[index])
    assert old is not None
    replace_input(layer, index, (added.shift * affine.scale).astype(old.dtype), "bias")
    return True


def _absorb(layer: ir.Node, affine: Affine, output: ir.Value) -> bool:
    """Scale the weights of `layer` and shift its bias; False where it cannot take them."""
    weight = constant(layer.inputs[1]) if layer.op_type in _LAYERS and not layer.domain else None
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if (
        weight is None
        or weight.dtype.kind != "f"
        or output.shape is None
        or (bias is not None and constant(bias) is None)
    ):
        return False
    rank = len(output.shape)
    axis = 1 if layer.op_type in ("Conv", "ConvTranspose") else rank - 1
    channels = output.shape[axis]
    vectors = [_channel_vector(array, rank, axis, channels) for array in (affine.scale, affine.shift)]
    scale, shift = vectors
    if scale is None or shift is None or (layer.op_type == "MatMul" and (np.any(shift) or weight.ndim != 2)):
        return False
    replace_input(layer, 1, _scaled_weight(layer, weight.astype(np.float64), scale).astype(weight.dtype), "weight")
    old_bias = constant(bias)
    if layer.op_type != "MatMul" and (old_bias is not None or np.any(shift)):
        new_bias = shift + (0.0 if old_bias is None else old_bias.astype(np.float64) * scale)
        replace_input(layer, 2, new_bias.astype(weight.dtype), "bias")
    return True


def _channel_vector(array: np.ndarray, rank: int, axis: int, channels: object) -> np.ndarray | None:
    """`array` as one value per channel; None where it varies along another axis."""
    if not isinstance(channels, int) or any(size != 1 for index, size in enumerate(array.shape) if index != axis):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)) if array.ndim == rank else None


def _scaled_weight(layer: ir.Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    if layer.op_type == "MatMul":
        return weight * scale
    if layer.op_type == "ConvTranspose":
        groups = layer.attributes.get_int("group", 1)
        per_group = weight.reshape(groups, -1, *weight.shape[1:])
        scales = scale.reshape(groups, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
        return (per_group * scales).reshape(weight.shape)
    return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))


def replace_input(layer: ir.Node, index: int, array: np.ndarray, role: str) -> None:
    """Give `layer` the constant `array` as input `index`; other readers of the old constant keep it."""
    graph = layer.graph
    assert isinstance(graph, ir.Graph)
    old = layer.inputs[index] if index < len(layer.inputs) else None
    if old is not None and len(old.uses()) == 1 and not old.is_graph_output():
        old.const_value = ir.tensor(array, name=old.name)
        old.shape = ir.Shape(array.shape)
        return
    if index >= len(layer.inputs):
        layer.resize_inputs(index + 1)
    layer.replace_input_with(index, new_constant(graph, f"{layer.name}_{role}", array))


def _split_batch_norm(node: ir.Node, affine: Affine) -> None:
    graph, source = node.graph, node.inputs[0]
    assert isinstance(graph, ir.Graph) and source is not None and source.dtype is not None
    dtype = source.dtype.numpy()
    scale = new_constant(graph, f"{node.name}_scale", affine.scale.astype(dtype)[0])
    shift = new_constant(graph, f"{node.name}_shift", affine.shift.astype(dtype)[0])
    product = new_node("Mul", [source, scale], name=f"{node.name}_mul", like=node.outputs[0])
    total = new_node("Add", [product.outputs[0], shift], name=str(node.name), like=node.outputs[0])
    graph.insert_before(node, [product, total])
    bypass(node, total.outputs[0])
