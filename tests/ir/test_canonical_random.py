"""Random networks, in several operator sets, against ONNX Runtime on the untouched model."""

from __future__ import annotations

import numpy as np
from canonical_cases import Graph, check
from hypothesis import given, settings
from hypothesis import strategies as st

STEPS = ("conv", "norm", "arithmetic", "relu", "pool", "pad", "transposed", "reshape", "residual", "concat", "slice")


class Network:
    """Grows one image network, keeping track of its shape (1, channels, height, width)."""

    def __init__(self, seed: int) -> None:
        self.graph = Graph(seed)
        self.random = self.graph.random
        self.value, self.shape = "x", (1, 4, 9, 8)

    def pick(self, *choices):
        return choices[self.random.integers(len(choices))]

    def conv(self) -> None:
        groups, kernel = self.pick(1, 1, 2), self.pick(1, 2, 3)
        channels = self.shape[1]
        if channels % groups or min(self.shape[2:]) < 3:
            return
        outputs = groups * self.pick(1, 2, 3)
        padding = self.pick({"pads": [1, 0, 0, 1]}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}, {})
        bias = [self.graph.weight(outputs)] if self.pick(True, False) else []
        weight = self.graph.weight(outputs, channels // groups, kernel, kernel)
        self.value = self.graph.node("Conv", self.value, weight, *bias, group=groups, **padding)
        grown = {"pads": 2 - kernel, "auto_pad": 0 if padding.get("auto_pad") == "SAME_LOWER" else 1 - kernel}
        step = grown[next(iter(padding))] if padding else 1 - kernel
        self.shape = (1, outputs, self.shape[2] + step, self.shape[3] + step)

    def transposed(self) -> None:
        if max(self.shape[2:]) > 20:
            return
        weight = self.graph.weight(self.shape[1], 3, 2, 2)
        self.value = self.graph.node("ConvTranspose", self.value, weight, strides=[2, 2])
        self.shape = (1, 3, self.shape[2] * 2, self.shape[3] * 2)

    def norm(self) -> None:
        c = self.shape[1]
        statistics = [self.graph.positive(c), self.graph.weight(c), self.graph.weight(c), self.graph.positive(c)]
        self.value = self.graph.node("BatchNormalization", self.value, *statistics)

    def arithmetic(self) -> None:
        shape = self.pick((), (1,), (self.shape[1], 1, 1), (1, self.shape[1], 1, 1), self.shape, self.shape[3:])
        operands = [self.value, self.graph.positive(*shape)]
        self.value = self.graph.node(self.pick("Add", "Sub", "Mul", "Div"), *operands[:: self.pick(1, 1, -1)])

    def relu(self) -> None:
        self.value = self.graph.node(self.pick("Relu", "Sigmoid", "Identity", "LeakyRelu"), self.value)

    def pool(self) -> None:
        if min(self.shape[2:]) < 4:
            return
        op = self.pick("MaxPool", "AveragePool")
        self.value = self.graph.node(op, self.value, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])

    def pad(self) -> None:
        amounts = self.graph.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1]))
        fill = [self.graph.constant(np.float32(self.pick(0, 0, 1)))] if self.pick(True, False) else []
        self.value = self.graph.node("Pad", self.value, amounts, *fill)
        self.shape = (*self.shape[:2], self.shape[2] + 1, self.shape[3] + 1)

    def reshape(self) -> None:
        rows = self.graph.node("Reshape", self.value, self.graph.constant(np.array([0, 0, -1])))
        self.value = self.graph.node("Reshape", rows, self.graph.node("Shape", self.value))

    def residual(self) -> None:
        self.value = self.graph.node("Add", self.value, self.graph.node("Relu", self.value))

    def concat(self) -> None:
        self.value = self.graph.node("Concat", self.value, self.graph.node("Neg", self.value), axis=1)
        self.shape = (1, self.shape[1] * 2, *self.shape[2:])

    def slice(self) -> None:
        bounds = [self.graph.constant(np.array([value])) for value in (0, 2, 1)]
        if self.shape[1] > 2:
            self.value = self.graph.node("Slice", self.value, *bounds)
            self.shape = (1, 2, *self.shape[2:])

    def finish(self) -> str:
        flat = self.graph.node("Flatten", self.graph.node("GlobalAveragePool", self.value))
        weight = self.graph.weight(self.shape[1], 5)
        op = self.pick("Gemm", "MatMul")
        scales = {"alpha": 0.5, "beta": 2.0} if op == "Gemm" else {}
        extra = [self.graph.weight(5)] if op == "Gemm" else []
        return self.graph.node("Add", self.graph.node(op, flat, weight, *extra, **scales), self.graph.weight(5))


@settings(max_examples=30)
@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=10),
    seed=st.integers(0, 10_000),
    opset=st.sampled_from([11, 13, 17, 18, 21]),
    listed=st.booleans(),
)
def test_any_network_computes_the_same(steps: list[str], seed: int, opset: int, listed: bool):
    network = Network(seed)
    for step in steps:
        getattr(network, step)()
    ends = [network.finish(), network.graph.node("Relu", network.value)]
    check(network.graph.model({"x": ["n", 4, 9, 8]}, ends, opset, listed), 1e-3)
