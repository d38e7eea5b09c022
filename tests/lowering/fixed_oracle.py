"""Quantized networks in whole numbers as the TFLite 8-bit specification defines them, rescaled with one rounding.

Written from the specification alone, in numpy: nothing of the compiler but its model is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from edgeprune.ir.canonical_version import CANONICAL_OPSET

MOVES = ("Concat", "Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Held:
    """Numbers less their zero point, and their scales: one, or one by channel; whether they are stored unsigned."""

    whole: np.ndarray
    scale: np.ndarray
    unsigned: bool = False


@dataclass(frozen=True)
class Waiting:
    """What `stored` makes of the scale and zero point of the QuantizeLinear that comes next, not yet bounded."""

    stored: Callable[[np.float32, int], np.ndarray]
    low: float = -math.inf
    high: float = math.inf


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of `model` for real inputs by name."""
    found: dict[str, object] = dict(feeds)
    for value in model.graph.initializers.values():
        found[str(value.name)] = value.const_value.numpy()  # type: ignore[union-attr]
    for node in model.graph:
        if node.op_type == "Constant":
            found[str(node.outputs[0].name)] = node.outputs[0].const_value.numpy()  # type: ignore[union-attr]
            continue
        inputs = [None if value is None else found[str(value.name)] for value in node.inputs]
        results = _results(node, inputs)
        found.update({str(value.name): result for value, result in zip(node.outputs, results, strict=True)})
    return {str(value.name): _real(found[str(value.name)]) for value in model.graph.outputs}


def _real(value: object) -> np.ndarray:
    return (value.whole * value.scale).astype(np.float32) if isinstance(value, Held) else np.asarray(value)


def _results(node: ir.Node, inputs: list) -> list:
    if node.op_type == "QuantizeLinear":
        return [_quantized(*inputs)]
    if node.op_type == "DequantizeLinear":
        stored, scale, zero = (*inputs, np.zeros_like(inputs[0][:1]))[:3]
        if np.ndim(scale):
            shape = [1] * stored.ndim
            shape[node.attributes.get_int("axis", 1)] = -1
            scale, zero = scale.reshape(shape), np.asarray(zero).reshape(shape)
        whole = stored.astype(np.int64) - np.asarray(zero, np.int64)
        return [Held(whole, np.asarray(scale, np.float32), stored.dtype == np.uint8)]
    if node.op_type in MOVES:
        return _moved(node, inputs)
    return [_TABLE[node.op_type](node, inputs)]


