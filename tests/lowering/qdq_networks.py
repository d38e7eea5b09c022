"""Small networks in QDQ form with awkward sizes and connections, for tests.

Scales are powers of two, so that every product and sum of float32 is exact, whoever computes it in whatever order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from lowered import graph_model
from onnx import helper

_INTEGERS = {"int8": np.int8, "uint8": np.uint8}


def power(scale: Any) -> np.ndarray:
    """The power of two next to `scale`."""
    return np.asarray(np.exp2(np.rint(np.log2(scale))), np.float32)


class Network:
    """Grows a QDQ model; values have names, and `seed` decides every number."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.count = 0

    def constant(self, value: Any, stem: str = "k") -> str:
        self.count += 1
        self.constants[f"{stem}{self.count}"] = np.asarray(value)
        return f"{stem}{self.count}"

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        self.count += 1
        name = f"{op}_{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def quantized(self, value: str, scale: float, zero: int = 0, dtype: str = "int8", read: float | None = None) -> str:
        """`value` rounded to 8 bits; `read` is the scale that it is read with, where that is another."""
        at = self.constant(np.array(zero, _INTEGERS[dtype]))
        step = self.constant(power(scale))
        stored = self.node("QuantizeLinear", [value, step, at])
        other = step if read is None else self.constant(power(read))
        return self.node("DequantizeLinear", [stored, other, at])

    def weight(self, shape: tuple[int, ...], dtype: str = "int8", zero: int = 0, kept: float = 1.0) -> tuple[str, Any]:
        """A weight in integers; symmetric with a scale for each output channel, or with one and a zero point."""
        low, high = (-127, 128) if dtype == "int8" else (0, 256)
        stored = self.random.integers(low, high, shape).astype(_INTEGERS[dtype])
        stored[self.random.random(shape) >= kept] = zero
        scale = power(self.random.uniform(0.002, 0.01, shape[0] if dtype == "int8" else ()))
        inputs = [self.constant(stored, "w"), self.constant(scale)]
        if dtype == "uint8":
            return self.node("DequantizeLinear", [*inputs, self.constant(np.array(zero, np.uint8))]), scale
        return self.node("DequantizeLinear", inputs, axis=0), scale

    def bias(self, scale: Any, outputs: int) -> str:
        stored = self.random.integers(-500, 500, outputs).astype(np.int32)
        spread = np.broadcast_to(np.asarray(scale, np.float32), (outputs,)).copy()
        return self.node("DequantizeLinear", [self.constant(stored, "b"), self.constant(spread)], axis=0)

    def conv(self, x: str, x_scale: float, shape: tuple[int, ...], dtype: str = "int8", zero: int = 0,
             kept: float = 1.0, **attributes: Any) -> str:  # fmt: skip
        weight, scale = self.weight(shape, dtype, zero, kept)
        return self.node("Conv", [x, weight, self.bias(scale * power(x_scale), shape[0])], **attributes)

    def model(self, inputs: dict[str, list[int]], outputs: list[str]) -> onnx.ModelProto:
        return graph_model(self.nodes, inputs, outputs, self.constants)


def residual(seed: int) -> onnx.ModelProto:
    """A sum of two rounded branches and one that is not rounded, with odd channels and uneven pads."""
    n = Network(seed)
    x = n.quantized("x", 0.031, -7)
    a = n.quantized(n.node("Relu", [n.conv(x, 0.031, (13, 5, 3, 3), pads=[1, 1, 1, 1])]), 0.027, -128)
    b = n.quantized(n.conv(a, 0.027, (13, 13, 3, 3), pads=[2, 0, 0, 2], kept=0.3), 0.11, 4)
    c = n.node("Relu", [n.node("Add", [a, b])])
    d = n.node("Add", [n.quantized(c, 0.07, -128), n.conv(n.quantized(c, 0.07, -128), 0.07, (13, 13, 1, 1))])
    return n.model({"x": [2, 5, 7, 9]}, [n.quantized(d, 0.09, 3), c])


