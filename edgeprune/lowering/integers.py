"""The whole numbers of a layer that multiplies integers: weights, scales and bias as its kernel takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.weights import WeightedLayer, arrange_weight
from edgeprune.kernels.abi import Format
from edgeprune.lowering.groups import Group
from edgeprune.lowering.quantization import Integers, Quantized

LARGEST_WEIGHT = 255
_LARGEST_SUM = 2**31 - 1


@dataclass(frozen=True)
class Numbers:
    """A layer's `weights` [groups, taps, in, out] int16, `scales` float32 and `bias` int32, each [groups * out].

    The real result is scales * (the sum of weights times centred inputs, plus bias); `spread` are the scales of the
    weights alone.
    """

    weights: np.ndarray
    scales: np.ndarray
    bias: np.ndarray | None
    spread: np.ndarray


def integer_numbers(quantized: Quantized, group: Group, x: Format) -> Numbers | None:
    """The numbers of `group`, whose input is stored in `x`; None where it computes with real numbers."""
    layer = group.layer
    assert layer is not None
    stored = quantized.integers.get(id(layer.weight))
    if stored is None or not x.quantized:
        return None
    weights, spread = arrange_weight(layer, stored.whole), _per_channel(layer, stored)
    if spread is None or np.abs(weights).max(initial=0) > LARGEST_WEIGHT:
        return None
    scales = np.float32(x.scale) * spread
    if not np.all(np.isfinite(scales)) or np.any(scales <= 0):
        return None
    bias = _bias(quantized, group.bias, scales)
    reach = np.abs(weights).sum((1, 2)).reshape(-1).astype(np.float64) * max(abs(x.low - x.zero), abs(x.high - x.zero))
    start = np.zeros(scales.size) if bias is None else np.abs(bias)
    if np.any(reach + start > _LARGEST_SUM):
        return None
    whole = None if bias is None else bias.astype(np.int32)
    return Numbers(weights.astype(np.int16), scales.astype(np.float32), whole, spread)


def _per_channel(layer: WeightedLayer, stored: Integers) -> np.ndarray | None:
    """The scale of each output channel, [groups * out] float32; None where one channel has several."""
    spread = arrange_weight(layer, np.broadcast_to(stored.scale, stored.stored.shape).copy())
    first = spread[:, :1, :1, :]
    return (
        first.reshape(-1).astype(np.float32) if np.array_equal(spread, np.broadcast_to(first, spread.shape)) else None
    )


def _bias(quantized: Quantized, bias: ir.Value | None, scales: np.ndarray) -> np.ndarray | None:
    """The bias in steps of the sum, float64 of whole numbers."""
    if bias is None or bias.const_value is None:
        return None
    stored = quantized.integers.get(id(bias))
    if stored is not None and np.allclose(stored.scale.reshape(-1), scales, rtol=1e-4, atol=0):
        whole = stored.whole.reshape(-1).astype(np.float64)
    else:
        whole = np.rint(bias.const_value.numpy().astype(np.float64).reshape(-1) / scales)
    return np.broadcast_to(whole, scales.shape).copy()