def _quantized(x: object, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    limits, step, at = np.iinfo(zero.dtype), np.float32(scale), int(zero)
    low, high = limits.min, limits.max
    if isinstance(x, Waiting):
        bounds = [at + _away(np.clip(end / float(step), -1e6, 1e6)) for end in (x.low, x.high)]
        whole, low, high = x.stored(step, at), max(low, int(bounds[0])), min(high, int(bounds[1]))
    elif isinstance(x, Held):
        whole = _scaled(x.whole, float(x.scale) / float(step)) + at if x.scale != step else x.whole + at
    else:
        whole = np.rint(np.asarray(x, np.float32) / step).astype(np.int64) + at
    return np.clip(whole, low, high).astype(zero.dtype)


def _scaled(whole: np.ndarray, factor: float) -> np.ndarray:
    """`whole` times `factor` as a fraction of 31 bits and a power of two, rounded once, halves upward."""
    fraction, exponent = math.frexp(factor)
    value = math.floor(fraction * 2**31 + 0.5)
    if value == 2**31:
        value, exponent = value // 2, exponent + 1
    right = 31 - exponent
    products = whole.astype(object) * value + (1 << (right - 1))
    return np.array(products >> right, object).astype(np.int64)


def _away(x: np.ndarray | float) -> np.ndarray:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def _moved(node: ir.Node, inputs: list) -> list:
    helds = [value for value in inputs if isinstance(value, Held)]
    assert len({float(held.scale) for held in helds}) == 1
    names = [f"in{index}" for index in range(len(inputs))]
    proto = ir.to_proto(node)
    del proto.input[:]
    proto.input.extend(names)
    given = {name: value.whole if isinstance(value, Held) else value for name, value in zip(names, inputs, strict=True)}
    moved = ReferenceEvaluator(proto, opsets={"": CANONICAL_OPSET}).run(None, given)
    return [Held(np.asarray(array), helds[0].scale) for array in moved]


def _product(node: ir.Node, inputs: list) -> Waiting:
    x, weight = inputs[:2]
    if node.op_type == "Gemm":
        sums = x.whole @ (weight.whole.T if node.attributes.get_int("transB", 0) else weight.whole)
    else:
        sums = _convolution(node, x.whole, weight.whole)
    if len(inputs) > 2:
        sums = sums + inputs[2].whole.reshape(1, -1, *[1] * (sums.ndim - 2))
    spread = np.broadcast_to(weight.scale.reshape(-1), sums.shape[1:2])
    # Fully connected layers, and all of unsigned weights, multiply the scales in single precision, others in double.
    kind = np.float32 if node.op_type == "Gemm" or weight.unsigned else np.float64
    factors = [float(kind(x.scale) * kind(scale)) for scale in spread]

    def stored(step: np.float32, zero: int) -> np.ndarray:
        channels = [_scaled(sums[:, c], factor / float(step)) for c, factor in enumerate(factors)]
        return np.stack(channels, axis=1) + zero

    return Waiting(stored)


def _convolution(node: ir.Node, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    top, left, bottom, right = node.attributes.get_ints("pads", [0, 0, 0, 0])
    down, along = node.attributes.get_ints("strides", [1, 1])
    groups = node.attributes.get_int("group", 1)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))[:, :, ::down, ::along]
    parts = zip(np.split(windows, groups, axis=1), np.split(weight, groups), strict=True)
    # Sums of these sizes are exact in double precision.
    sums = [np.einsum("nchwij,ocij->nohw", a.astype(float), b.astype(float), optimize=True) for a, b in parts]
    return np.concatenate(sums, axis=1).astype(np.int64)


def _sum(node: ir.Node, inputs: list) -> Waiting | Held:
    left, right = inputs
    if not (isinstance(left, Held) and isinstance(right, Held)):
        return left
    twice = 2 * max(float(left.scale), float(right.scale))

    def stored(step: np.float32, zero: int) -> np.ndarray:
        finer = [_scaled(held.whole << 20, float(held.scale) / twice) for held in (left, right)]
        return _scaled(finer[0] + finer[1], twice / (2**20 * float(step))) + zero

    return Waiting(stored)


def _mean(node: ir.Node, inputs: list) -> Waiting:
    """An average pool between equal grids; the factors that real arithmetic needs around it mean nothing here."""
    sums, count = inputs[0].whole.sum(axis=(2, 3), keepdims=True), inputs[0].whole[0, 0].size

    def stored(step: np.float32, zero: int) -> np.ndarray:
        total = sums + zero * count
        return np.sign(total) * ((np.abs(total) + count // 2) // count)

    return Waiting(stored)


def _softmax(node: ir.Node, inputs: list) -> Waiting:
    x = inputs[0].whole * np.float64(inputs[0].scale)
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return Waiting(lambda step, zero: np.rint(shares / float(step)).astype(np.int64) + zero)


def _sigmoid(node: ir.Node, inputs: list) -> Waiting:
    x = (inputs[0].whole * inputs[0].scale).astype(np.float32)
    result = np.float32(1) / (np.float32(1) + np.exp(-x))
    return Waiting(lambda step, zero: _away(result / step).astype(np.int64) + zero)


def _relu(node: ir.Node, inputs: list) -> Waiting:
    return Waiting(inputs[0].stored, low=0.0)


_TABLE: dict[str, Callable[[ir.Node, list], object]] = {
    "Add": _sum,
    "Conv": _product,
    "Gemm": _product,
    "GlobalAveragePool": _mean,
    "Mul": lambda node, inputs: next(value for value in inputs if isinstance(value, Waiting)),
    "Relu": _relu,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
}
