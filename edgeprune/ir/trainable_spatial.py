"""Rows of the trainable table for convolution, pooling, padding and resizing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from edgeprune.ir.interpolation import resamplings
from edgeprune.ir.trainable_node import Facts, Row, Tensor

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAXIMA: dict[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_AVERAGES: dict[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}
Ends = list[tuple[int, int]]


def _ends(
    facts: Facts, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Ends:
    """Padding before and after each spatial axis."""
    mode = facts.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return [_same(*axis, mode == "SAME_LOWER") for axis in zip(sizes, kernel, strides, dilations, strict=True)]
    rank = len(sizes)
    pads = [0] * (2 * rank) if mode == "VALID" else facts.get("pads", [0] * (2 * rank))
    return list(zip(pads[:rank], pads[rank:], strict=True))


def _same(size: int, kernel: int, stride: int, dilation: int, lower: bool) -> tuple[int, int]:
    total = max(0, (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def _padded(x: Tensor, ends: Ends, value: float = 0.0) -> Tensor:
    flat = [number for pair in reversed(ends) for number in pair]
    return functional.pad(x, flat, value=value) if any(flat) else x


def conv(facts: Facts, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """ONNX Conv of one to three spatial axes."""
    rank = x.ndim - 2
    strides, dilations = facts.get("strides", [1] * rank), facts.get("dilations", [1] * rank)
    ends = _ends(facts, x.shape[2:], weight.shape[2:], strides, dilations)
    if all(before == after for before, after in ends):
        padding = [before for before, _ in ends]
    else:
        x, padding = _padded(x, ends), [0] * rank
    return _CONVOLUTIONS[rank](x, weight, bias, strides, padding, dilations, facts.get("group", 1))


def conv_transpose(facts: Facts, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """ONNX ConvTranspose with explicit padding."""
    rank = x.ndim - 2
    if facts.get("output_shape") is not None or facts.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise facts.refuse("its padding is given by the output shape")
    strides, dilations = facts.get("strides", [1] * rank), facts.get("dilations", [1] * rank)
    pads, extra = facts.get("pads", [0] * (2 * rank)), facts.get("output_padding", [0] * rank)
    full = _TRANSPOSED[rank](x, weight, bias, strides, 0, 0, facts.get("group", 1), dilations)
    cut = [(-before, more - after) for before, after, more in zip(pads[:rank], pads[rank:], extra, strict=True)]
    if bias is not None and any(after > 0 for _, after in cut):
        raise facts.refuse("its output padding reaches beyond its input")
    return _padded(full, cut)


def _windows(facts: Facts, x: Tensor) -> tuple[list[int], list[int], list[int], Ends, Ends]:
    """Kernel, strides, dilations, declared padding, and what ceil_mode adds after each axis."""
    kernel = facts.get("kernel_shape")
    strides, dilations = facts.get("strides", [1] * len(kernel)), facts.get("dilations", [1] * len(kernel))
    ends = _ends(facts, x.shape[2:], kernel, strides, dilations)
    extra = []
    for size, side, step, dilation, (before, after) in zip(x.shape[2:], kernel, strides, dilations, ends, strict=True):
        span = size + before + after - (side - 1) * dilation - 1
        count = math.ceil(span / step) if facts.get("ceil_mode", 0) else span // step
        count -= count * step >= size + before
        extra.append((0, max(0, count * step - span)))
    return list(kernel), list(strides), list(dilations), ends, extra


def max_pool(facts: Facts, x: Tensor) -> Tensor:
    """ONNX MaxPool, values only."""
    if facts.outputs > 1:
        raise facts.refuse("it returns indices")
    kernel, strides, dilations, ends, extra = _windows(facts, x)
    whole = [(before, after + more) for (before, after), (_, more) in zip(ends, extra, strict=True)]
    if all(before == after and 2 * before <= side for (before, after), side in zip(whole, kernel, strict=True)):
        padding = [before for before, _ in whole]
    else:
        x, padding = _padded(x, whole, -math.inf), [0] * len(kernel)
    return _MAXIMA[len(kernel)](x, kernel, strides, padding, dilations)


def average_pool(facts: Facts, x: Tensor) -> Tensor:
    """ONNX AveragePool; what ceil_mode adds is never counted, padding where count_include_pad says so."""
    kernel, strides, dilations, ends, extra = _windows(facts, x)
    if any(dilation != 1 for dilation in dilations):
        raise facts.refuse("it is dilated")
    average = _AVERAGES[len(kernel)]
    whole = [(before, after + more) for (before, after), (_, more) in zip(ends, extra, strict=True)]
    if not any(number for pair in whole for number in pair):
        return average(x, kernel, strides)
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    counted = _padded(counted, ends, 1.0 if facts.get("count_include_pad", 0) else 0.0)
    return average(_padded(x, whole), kernel, strides) / average(_padded(counted, extra), kernel, strides)


def pad(facts: Facts, x: Tensor, *_: Tensor | None) -> Tensor:
    """ONNX Pad: constant, reflect, edge or wrap."""
    pads, axes = facts.integers(1, "pads"), facts.integers(3)
    if pads is None:
        raise facts.refuse("it has no padding")
    axes = list(range(x.ndim)) if axes is None else axes
    ends = [(0, 0)] * x.ndim
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        ends[axis] = (before, after)
    mode = facts.get("mode", "constant")
    if mode == "constant":
        value = facts.constant(2)
        return _padded(x, ends, facts.get("value", 0.0) if value is None else float(value.reshape(-1)[0]))
    for axis, (before, after) in enumerate(ends):
        if before or after:
            places = np.arange(x.shape[axis])[max(0, -before) : x.shape[axis] - max(0, -after)]
            places = np.pad(places, (max(0, before), max(0, after)), mode=mode)
            x = x.index_select(axis, torch.from_numpy(places).to(x.device))
    return x


def resize(facts: Facts, x: Tensor, *_: Tensor | None) -> Tensor:
    """ONNX Resize, one axis after the other."""
    sizes = facts.constant(3)
    scales = facts.constant(2) if sizes is None else None
    found = resamplings(x.shape, facts.attributes, facts.constant(1), scales, sizes)
    inside: Tensor | None = None
    for each in found:
        if each.copies:
            x = x.index_select(each.axis, torch.from_numpy(each.taps[0]).to(x.device))
            continue
        matrix = torch.from_numpy(each.matrix(x.shape[each.axis])).to(x)
        x = (x.movedim(each.axis, -1) @ matrix).movedim(-1, each.axis)
        if not each.inside.all():
            shape = [-1 if axis == each.axis else 1 for axis in range(x.ndim)]
            mask = torch.from_numpy(each.inside).to(x.device).reshape(shape)
            inside = mask if inside is None else inside & mask
    return x if inside is None else x.where(inside, x.new_tensor(facts.get("extrapolation_value", 0.0)))


SPATIAL: dict[str, Row] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": lambda _, x: x.mean(dim=tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda _, x: x.amax(dim=tuple(range(2, x.ndim)), keepdim=True),
    "Pad": pad,
    "Resize": resize,
}
