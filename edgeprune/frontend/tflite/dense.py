"""Matrix products: FULLY_CONNECTED, BATCH_MATMUL."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgeprune.frontend.tflite.activation import activated
from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.conv import bias_of
from edgeprune.frontend.tflite.graph import shape_of


def fully_connected(call: Call) -> None:
    """Rows of the data's last axes, as many as a weight row [out, in] takes, times the weights."""
    if call.option("WeightsFormat"):
        raise call.refuse("shuffled weights")
    weight = call.get(1)
    if len(shape_of(weight)) != 2 or 0 in shape_of(weight):
        raise call.corrupt(f"weights of shape {list(shape_of(weight))}")
    units, depth = shape_of(weight)
    shape = call.shape(0)
    if math.prod(shape) % depth:
        raise call.corrupt(f"weights for {depth} inputs do not fit {list(shape)}")
    rows = call.reshaped(call.get(0), (math.prod(shape) // depth, depth))
    result = activated(call, call.add("Gemm", rows, weight, bias_of(call, 2, units), transB=1))
    if call.option("KeepNumDims"):
        result = call.reshaped(result, (*shape[:-1], units))
    call.put(result)


def batch_matmul(call: Call) -> None:
    """Matrices in the last two axes."""
    operands = [_matrix(call, place, bool(call.option(name))) for place, name in enumerate(("AdjX", "AdjY"))]
    call.put(call.add("MatMul", *operands))


def _matrix(call: Call, place: int, turned: bool) -> ir.Value:
    rank = len(call.shape(place))
    if rank < 2:
        raise call.corrupt("a matrix needs two axes")
    value = call.get(place)
    return call.values.turned(value, (*range(rank - 2), rank - 1, rank - 2)) if turned else value
