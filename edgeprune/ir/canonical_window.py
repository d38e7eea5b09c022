"""Makes convolutions and pools explicit: kernel, strides, dilations, pads; folds a Pad before them into their pads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import constant

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_POOLS = ("MaxPool", "AveragePool", "LpPool")


def make_windows_explicit(model: ir.Model) -> None:
    """Write kernel_shape, strides, dilations, pads, group on every convolution and pool, drop auto_pad, in place."""
    for node in model.graph:
        if node.op_type in _CONVOLUTIONS + _POOLS and not node.domain:
            _make_explicit(node)


def _make_explicit(node: ir.Node) -> None:
    attributes = node.attributes
    kernel = _kernel_shape(node)
    rank = len(kernel)
    strides = list(attributes.get_ints("strides", [1] * rank))
    dilations = list(attributes.get_ints("dilations", [1] * rank))
    mode = attributes.get_string("auto_pad", "NOTSET")
    pads = list(attributes.get_ints("pads", [0] * 2 * rank))
    if node.op_type == "ConvTranspose":
        pads = _transposed_pads(node, mode, pads, kernel, strides, dilations)
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_pads(_spatial(node.inputs[0], rank), kernel, strides, dilations, mode)
    elif mode == "VALID":
        pads = [0] * 2 * rank
    for name in ("auto_pad", "output_shape"):
        attributes.pop(name, None)
    explicit = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if node.op_type in (*_CONVOLUTIONS, "MaxPool", "LpPool"):
        explicit["dilations"] = dilations
    for name, value in explicit.items():
        attributes.add(ir.AttrInt64s(name, value))
    if node.op_type in _CONVOLUTIONS:
        attributes.add(ir.AttrInt64("group", attributes.get_int("group", 1)))


def _kernel_shape(node: ir.Node) -> list[int]:
    given = node.attributes.get_ints("kernel_shape")
    if given is not None:
        return list(given)
    weight = node.inputs[1]
    assert weight is not None
    return _spatial(weight, len(weight.shape or ()) - 2)


def _spatial(value: ir.Value | None, rank: int) -> list[int]:
    if value is None or value.shape is None or not value.shape.is_static() or len(value.shape) != rank + 2:
        raise ValueError(f"tensor '{value.name if value else ''}' has no fixed shape of rank {rank + 2}")
    return [int(size) for size in value.shape.numpy()[2:]]


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], mode: str
) -> list[int]:
    """ONNX pads (all begins, then all ends) that make the output ceil(size / stride) long on every axis."""
    begins, ends = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return begins + ends


def _transposed_pads(
    node: ir.Node, mode: str, pads: list[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> list[int]:
    rank = len(kernel)
    wanted = node.attributes.get_ints("output_shape")
    if mode == "VALID" and wanted is None:
        return [0] * 2 * rank
    if mode == "NOTSET" and wanted is None:
        return pads
    extra = node.attributes.get_ints("output_padding", [0] * rank)
    sizes = _spatial(node.inputs[0], rank)
    targets = list(wanted[-rank:]) if wanted is not None else [n * s for n, s in zip(sizes, strides, strict=True)]
    begins, ends = [], []
    for axis in range(rank):
        full = strides[axis] * (sizes[axis] - 1) + extra[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = max(full - targets[axis], 0)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return begins + ends


def fold_pads(model: ir.Model) -> None:
    """Fold a constant Pad into the pool after it where the result is exactly the same, in place.

    Zeros fold into an average that counts its padding; minus infinity, or zeros after Relu, into a maximum.
    """
    for node in model.graph:
        source = node.inputs[0] if node.op_type in ("MaxPool", "AveragePool") and not node.domain else None
        pad = source.producer() if source is not None else None
        if pad is None or pad.op_type != "Pad" or len(node.outputs) > 1:
            continue
        added = _spatial_padding(pad)
        data = pad.inputs[0]
        if added is None or data is None or not _pad_is_exact(node, pad, data, added):
            continue
        old = node.attributes.get_ints("pads", [0] * len(added))
        node.attributes.add(ir.AttrInt64s("pads", [a + b for a, b in zip(old, added, strict=True)]))
        if node.op_type == "AveragePool":
            node.attributes.add(ir.AttrInt64("count_include_pad", 1))
        node.replace_input_with(0, data)


def _spatial_padding(pad: ir.Node) -> list[int] | None:
    """The Pad's amounts on the spatial axes, begins then ends; None where it pads anything else or crops."""
    amounts = constant(pad.inputs[1])
    axes_input = pad.inputs[3] if len(pad.inputs) > 3 else None
    data = pad.inputs[0]
    if (
        amounts is None
        or data is None
        or data.shape is None
        or pad.attributes.get_string("mode", "constant") != "constant"
    ):
        return None
    rank = len(data.shape)
    given = constant(axes_input)
    if axes_input is not None and given is None:
        return None
    axes = [int(axis) % rank for axis in (range(rank) if given is None else given)]
    full = np.zeros((2, rank), np.int64)
    full[:, axes] = amounts.reshape(2, -1)
    if np.any(full < 0) or np.any(full[:, :2]):
        return None
    return [int(amount) for amount in full[:, 2:].reshape(-1)]


def _pad_is_exact(node: ir.Node, pad: ir.Node, data: ir.Value, added: list[int]) -> bool:
    fill_input = pad.inputs[2] if len(pad.inputs) > 2 else None
    fill = constant(fill_input)
    value = 0.0 if fill_input is None else np.nan if fill is None else float(fill.reshape(-1)[0])
    kernel = node.attributes.get_ints("kernel_shape", [])
    old = list(node.attributes.get_ints("pads", [0] * len(added)))
    if node.attributes.get_int("ceil_mode") == 1 or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return False
    if any(
        total >= taps
        for total, taps in zip([a + b for a, b in zip(old, added, strict=True)], [*kernel, *kernel], strict=True)
    ):
        return False
    if node.op_type == "AveragePool":
        return value == 0.0 and (not any(old) or node.attributes.get_int("count_include_pad") == 1)
    producer = data.producer()
    return value == -np.inf or (value == 0.0 and producer is not None and producer.op_type in ("Relu", "Sigmoid"))
