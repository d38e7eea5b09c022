"""Folds constant per-channel arithmetic into the convolution or linear layer after it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.canonical_affine import data_input, read_affine, replace_input
from edgeprune.ir.canonical_movement import RESHAPES, static_shape
from edgeprune.ir.canonical_transpose import transpose_order
from edgeprune.ir.edit import bypass, constant, only_consumer

_LAYERS = ("Conv", "Gemm", "MatMul")


def fold_preceding(model: ir.Model) -> None:
    """Fold constant Add, Sub, Mul and Div before Conv, Gemm or MatMul into its weights and bias, in place.

    Transposes and reshapes may stand between. A shift folds only where no padding would have to be shifted, and
    where the layer has a bias to take it.
    """
    for layer in list(model.graph):
        if layer.op_type not in _LAYERS or layer.domain:
            continue
        while _absorb_one(layer):
            pass


def _absorb_one(layer: ir.Node) -> bool:
    weight, moves, value = constant(layer.inputs[1]), [], layer.inputs[0]
    consumer = layer
    while value is not None and only_consumer(value) is consumer:
        node = value.producer()
        if node is None or node.domain or weight is None or weight.dtype.kind != "f":
            return False
        if node.op_type not in ("Transpose", *RESHAPES):
            break
        moves.append(node)
        consumer, value = node, node.inputs[0]
    else:
        return False
    affine, shape = read_affine(node), static_shape(value)
    if affine is None or shape is None or node.op_type == "BatchNormalization":
        return False
    vectors = [_per_channel(layer, moves, array, shape) for array in (affine.scale, affine.shift)]
    if any(vector is None for vector in vectors) or not _absorb(layer, weight, *vectors):
        return False
    bypass(node, data_input(node))
    return True


def _per_channel(layer: ir.Node, moves: list[ir.Node], array: np.ndarray, shape: list[int]) -> np.ndarray | None:
    """`array`, of a value of `shape`, as one number per input channel of `layer`; None where it varies otherwise."""
    full = np.broadcast_to(array, shape)
    for move in reversed(moves):
        result = static_shape(move.outputs[0])
        order = transpose_order(move)
        if result is None:
            return None
        full = full.reshape(result) if order is None else full.transpose(order)
    axis = 1 if layer.op_type == "Conv" else full.ndim - 1
    lines = np.moveaxis(full, axis, -1).reshape(-1, full.shape[axis])
    return lines[0] if lines.size and np.all(lines == lines[0]) else None


def _absorb(layer: ir.Node, weight: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None) -> bool:
    assert scale is not None and shift is not None
    moved = np.any(shift)
    bias_input = layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = constant(bias_input)
    if (
        not (np.all(np.isfinite(scale)) and np.all(np.isfinite(shift)))
        or weight.ndim < 2
        or (bias_input is not None and bias is None)
        or (moved and (layer.op_type == "MatMul" or any(layer.attributes.get_ints("pads", []))))
        or (layer.op_type == "MatMul" and weight.ndim != 2)
        or (layer.op_type == "Gemm" and layer.attributes.get_int("transB", 0) != 1)
        or "auto_pad" in layer.attributes
    ):
        return False
    per_weight = [_along_inputs(layer, weight, vector) for vector in (scale, shift)]
    exact = weight.astype(np.float64)
    replace_input(layer, 1, (exact * per_weight[0]).astype(weight.dtype), "weight")
    if moved:
        added = (exact * per_weight[1]).reshape(len(weight), -1).sum(axis=1)
        total = added + (0.0 if bias is None else bias.astype(np.float64))
        replace_input(layer, 2, total.astype(weight.dtype), "bias")
    return True


def _along_inputs(layer: ir.Node, weight: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """One number per input channel, in a shape that multiplies `weight`."""
    if layer.op_type == "MatMul":
        return vector[:, None]
    if layer.op_type == "Gemm":
        return vector[None, :]
    groups = layer.attributes.get_int("group", 1)
    rows = np.repeat(vector.reshape(groups, -1), len(weight) // groups, axis=0)
    return rows.reshape(len(weight), -1, *(1,) * (weight.ndim - 2))
