"""Activations that TFLite operators carry along."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import tflite

from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.values import limits_of

_FUSED = tflite.ActivationFunctionType
_BOUNDS = {_FUSED.RELU: (0.0, np.inf), _FUSED.RELU_N1_TO_1: (-1.0, 1.0), _FUSED.RELU6: (0.0, 6.0)}


def activated(call: Call, value: ir.Value) -> ir.Value:
    """`value` after the activation that the operator carries."""
    kind = call.option("FusedActivationFunction")
    if kind == _FUSED.NONE:
        return value
    if kind in _BOUNDS:
        return bounded(call, value, *_BOUNDS[kind])
    if kind == _FUSED.TANH:
        return call.add("Tanh", value)
    if kind == _FUSED.SIGN_BIT:
        negative = call.add("Less", value, call.constant(0.0))
        return call.add("Cast", negative, to=int(ir.DataType.FLOAT))
    raise call.corrupt(f"activation {kind} does not exist")


def bounded(call: Call, value: ir.Value, lowest: float, highest: float) -> ir.Value:
    """`value` kept between two numbers, where what the output can store does not keep it there anyway."""
    result = call.result()
    floor, ceiling = (-np.inf, np.inf)
    if result.quantization is not None and result.quantization.per_tensor:
        step = float(result.quantization.scale[0]) / 2
        floor, ceiling = limits_of(result)
        ceiling -= step
    below, above = lowest > floor, highest < ceiling
    if not below and not above:
        return value
    if below and not above and lowest == 0:
        return call.add("Relu", value)
    bounds = [call.constant(number) if used else None for number, used in ((lowest, below), (highest, above))]
    return call.add("Clip", value, *bounds)
