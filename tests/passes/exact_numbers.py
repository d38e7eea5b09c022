"""Quantized models computed in float64: sums are exact enough that their order decides no rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as functional

from edgeprune.ir.edit import constant

Numbers = torch.Tensor
Operator = Callable[..., Numbers]


def exact(model: ir.Model, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of `model` by name, float64."""
    held: dict[str, Numbers] = {name: torch.from_numpy(array.astype(np.float64)) for name, array in inputs.items()}
    for node in model.graph:
        given = [None if value is None else _read(held, value) for value in node.inputs]
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        held[str(node.outputs[0].name)] = _OPERATORS[node.op_type](attributes, *given)
    return {str(value.name): held[str(value.name)].numpy() for value in model.graph.outputs}


def _read(held: dict[str, Numbers], value: ir.Value) -> Numbers:
    name = str(value.name)
    if name not in held:
        array = constant(value)
        assert array is not None
        held[name] = torch.from_numpy(np.array(array, np.float64))
        if array.dtype.kind in "iu":
            held[name].limits = np.iinfo(array.dtype)  # type: ignore[attr-defined]
    return held[name]


def _along(attributes: Mapping[str, object], data: Numbers, array: Numbers) -> Numbers:
    if array.numel() == 1:
        return array.reshape(())
    axis = attributes.get("axis", 1)
    return array.reshape([-1 if place == axis else 1 for place in range(data.ndim)])


def _quantize(attributes: dict[str, object], data: Numbers, scale: Numbers, zero: Numbers) -> Numbers:
    limits = zero.limits  # type: ignore[attr-defined]
    whole = torch.round(data / _along(attributes, data, scale)) + _along(attributes, data, zero)
    return whole.clamp(int(limits.min), int(limits.max))


def _dequantize(attributes: dict[str, object], data: Numbers, scale: Numbers, zero: Numbers | None = None) -> Numbers:
    start = torch.zeros(()) if zero is None else zero
    return (data - _along(attributes, data, start)) * _along(attributes, data, scale)


def _conv(attributes: dict[str, object], data: Numbers, weight: Numbers, bias: Numbers | None = None) -> Numbers:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))  # type: ignore[misc]
    padded = functional.pad(data, (left, right, top, bottom))
    strides, dilations = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    return functional.conv2d(padded, weight, bias, strides, 0, dilations, attributes.get("group", 1))  # type: ignore[arg-type]


def _gemm(attributes: dict[str, object], data: Numbers, weight: Numbers, bias: Numbers | None = None) -> Numbers:
    product = data @ (weight.T if attributes.get("transB") else weight)
    return product if bias is None else product + bias


def _max_pool(attributes: dict[str, object], data: Numbers) -> Numbers:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))  # type: ignore[misc]
    padded = functional.pad(data, (left, right, top, bottom), value=-np.inf)
    return functional.max_pool2d(padded, attributes["kernel_shape"], attributes.get("strides", 1))  # type: ignore[arg-type]


_OPERATORS: dict[str, Operator] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": _conv,
    "Gemm": _gemm,
    "MaxPool": _max_pool,
    "GlobalAveragePool": lambda attributes, data: data.mean(dim=(2, 3), keepdim=True),
    "Add": lambda attributes, left, right: left + right,
    "Mul": lambda attributes, left, right: left * right,
    "Relu": lambda attributes, data: data.clamp(min=0),
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Transpose": lambda attributes, data: data.permute(attributes["perm"]),
    "Reshape": lambda attributes, data, shape: data.reshape([int(size) for size in shape]),
    "Flatten": lambda attributes, data: data.reshape(len(data), -1),
    "Softmax": lambda attributes, data: torch.softmax(data, attributes.get("axis", -1)),
    "Identity": lambda attributes, data: data,
}
