"""The tensors of a TFLite subgraph as ONNX values: in the axis order that each operator wants, and real-valued."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.frontend.tflite.graph import GraphBuilder, shape_of
from edgeprune.frontend.tflite.schema import Quantization, Subgraph, Tensor
from edgeprune.frontend.tflite.states import States

Order = tuple[int, ...]
"""Which TFLite axis stands at each place: (0, 1, 2, 3) as TFLite has it, (0, 3, 1, 2) channels first."""

_STORED_LIMITS = {
    "INT4": (-8, 7), "INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767),
    "INT32": (-(2**31), 2**31 - 1), "INT64": (-(2**63), 2**63 - 1),
}  # fmt: skip
_STANDARD_KINDS = ("INT8", "UINT8")
_EXACT_IN_FLOAT = 1 << 24


def natural(rank: int) -> Order:
    """The axes as TFLite has them."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """The order that ONNX wants of images: batch, channels (TFLite's last axis), the rest."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else natural(rank)


def limits_of(tensor: Tensor) -> tuple[float, float]:
    """The real numbers between which a tensor with one scale can store anything; infinite for plain numbers."""
    if tensor.quantization is None:
        return -math.inf, math.inf
    lowest, highest = _STORED_LIMITS[tensor.kind]
    scale, zero = float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0])
    return (lowest - zero) * scale, (highest - zero) * scale


