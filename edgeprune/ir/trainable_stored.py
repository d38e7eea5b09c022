"""Weights that a model stores as integers: trained as float32 masters, written back as integers."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import bypass, constant, new_constant
from edgeprune.ir.trainable_node import Facts, Tensor
from edgeprune.ir.trainable_quantization import Grid, grid_of, limits_of


def master_of(value: ir.Value | None) -> ir.Value | None:
    """The constant that a node reads as `value`: itself, or what DequantizeLinear (after QuantizeLinear) makes it from.

    None for what is computed, and for integers that several nodes read.
    """
    if value is None or value.const_value is not None:
        return value
    node = value.producer()
    if not _dequantizes(node):
        return None
    read = node.inputs[0]
    before = None if read is None else read.producer()
    if before is not None and before.op_type == "QuantizeLinear" and not before.domain:
        read = before.inputs[0]
    return read if constant(read) is not None and len(read.uses()) == 1 else None  # type: ignore[union-attr]


def dequantizers(model: ir.Model) -> dict[str, ir.Node]:
    """The DequantizeLinear of every constant of integers that it alone reads, by the name of the constant."""
    found = {}
    for node in model.graph:
        read = master_of(node.outputs[0]) if _dequantizes(node) else None
        if read is not None and read is node.inputs[0]:
            found[str(read.name)] = node
    return found


def real_of(node: ir.Node) -> np.ndarray:
    """The float32 numbers that the constant of a DequantizeLinear stands for."""
    stored, scale, grid = _parts(node)
    return grid.real(torch.from_numpy(stored.astype(np.float32)), scale).numpy()


def stored_of(node: ir.Node, tensor: Tensor, scale: Tensor | None = None) -> np.ndarray:
    """`tensor` as the integers that a DequantizeLinear of a constant reads, at its own scale or at another.

    Numbers that are what the integers stand for give these very integers: float32 has fewer digits than int32.
    """
    before, own, grid = _parts(node)
    steps = grid.steps(tensor.detach().cpu(), own if scale is None else scale.detach().cpu())
    zero = grid.zero.numpy() if isinstance(grid.zero, Tensor) else grid.zero
    lowest, highest = limits_of(ir.DataType.from_numpy(before.dtype))
    whole = np.clip(steps.contiguous().numpy().astype(np.float64) + zero, lowest, highest)
    found = np.ascontiguousarray(whole).astype(np.int64)
    same = tensor.detach().cpu().contiguous().numpy() == real_of(node)
    untouched = same & np.asarray(scale is None or torch.equal(scale.detach().cpu(), own))
    return np.where(untouched, before.astype(np.int64), found).astype(before.dtype)


def with_masters(model: ir.Model) -> ir.Model:
    """A copy in which nodes read float32 constants in place of dequantized ones, under the names of their masters.

    They hold what the model computes with, rounded as it is. `model` itself where there is nothing of the kind.
    """
    if not any(_replaceable(node) for node in model.graph):
        return model
    model = copy_model(model)
    for node in [node for node in model.graph if _replaceable(node)]:
        _replace(node)
    return model


def with_own_scales(model: ir.Model) -> ir.Model:
    """A copy in which no scale of a constant of integers is read by any other node."""
    model = copy_model(model)
    for name, node in dequantizers(model).items():
        scale = node.inputs[1]
        array = constant(scale)
        if scale is not None and array is not None and len(scale.uses()) > 1:
            node.replace_input_with(1, new_constant(model.graph, f"{name}_scale", array))
    return model


def _dequantizes(node: ir.Node | None) -> TypeGuard[ir.Node]:
    if node is None or node.op_type != "DequantizeLinear" or node.domain or node.outputs[0].is_graph_output():
        return False
    return all(value is None or constant(value) is not None for value in node.inputs[1:])


def _replaceable(node: ir.Node) -> bool:
    return _dequantizes(node) and master_of(node.outputs[0]) is not None


def _replace(node: ir.Node) -> None:
    """Let the readers of `node` read its master, which becomes what `node` gives."""
    master = master_of(node.outputs[0])
    assert master is not None
    if master is node.inputs[0]:
        array = real_of(node)
    else:
        before = node.inputs[0].producer()  # type: ignore[union-attr]
        assert before is not None
        _, scale, grid = _parts(before)
        array = grid.fake_quantize(torch.from_numpy(np.array(constant(master), np.float32)), scale).numpy()
    master.const_value = ir.tensor(array, name=master.name)
    master.type = ir.TensorType(ir.DataType.FLOAT)
    bypass(node, master)


def _parts(node: ir.Node) -> tuple[np.ndarray, Tensor, Grid]:
    """The constant that a QuantizeLinear or DequantizeLinear reads, its scale and its grid."""
    held, scale = constant(node.inputs[0]), constant(node.inputs[1])
    assert held is not None and scale is not None
    stored = held if node.op_type == "DequantizeLinear" else None
    return held, torch.from_numpy(np.array(scale, np.float32)), grid_of(Facts(node), stored)
