"""Which convolutions get a batch norm for the time of training, and how it is folded into them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import constant, new_constant
from edgeprune.ir.quantization import grid_of
from edgeprune.ir.trainable_stored import dequantizers, master_of, with_masters, with_own_scales
from edgeprune.ir.weights import weighted_layers

Tensor = torch.Tensor

_SMALLEST_SCALE = 1e-20


@dataclass(frozen=True)
class Fold:
    """A convolution's weight and bias, by the names of their constants.

    Where they are stored as integers, `scales` has their scales by name, the weight's first, and `input_scale` is that
    of what the convolution reads, None where it is not known.
    """

    weight: str
    bias: str
    scales: Mapping[str, Tensor]
    input_scale: Tensor | None

    def folded_scales(self, factor: Tensor) -> dict[str, Tensor]:
        """The scales after each output channel is multiplied by `factor`: the weight's integers stay as they are."""
        size = factor.detach().cpu().abs()
        found = {name: (scale * size.reshape(scale.shape)) for name, scale in self.scales.items()}
        found = {name: scale.clamp_min(_SMALLEST_SCALE) for name, scale in found.items()}
        if len(found) == 2 and self.input_scale is not None:
            weight, bias = found
            found[bias] = (found[weight] * self.input_scale).reshape(found[bias].shape)
        return found


def with_biases(model: ir.Model) -> ir.Model:
    """A copy of `model` whose convolutions all have a bias, and whose stored weights have a scale of their own."""
    result = with_own_scales(copy_model(model))
    stored = dequantizers(result)
    for node in list(result.graph):
        weight = master_of(node.inputs[1]) if node.op_type == "Conv" and not node.domain else None
        if weight is None or weight.const_value is None or (len(node.inputs) > 2 and node.inputs[2] is not None):
            continue
        channels = len(weight.const_value.numpy())
        bias = _bias(result, node, stored.get(str(weight.name)), channels)
        node.resize_inputs(3)
        node.replace_input_with(2, bias)
    return result


def folds_of(model: ir.Model) -> dict[str, Fold]:
    """By the name of each convolution's output, where no other node reads its weight and its bias.

    Left out are weights of integers with one scale for all channels: they cannot take up a factor for each.
    """
    stored = dequantizers(model)
    reading = {str(node.outputs[0].name): node for node in model.graph if node.op_type == "Conv"}
    found = {}
    for layer in weighted_layers(with_masters(model)):
        bias, output = layer.bias, str(layer.node.outputs[0].name)
        if layer.node.op_type != "Conv" or layer.shared or bias is None or bias.const_value is None:
            continue
        names = str(layer.weight.name), str(bias.name)
        plain = [value is not None and value.const_value is not None for value in reading[output].inputs[1:3]]
        held = [name in stored for name in names]
        scales = {str(stored[name].inputs[1].name): _scale(stored[name]) for name in names if name in stored}  # type: ignore[union-attr]
        fitting = all(scale.numel() == layer.weight.const_value.shape[0] for scale in scales.values())  # type: ignore[union-attr]
        if len(bias.uses()) == 1 and fitting and all(a or b for a, b in zip(plain, held, strict=True)):
            found[output] = Fold(*names, scales, _input_scale(reading[output]) if all(held) else None)
    return found


def _bias(model: ir.Model, node: ir.Node, reader: ir.Node | None, channels: int) -> ir.Value:
    """A bias of zeros, stored as the weight of `node` is: in integers where `reader` dequantizes that."""
    name = f"{node.name or node.outputs[0].name}_bias"
    scale = None if reader is None else _input_scale(node)
    if reader is None or scale is None:
        return new_constant(model.graph, name, np.zeros(channels, np.float32))
    steps = (_scale(reader).reshape(-1) * scale).expand(channels).contiguous().numpy()
    held = new_constant(model.graph, f"{name}_stored", np.zeros(channels, np.int32))
    factor = new_constant(model.graph, f"{name}_scale", steps)
    dequantize = ir.node("DequantizeLinear", [held, factor], {"axis": 0}, name=f"{name}_dequantize")
    bias = dequantize.outputs[0]
    bias.name, bias.type, bias.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape([channels])
    model.graph.insert_before(node, dequantize)
    return bias


def _scale(node: ir.Node) -> Tensor:
    """The scale of a DequantizeLinear of a constant."""
    return torch.from_numpy(np.array(constant(node.inputs[1]), np.float32))


def _input_scale(node: ir.Node) -> Tensor | None:
    """The one scale of what a convolution reads, where that is quantized."""
    grid = grid_of(node.inputs[0])
    return None if grid is None else torch.tensor(grid.scale)