class Values:
    """What is known of each tensor, real-valued, by axis order; other orders are made once, when they are asked for."""

    def __init__(self, builder: GraphBuilder, subgraph: Subgraph) -> None:
        self.builder = builder
        self.tensors = subgraph.tensors
        self.states = States(builder)
        self._held: dict[int, dict[Order, ir.Value]] = {}
        self._stored_as: dict[int, tuple[Order, ir.Value]] = {}

    def put(self, index: int, value: ir.Value, order: Order | None = None, *, exact: bool = False) -> None:
        """Make `value`, in `order`, the tensor `index`: rounded to what the tensor can store, unless it is `exact`."""
        order = natural(len(shape_of(value))) if order is None else order
        tensor = self.tensors[index]
        held = value if exact or tensor.quantization is None else self._stored(index, value, order)
        self._held[index] = {order: held}

    def rounded(self, index: int, value: ir.Value) -> ir.Value:
        """`value` rounded to what tensor `index` can store."""
        if self.tensors[index].quantization is None:
            return value
        return self._stored(index, value, natural(len(shape_of(value))))

    def get(self, index: int, order: Order | None = None) -> ir.Value:
        """Tensor `index` in `order`. Raises ValueError where nothing has made it."""
        if index not in self._held and self.tensors[index].data is not None:
            return self._constant(index, order)
        held = self._held.get(index)
        if held is None:
            raise ValueError(f"tensor {index} ('{self.tensors[index].name}') has no value")
        known, value = next(iter(held.items()))
        order = natural(len(known)) if order is None else order
        if order not in held:
            turn = [known.index(axis) for axis in order]
            held[order] = self.turned(value, turn)
        return held[order]

    def steps(self, index: int, order: Order | None = None) -> ir.Value | None:
        """Tensor `index` of 8 bits in steps of its scale, in `order`; None for anything else."""
        if index not in self._stored_as:
            return None
        known, stored = self._stored_as[index]
        zero = stored.producer().inputs[2]  # type: ignore[union-attr]
        one = self.builder.constant(np.ones((), np.float32), f"{stored.name}_one")
        value = self.builder.add(f"{stored.name}_steps", "DequantizeLinear", [stored, one, zero], {})
        order = natural(len(known)) if order is None else order
        return self.turned(value, [known.index(axis) for axis in order])

    def put_steps(self, index: int, value: ir.Value, order: Order | None = None) -> None:
        """Make `value`, in steps of the scale of tensor `index` of 8 bits, that tensor."""
        order = natural(len(shape_of(value))) if order is None else order
        tensor = self.tensors[index]
        name = tensor.name.partition(";")[0] or str(value.name)
        assert tensor.quantization is not None and tensor.dtype is not None
        scale, zero = self._parameters(name, tensor.dtype, tensor.quantization)
        one = self.builder.constant(np.ones((), np.float32), f"{name}_one")
        stored = self.builder.add(f"{name}_quantize", "QuantizeLinear", [value, one, zero], {})
        self._stored_as[index] = (order, stored)
        self._held[index] = {
            order: self.builder.add(f"{name}_dequantize", "DequantizeLinear", [stored, scale, zero], {})
        }

    def known(self, index: int) -> bool:
        """Whether something has made tensor `index`."""
        return index in self._held

    def order(self, index: int) -> Order:
        """The order in which tensor `index` is at hand; a constant has any and gives TFLite's."""
        held = self._held.get(index)
        return next(iter(held)) if held else natural(len(self.tensors[index].shape))

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of tensor `index` as TFLite has it."""
        held = self._held.get(index)
        if held is None:
            return self.tensors[index].shape
        order, value = next(iter(held.items()))
        sizes = shape_of(value)
        return tuple(sizes[order.index(axis)] for axis in range(len(order)))

    def turned(self, value: ir.Value, turn: Sequence[int]) -> ir.Value:
        """`value` with axis turn[i] at place i: a reshape where only axes of size 1 move."""
        if list(turn) == sorted(turn):
            return value
        shape = shape_of(value)
        name = f"{value.name}_turned"
        long = [axis for axis in turn if shape[axis] != 1]
        if long == sorted(long):
            sizes = self.builder.constant(np.array([shape[axis] for axis in turn], np.int64), f"{name}_shape")
            return self.builder.add(name, "Reshape", [value, sizes], {})
        return self.builder.add(name, "Transpose", [value], {"perm": list(turn)})

    def dequantized(self, name: str, array: np.ndarray, kind: str, quantization: Quantization, axis: int) -> ir.Value:
        """Constant stored numbers as a real-valued value; 8-bit numbers and small 32-bit ones stay as they are."""
        scale, zero = quantization.scale, quantization.zero_point
        standard = kind in ("INT4", *_STANDARD_KINDS) or (kind == "INT32" and not zero.any())
        if not standard or array.size == 0:
            shape = [-1 if place == axis else 1 for place in range(array.ndim)] if scale.size > 1 else []
            real = (array.astype(np.float64) - zero.reshape(shape)) * scale.astype(np.float64).reshape(shape)
            return self.builder.constant(real.astype(np.float32), name)
        parameters = self._parameters(name, array.dtype, quantization)[: 1 if kind == "INT32" else 2]
        inputs = [self.builder.constant(array, f"{name}_stored"), *parameters]
        attributes = {"axis": axis} if scale.size > 1 else {}
        return self.builder.add(f"{name}_dequantize", "DequantizeLinear", inputs, attributes)

    def scaled_integers(self, name: str, array: np.ndarray, kind: str, scale: np.ndarray) -> ir.Value:
        """A constant vector of integers times one scale, or one scale for each."""
        return self.dequantized(name, array, kind, Quantization(scale, np.zeros(scale.size, np.int64)), 0)

    def _parameters(self, name: str, dtype: np.dtype, quantization: Quantization) -> list[ir.Value]:
        many = quantization.scale.size > 1
        scale = quantization.scale if many else quantization.scale[0]
        zero = quantization.zero_point if many else quantization.zero_point[0]
        return [
            self.builder.constant(np.asarray(scale, np.float32), f"{name}_scale"),
            self.builder.constant(np.asarray(zero, dtype), f"{name}_zero_point"),
        ]

    def _constant(self, index: int, order: Order | None) -> ir.Value:
        tensor = self.tensors[index]
        assert tensor.data is not None
        order = natural(tensor.data.ndim) if order is None else order
        held = self._held.setdefault(index, {})
        name = tensor.name or f"constant_{index}"
        array = np.asarray(tensor.data.transpose(order), order="C")
        if tensor.quantization is None:
            dtype = np.float32 if array.dtype.kind == "f" else array.dtype
            held[order] = self.builder.constant(array.astype(dtype, copy=False), name)
        else:
            axis = order.index(tensor.quantization.axis) if order else 0
            held[order] = self.dequantized(name, array, tensor.kind, tensor.quantization, axis)
        return held[order]

    def _stored(self, index: int, value: ir.Value, order: Order) -> ir.Value:
        """`value` rounded to the numbers that tensor `index` can store."""
        tensor = self.tensors[index]
        quantization, name = tensor.quantization, tensor.name.partition(";")[0] or str(value.name)
        assert quantization is not None
        if tensor.kind not in _STANDARD_KINDS:
            return self._rounded(tensor, value, name)
        assert tensor.dtype is not None
        parameters = self._parameters(name, tensor.dtype, quantization)
        attributes = {} if quantization.per_tensor else {"axis": order.index(quantization.axis)}
        stored = self.builder.add(f"{name}_quantize", "QuantizeLinear", [value, *parameters], attributes)
        if quantization.per_tensor:
            self._stored_as[index] = (order, stored)
        return self.builder.add(f"{name}_dequantize", "DequantizeLinear", [stored, *parameters], attributes)

    def _rounded(self, tensor: Tensor, value: ir.Value, name: str) -> ir.Value:
        """The same in plain arithmetic, for 16 bits and more, which the operator set's QuantizeLinear lacks.

        Numbers of more than 24 bits are finer than float32 and stay as they are.
        """
        quantization, (lowest, highest) = tensor.quantization, _STORED_LIMITS[tensor.kind]
        assert quantization is not None
        if not quantization.per_tensor:
            raise ValueError(f"tensor '{tensor.name}' has scales for each channel")
        if highest > _EXACT_IN_FLOAT:
            return value
        zero = int(quantization.zero_point[0])
        scale = self.builder.constant(np.asarray(quantization.scale[0], np.float32), f"{name}_scale")
        bounds = [
            self.builder.constant(np.array(bound - zero, np.float32), f"{name}_bound") for bound in (lowest, highest)
        ]
        steps = self.builder.add(f"{name}_steps", "Div", [value, scale], {})
        whole = self.builder.add(f"{name}_round", "Round", [steps], {})
        kept = self.builder.add(f"{name}_clip", "Clip", [whole, *bounds], {})
        return self.builder.add(f"{name}_real", "Mul", [kept, scale], {})
