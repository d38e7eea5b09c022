"""Pools over windows of an image."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgeprune.frontend.tflite.activation import activated
from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.conv import padding, steps
from edgeprune.frontend.tflite.graph import shape_of
from edgeprune.frontend.tflite.values import channels_first


def average_pool_2d(call: Call) -> None:
    """The mean of the part of the window that lies inside the image."""
    order = channels_first(4)
    data = call.steps(0, order)
    if data is not None:
        mean = _window(call, "AveragePool", data, count_include_pad=0)
        call.put_steps(_ties_away_from_zero(call, mean), order)
    else:
        value = _window(call, "AveragePool", call.get(0, order), count_include_pad=0)
        call.put(activated(call, value), order)


def max_pool_2d(call: Call) -> None:
    """The largest element of the window."""
    value = _window(call, "MaxPool", call.get(0, channels_first(4)))
    bounded = activated(call, value)
    if bounded is value:
        call.put_moved(value, channels_first(4))
    else:
        call.put(bounded, channels_first(4))


def l2_pool_2d(call: Call) -> None:
    """The root of the mean square."""
    data = call.get(0, channels_first(4))
    mean = _window(call, "AveragePool", call.add("Mul", data, data), count_include_pad=0)
    call.put(activated(call, call.add("Sqrt", mean)), channels_first(4))


def _ties_away_from_zero(call: Call, mean: ir.Value) -> ir.Value:
    """Means of whole numbers, so that rounding them to even goes where TFLite rounds ties: away from a stored zero.

    They move by less than half of what lies between two means.
    """
    quantization = call.result().quantization
    assert quantization is not None
    entries = math.prod(steps(call, ["FilterHeight", "FilterWidth"]))
    part = 1 / (512 * entries)
    grown = call.add("Mul", mean, call.constant(1 + part))
    return call.add("Add", grown, call.constant(float(quantization.zero_point[0]) * part))


def _window(call: Call, op: str, data: ir.Value, **attributes: int) -> ir.Value:
    if len(shape_of(data)) != 4:
        raise call.corrupt("the input is no image")
    kernel, strides = steps(call, ["FilterHeight", "FilterWidth"]), steps(call, ["StrideH", "StrideW"])
    pads = padding(call, shape_of(data)[2:], kernel, strides, [1, 1])
    return call.add(op, data, kernel_shape=kernel, strides=strides, pads=pads, **attributes)
