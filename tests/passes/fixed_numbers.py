"""Quantized chains computed in integers by the TFLite 8-bit specification, rescaled with one rounding or with two."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.ir.dependency.moves import moved
from edgeprune.ir.edit import constant
from edgeprune.ir.quantization import read_stored
from edgeprune.kernels.fixed_point.arithmetic import Requantize, rescaled


@dataclass(frozen=True)
class _Held:
    """Numbers without their zero point, and the steps of each channel; `count` of them are summed for a mean."""

    whole: np.ndarray
    steps: np.ndarray
    count: int = 1


def fixed(model: ir.Model, array: np.ndarray, *, twice: bool = False) -> dict[str, np.ndarray]:
    """What every QuantizeLinear of `model` stores, by the name of its output, for one real input.

    Knows convolutions, Gemm, global means, Relu and movements. `twice`: rounded twice, as LiteRT's reference does.
    """
    held = {str(model.graph.inputs[0].name): array}
    computed: dict[str, _Held] = {}
    stored: dict[str, np.ndarray] = {}
    for node in model.graph:
        name, first = str(node.outputs[0].name), str(node.inputs[0].name)
        if node.op_type == "QuantizeLinear" and first in held:
            scale, zero = (constant(value) for value in node.inputs[1:])
            limits = np.iinfo(zero.dtype)
            whole = np.rint(held[first] / scale) + zero
            stored[name] = np.clip(whole, limits.min, limits.max).astype(np.int64)
        elif node.op_type == "QuantizeLinear" and first in computed:
            stored[name] = _rescaled(node, computed[first], twice)
        elif node.op_type == "DequantizeLinear" and first in stored:
            scale, zero = (constant(value) for value in node.inputs[1:])
            computed[name] = _Held(stored[first] - int(zero), np.float64(scale).reshape(1))
        elif node.op_type in ("Conv", "Gemm") and first in computed:
            computed[name] = _product(node, computed[first])
        elif node.op_type == "GlobalAveragePool":
            data = computed[first]
            total = data.whole.sum(axis=(2, 3), keepdims=True)
            computed[name] = _Held(total, data.steps, data.whole[0, 0].size)
        elif (
            node.op_type in ("Mul", "Add") and first in computed and computed[first].count > 1
        ) or node.op_type == "Relu":
            computed[name] = computed[first]
        elif first in computed and (turned := moved(node, computed[first].whole)) is not None:
            computed[name] = replace(computed[first], whole=turned[0])
    return stored


def _rescaled(node: ir.Node, data: _Held, twice: bool) -> np.ndarray:
    scale, zero = (constant(value) for value in node.inputs[1:])
    limits = np.iinfo(zero.dtype)
    if data.count > 1:
        away = np.sign(data.whole) * ((np.abs(data.whole) * 2 + data.count) // (2 * data.count))
        return np.clip(away + int(zero), limits.min, limits.max)
    low = int(zero) if _only_positive(node) else int(limits.min)
    rule = Requantize.of(data.steps / np.float64(scale), int(zero), low, int(limits.max))
    sums = np.moveaxis(data.whole, 1, -1)
    whole = _rounded_twice(sums, rule) if twice else rescaled(sums, rule.values, rule.shifts)
    return np.moveaxis(np.clip(whole.astype(np.int64) + rule.zero, rule.low, rule.high), -1, 1)


def _rounded_twice(sums: np.ndarray, rule: Requantize) -> np.ndarray:
    """First the high half of a doubled product, then a shift; ties go away from zero."""
    shifts = rule.shifts.astype(np.int64)
    product = (sums << np.maximum(shifts, 0)) * rule.values.astype(np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(nudged) * (np.abs(nudged) >> 31)
    right = np.maximum(-shifts, 0)
    mask = (np.int64(1) << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def _only_positive(node: ir.Node) -> bool:
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    return source is not None and source.op_type == "Relu"


def _product(node: ir.Node, data: _Held) -> _Held:
    weight = read_stored(node.inputs[1])
    bias = read_stored(node.inputs[2]) if len(node.inputs) > 2 else None
    assert weight is not None
    numbers = (weight.integers.astype(np.int64) - weight.starts.astype(np.int64)).astype(np.float64)
    start = None if bias is None else torch.from_numpy(bias.integers.astype(np.float64))
    given = torch.from_numpy(data.whole.astype(np.float64))
    if node.op_type == "Gemm":
        turned = numbers.T if node.attributes.get_int("transB", 0) else numbers
        sums = given @ torch.from_numpy(turned) + (0 if start is None else start)
    else:
        top, left, bottom, right = node.attributes.get_ints("pads", [0, 0, 0, 0])
        padded = torch.nn.functional.pad(given, (left, right, top, bottom))
        strides, groups = node.attributes.get_ints("strides", [1, 1]), node.attributes.get_int("group", 1)
        sums = torch.nn.functional.conv2d(padded, torch.from_numpy(numbers), start, strides, 0, 1, groups)
    steps = data.steps * weight.scale.astype(np.float64).reshape(-1)
    return _Held(sums.numpy().astype(np.int64), np.broadcast_to(steps, (sums.shape[1],)))