def joined(seed: int) -> onnx.ModelProto:
    """Parts of different and of equal scales put together, taken apart, padded and read by convolutions."""
    n = Network(seed)
    x = n.quantized("x", 0.02, 100, "uint8")
    a = n.quantized(n.conv(x, 0.02, (6, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]), 0.05, 128, "uint8")
    b = n.quantized(n.conv(x, 0.02, (5, 3, 1, 1), strides=[2, 2]), 0.03, 120, "uint8")
    whole = n.quantized(n.node("Concat", [a, b], axis=1), 0.05, 128, "uint8")
    padded = n.node("Pad", [whole, n.constant(np.array([0, 0, 1, 1, 0, 0, 1, 0]))])
    out = n.quantized(n.conv(padded, 0.05, (9, 11, 2, 2), dtype="uint8", zero=131), 0.2, 90, "uint8")
    same = n.quantized(n.node("Concat", [a, n.quantized(n.node("Neg", [a]), 0.05, 128, "uint8")], axis=1), 0.05, 128,
                       "uint8")  # fmt: skip
    return n.model({"x": [1, 3, 10, 12]}, [out, same, n.conv(same, 0.05, (4, 12, 1, 1))])


def windows(seed: int) -> onnx.ModelProto:
    """Pools of every kind, upsampling, depthwise and grouped convolutions."""
    n = Network(seed)
    x = n.quantized("x", 0.04, 10)
    d = n.quantized(n.conv(x, 0.04, (12, 1, 3, 3), group=12, pads=[1, 1, 1, 1]), 0.06, -20)
    m = n.quantized(n.node("MaxPool", [d], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 0.06, -20)
    v = n.quantized(n.node("AveragePool", [d], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), 0.05, -20)
    g = n.quantized(n.conv(n.quantized(n.node("Add", [m, v]), 0.1, 5), 0.1, (8, 3, 3, 3), group=4, dilations=[2, 2],
                           pads=[2, 2, 2, 2]), 0.2, 1)  # fmt: skip
    scales = n.constant(np.array([1, 1, 2, 2], np.float32))
    u = n.quantized(n.node("Resize", [g, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric",
                           nearest_mode="floor"), 0.2, 1)  # fmt: skip
    low = n.quantized(n.conv(u, 0.2, (16, 1, 3, 3), group=8, strides=[2, 2]), 0.6, 0)
    return n.model({"x": [1, 12, 9, 11]}, [n.node("GlobalAveragePool", [low]), low])


def dense(seed: int) -> onnx.ModelProto:
    """Linear layers on rows, functions between them, a softmax and outputs that are rounded."""
    n = Network(seed)
    x = n.quantized("x", 0.03, 0)
    weight, scale = n.weight((19, 11))
    turned = n.node("Transpose", [weight], perm=[1, 0])
    h = n.node("Add", [n.node("MatMul", [x, turned]), n.bias(scale * power(0.03), 19)])
    s = n.quantized(n.node("Sigmoid", [n.quantized(h, 0.05, 9)]), 1 / 256, -128)
    back, _ = n.weight((7, 19))
    y = n.quantized(n.node("MatMul", [s, n.node("Transpose", [back], perm=[1, 0])]), 0.02, -5)
    p = n.quantized(n.node("Softmax", [y], axis=-1), 1 / 256, -128)
    return n.model({"x": [1, 6, 11]}, [p, y])


def tangled(seed: int) -> onnx.ModelProto:
    """A value that is read in real numbers and on two grids; one that is written on a grid and read on another."""
    n = Network(seed)
    a = n.conv(n.quantized("x", 0.03, 3), 0.03, (8, 4, 3, 3), pads=[1, 1, 1, 1])
    coarse, fine = n.quantized(a, 0.2, 0), n.quantized(a, 0.04, -11)
    again = n.quantized(n.node("Neg", [coarse]), 0.5, 7)
    scaled = n.quantized(a, 0.05, -11, read=1.0)
    out = n.quantized(n.conv(scaled, 1.0, (6, 8, 1, 1)), 3.0, 0)
    turned = n.node("Transpose", [fine], perm=[0, 2, 3, 1])
    return n.model({"x": [1, 4, 5, 6]}, [out, again, n.node("Mul", [a, fine]), turned])


def ports(seed: int) -> onnx.ModelProto:
    """Inputs and outputs that are integers themselves, and a layer whose weights stay real."""
    n = Network(seed)
    x = n.quantized("x", 0.03, 3)
    real = n.constant(np.rint(8 * n.random.standard_normal((6, 4, 3, 3))).astype(np.float32) / 8)
    a = n.quantized(n.node("Conv", [x, real]), 0.1, -9)
    step, at = n.constant(power(0.2)), n.constant(np.array(2, np.int8))
    out = n.node("QuantizeLinear", [n.conv(a, 0.1, (5, 6, 1, 1)), step, at])
    model = n.model({"x": [1, 4, 6, 6]}, [out])
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT8
    return model


NETWORKS: dict[str, Callable[[int], onnx.ModelProto]] = {
    function.__name__: function for function in (residual, joined, windows, dense, tangled, ports)
}
