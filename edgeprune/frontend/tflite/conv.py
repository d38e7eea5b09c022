"""Convolutions: CONV_2D, DEPTHWISE_CONV_2D, CONV_3D, TRANSPOSE_CONV."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import tflite

from edgeprune.frontend.tflite.activation import activated
from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.graph import shape_of
from edgeprune.frontend.tflite.values import Order, channels_first
from edgeprune.ir.canonical_window import same_pads

_OUTPUT_FIRST: Order = (0, 3, 1, 2)
_DEPTHWISE: Order = (3, 0, 1, 2)
_INPUT_FIRST: Order = (3, 0, 1, 2)
_VOLUME: Order = (4, 3, 0, 1, 2)


def conv_2d(call: Call) -> None:
    """Weights [out, height, width, in of one group]."""
    _convolve(call, call.get(1, _OUTPUT_FIRST))


def depthwise_conv_2d(call: Call) -> None:
    """Weights [1, height, width, channels * multiplier]: one group a channel."""
    _convolve(call, call.get(1, _DEPTHWISE))


def conv_3d(call: Call) -> None:
    """Weights [depth, height, width, in, out]."""
    _convolve(call, call.get(1, _VOLUME))


def _convolve(call: Call, weight: ir.Value) -> None:
    rank = len(shape_of(weight))
    order = channels_first(rank)
    data = call.get(0, order)
    axes = "DHW"[5 - rank :]
    strides = steps(call, [f"Stride{axis}" for axis in axes])
    dilations = steps(call, [f"Dilation{axis}Factor" for axis in axes])
    kernel, channels = shape_of(weight)[2:], shape_of(data)[1]
    per_group = shape_of(weight)[1]
    if per_group < 1 or channels % per_group or shape_of(weight)[0] % (channels // per_group):
        raise call.corrupt(f"weights for {per_group} channels do not fit {channels}")
    result = call.add(
        "Conv",
        data,
        weight,
        bias_of(call, 2, shape_of(weight)[0]),
        kernel_shape=list(kernel),
        strides=strides,
        dilations=dilations,
        group=channels // per_group,
        pads=padding(call, shape_of(data)[2:], kernel, strides, dilations),
    )
    call.put(activated(call, result), order)


def transpose_conv(call: Call) -> None:
    """Inputs: the output's shape, weights [out, height, width, in], data, bias."""
    data, weight = call.get(2, channels_first(4)), call.get(1, _INPUT_FIRST)
    strides = steps(call, ["StrideH", "StrideW"])
    wanted = call.integers(0)
    if len(wanted) != 4 or shape_of(data)[1] != shape_of(weight)[0]:
        raise call.corrupt("the shapes of data, weights and output do not fit")
    begins, ends, extra = [], [], []
    for axis in range(2):
        size, taps, stride, target = (
            shape_of(data)[2 + axis],
            shape_of(weight)[2 + axis],
            strides[axis],
            wanted[1 + axis],
        )
        full = (size - 1) * stride + taps
        same = call.option("Padding") == tflite.Padding.SAME
        begin = max((-(-target // stride) - 1) * stride + taps - target, 0) // 2 if same else 0
        begins.append(begin)
        ends.append(max(full - begin - target, 0))
        extra.append(max(target - full + begin, 0))
    result = call.add(
        "ConvTranspose",
        data,
        weight,
        bias_of(call, 3, wanted[3], weight=1, data=2),
        kernel_shape=list(shape_of(weight)[2:]),
        strides=strides,
        pads=begins + ends,
        output_padding=extra,
    )
    call.put(activated(call, result), channels_first(4))


def steps(call: Call, names: Sequence[str]) -> list[int]:
    """Strides, dilations or window sizes, which are 1 or more."""
    found = [int(call.option(name, 1)) for name in names]
    if any(step < 1 for step in found):
        raise call.corrupt(f"{', '.join(names)} are {found}")
    return found


def padding(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """ONNX pads for TFLite's SAME (more at the end where they are uneven) or VALID."""
    kind = call.option("Padding")
    if kind == tflite.Padding.SAME:
        return same_pads(sizes, kernel, strides, dilations, "SAME_UPPER")
    if kind != tflite.Padding.VALID:
        raise call.corrupt(f"padding {kind} does not exist")
    return [0] * 2 * len(sizes)


def bias_of(call: Call, place: int, channels: int, *, weight: int = 1, data: int = 0) -> ir.Value | None:
    """The bias, None where it is left out; a stored one has the scale that its layer's products have."""
    if not call.has(place):
        return None
    tensor = call.tensor(place)
    if call.shape(place) != (channels,):
        raise call.corrupt(f"a bias of shape {list(call.shape(place))} does not fit {channels} channels")
    scales = [call.tensor(number).quantization for number in (data, weight)]
    if tensor.data is None or tensor.data.dtype.kind != "i" or scales[0] is None or scales[1] is None:
        return call.get(place)
    product = scales[0].scale.astype(np.float32) * scales[1].scale.astype(np.float32)
    return call.values.scaled_integers(f"{call.name}_bias", tensor.data, tensor.kind, product)
