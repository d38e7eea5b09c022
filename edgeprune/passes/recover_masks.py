"""Masks over the weights of a model in training: held as they are, or tightened step by step from dense weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.ir.copy import copy_model
from edgeprune.ir.trainable import TrainableModel, write_back
from edgeprune.ir.trainable_stored import with_masters
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers, write_weight
from edgeprune.mask import mask_from_scores
from edgeprune.pattern import Level, Pattern


@dataclass(frozen=True)
class Gradual:
    """The share of the training in which masks tighten, and how: along `power`, three being Zhu and Gupta's (2017)."""

    until: float = 0.5
    power: float = 3.0

    def remaining(self, done: float) -> float:
        """What is left of the way from dense to the final masks after the share `done` of the training: 1 to 0."""
        return max(0.0, 1.0 - done / self.until) ** self.power if self.until > 0 else 0.0


def zeros_as_masks(model: ir.Model) -> dict[str, torch.Tensor]:
    """For each layer's weight, by its initializer name, 1 where it is not zero; dense weights are left out."""
    masks = {}
    for layer in weighted_layers(with_masters(model)):
        array = read_weight(layer)
        if not array.all():
            masks[str(layer.weight.name)] = torch.from_numpy(_in_order(layer, (array != 0).astype(np.float32)))
    return masks


class Tightening:
    """Masks for `levels` (by node name) that go from dense to those levels."""

    def __init__(self, model: ir.Model, levels: Mapping[str, Level]) -> None:
        layers = weighted_layers(copy_model(with_masters(model)))
        self._layers = {layer.name: layer for layer in layers if layer.name in levels}
        self._levels = levels

    def masks(self, weights: Mapping[str, torch.Tensor], remaining: float) -> dict[str, torch.Tensor]:
        """Masks by initializer name, from weights by initializer name in the shapes ONNX gives them."""
        found = {}
        for name, layer in self._layers.items():
            weight = str(layer.weight.name)
            array = np.ascontiguousarray(weights[weight].detach().cpu().contiguous().numpy())
            layer.weight.const_value = ir.tensor(array, name=weight)
            kept = _kept(read_weight(layer) ** 2, self._levels[name], remaining)
            ordered = _in_order(layer, kept.astype(np.float32))
            found[weight] = torch.from_numpy(ordered).to(weights[weight].device)
        return found


def with_weights_of(teacher: TrainableModel, original: ir.Model, model: ir.Model) -> ir.Model:
    """A copy of `model` with every weight of its layers as the teacher, which is `original`, has it."""
    before = {layer.name: layer for layer in weighted_layers(with_masters(original))}
    given = {}
    for layer in weighted_layers(with_masters(model)):
        known = before.get(layer.name)
        if known is not None:
            pairs = ((layer.weight, known.weight), (layer.bias, known.bias))
            given.update({str(value.name): str(old.name) for value, old in pairs if value and old})
    held = {name: teacher.weights[old] for name, old in given.items() if old in teacher.weights}
    constants = {name: value.const_value for name, value in model.graph.initializers.items()}
    shapes = {name: None if tensor is None else tuple(tensor.shape) for name, tensor in constants.items()}
    fitting = {name: tensor for name, tensor in held.items() if shapes.get(name) == tuple(tensor.shape)}
    return write_back(teacher, model, fitting)


def _kept(scores: np.ndarray, level: Level, remaining: float) -> np.ndarray:
    """The blocks of the level, and the best `remaining` share of the others."""
    pattern = level.pattern
    if pattern.group is None:
        return mask_from_scores(scores, pattern, level.density + (1 - level.density) * remaining)
    kept = mask_from_scores(scores, pattern, level.density)
    if remaining > 0:
        kept |= mask_from_scores(scores, Pattern(pattern.block_k, pattern.block_n), remaining)
    return kept


def _in_order(layer: WeightedLayer, array: np.ndarray) -> np.ndarray:
    """`array` [groups, taps, in, out] in the order ONNX holds the layer's weight, which is left as it was."""
    before = layer.weight.const_value
    write_weight(layer, array)
    assert layer.weight.const_value is not None
    ordered = layer.weight.const_value.numpy()
    layer.weight.const_value = before
    return np.array(ordered, np.float32)
