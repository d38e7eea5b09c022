"""Random networks for cutting units: images of [1, C, H, W] and sequences of [1, T, C], step by step."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from edgeprune.ir.canonical import canonicalize


class Network:
    """Collects nodes; every step takes the name and shape of a value and gives those of its result."""

    def __init__(self, seed, shape):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0
        self.shape = shape
        self.inputs = {"x": (onnx.TensorProto.FLOAT, shape)}

    def pick(self, *choices):
        return choices[self.random.integers(len(choices))]

    def constant(self, array):
        self.count += 1
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{self.count}"))
        return f"c{self.count}"

    def weight(self, *shape):
        fan = np.prod(shape[1:]) if len(shape) > 1 else 10
        return self.constant((self.random.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32))

    def integers(self, *numbers):
        return self.constant(np.array(numbers, np.int64))

    def number(self, number):
        return self.constant(np.float32(number))

    def add(self, op, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"v{self.count}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}_{self.count}", **attributes))
        return names[0] if outputs == 1 else names

    def model(self, *outputs, opset=20):
        ports = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in self.inputs.items()]
        ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "random", ports, ends, self.constants)
        opsets = [helper.make_opsetid("", opset)]
        return canonicalize(ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10)))


class Image(Network):
    """Steps of convolutional networks; `c` is the number of channels of `x`, which is returned with the result."""

    STEPS = (
        *("plain", "residual", "dense", "grouped", "depthwise", "gated", "excited", "shuffled", "halves", "transposed"),
        *("padded", "norm", "normalised", "group_norm", "spread", "affine", "pooled", "resized"),
    )

    def conv(self, x, c, outputs, kernel=3, group=1):
        weight = self.weight(outputs, c // group, kernel, kernel)
        bias = [self.weight(outputs)] if self.pick(True, False) else []
        return self.add("Conv", x, weight, *bias, pads=[kernel // 2] * 4, group=group)

    def curve(self, x):
        return self.add(self.pick("Relu", "Sigmoid", "HardSwish", "Softplus", "Elu"), x)

    def plain(self, x, c):
        outputs = self.pick(4, 6, 8, 9)
        return self.curve(self.conv(x, c, outputs)), outputs

    def residual(self, x, c):
        inner = self.pick(3, 5)
        return self.curve(self.add("Add", x, self.conv(self.curve(self.conv(x, c, inner)), inner, c))), c

    def dense(self, x, c):
        outputs = self.pick(2, 3)
        return self.add(
            "Concat", *self.random.permutation([x, self.curve(self.conv(x, c, outputs))]), axis=1
        ), c + outputs

    def grouped(self, x, c):
        outputs = self.pick(4, 6, 8)
        group = 2 if c % 2 == 0 else 1
        return self.curve(self.conv(x, c, outputs, group=group)), outputs

    def depthwise(self, x, c):
        multiplier = self.pick(1, 2)
        return self.curve(self.conv(x, c, c * multiplier, group=c)), c * multiplier

    def gated(self, x, c):
        outputs = self.pick(3, 4)
        halves = self.add("Split", self.conv(x, c, 2 * outputs), outputs=2, axis=1, num_outputs=2)
        return self.add("Mul", halves[0], self.add("Sigmoid", halves[1])), outputs

    def excited(self, x, c):
        pooled = self.add("GlobalAveragePool", x)
        gate = self.conv(self.curve(self.conv(pooled, c, 3, 1)), 3, c, 1)
        return self.add("Mul", x, self.add("Sigmoid", gate)), c

    def shuffled(self, x, c):
        if c % 2:
            return x, c
        h, w = self.shape[2:]
        order = self.pick((0, 2, 1, 3, 4), (0, 1, 2, 3, 4))
        rows = self.add("Transpose", self.add("Reshape", x, self.integers(1, 2, c // 2, h, w)), perm=order)
        mixed = self.add("Reshape", rows, self.integers(1, c, h, w))
        first = self.add("Slice", mixed, self.integers(0), self.integers(c // 2), self.integers(1))
        second = self.add("Gather", mixed, self.integers(*range(c // 2, c)), axis=1)
        return self.add("Concat", first, self.conv(second, c // 2, c // 2), axis=1), c

    def halves(self, x, c):
        cut = c // 3 + 1
        first, second = self.add("Split", x, self.integers(cut, c - cut), outputs=2, axis=1)
        return self.add("Concat", self.curve(second), first, self.conv(second, c - cut, 2), axis=1), c + 2

    def transposed(self, x, c):
        outputs = self.pick(3, 4)
        group = self.pick(1, 2) if c % 2 == 0 and outputs % 2 == 0 else 1
        weight = self.weight(c, outputs // group, 3, 3)
        return self.add("ConvTranspose", x, weight, self.weight(outputs), pads=[1, 1, 1, 1], group=group), outputs

    def padded(self, x, c):
        widened = self.add("Pad", x, self.integers(0, 1, 0, 0, 0, 2, 0, 0))
        return self.add("Add", widened, self.conv(x, c, c + 3)), c + 3

    def norm(self, x, c):
        constants = [self.constant(self.random.uniform(0.5, 2, c).astype(np.float32)) for _ in range(4)]
        return self.add("BatchNormalization", x, *constants), c

    def normalised(self, x, c):
        return self.add("InstanceNormalization", x, self.weight(c), self.weight(c)), c

    def group_norm(self, x, c):
        groups = self.pick(*(each for each in (1, 2, 3) if c % each == 0))
        h, w = self.shape[2:]
        rows = self.add("Reshape", x, self.integers(1, groups, -1))
        ones, zeros = self.constant(np.ones(groups, np.float32)), self.constant(np.zeros(groups, np.float32))
        normal = self.add("Reshape", self.add("InstanceNormalization", rows, ones, zeros), self.integers(1, c, h, w))
        scaled = self.add("Mul", normal, self.weight(c, 1, 1))
        return self.add("Add", scaled, self.weight(c, 1, 1)), c

    def spread(self, x, c):
        outputs = self.pick(2, 3)
        deep = self.conv(x, c, 4 * outputs)
        wide = self.add("DepthToSpace", deep, blocksize=2, mode=self.pick("DCR", "CRD"))
        return self.add("MaxPool", wide, kernel_shape=[2, 2], strides=[2, 2]), outputs

    def affine(self, x, c):
        constant = self.weight(*self.pick((c, 1, 1), (1, c, 1, 1), (), (1,), self.shape[3:]))
        return self.add(self.pick("Add", "Mul", "Sub"), *self.random.permutation([x, constant])), c

    def pooled(self, x, c):
        op = self.pick("MaxPool", "AveragePool")
        return self.add(op, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), c

    def resized(self, x, c):
        """Twice as large and back, by scales or by sizes."""
        h, w = self.shape[2:]
        scales = ["", self.constant(np.array([1, 1, 2, 2], np.float32))]
        sizes = ["", "", self.integers(1, c, 2 * h, 2 * w)]
        large = self.add("Resize", x, *self.pick(scales, sizes), mode=self.pick("nearest", "linear"))
        return self.add("AveragePool", large, kernel_shape=[2, 2], strides=[2, 2]), c

    def finish(self, x, c):
        """A classifier on what is left, in one of three spellings."""
        h, w = self.shape[2:]
        way = self.pick("flat", "mean", "last")
        if way == "mean":
            flat, size = self.add("Flatten", self.add("GlobalAveragePool", x)), c
        else:
            turned = x if way == "flat" else self.add("Transpose", x, perm=[0, 2, 3, 1])
            flat, size = self.add("Reshape", turned, self.integers(1, -1)), c * h * w
        hidden = self.curve(self.add("Gemm", flat, self.weight(7, size), self.weight(7), transB=1))
        return self.model(self.add("Gemm", hidden, self.weight(3, 7), transB=1))


class Sequence(Network):
    """Steps of sequence networks; `c` is the size of every token of `x`."""

    STEPS = (
        *(
            "attention",
            "grouped_attention",
            "fused_attention",
            "perceptron",
            "gated",
            "mixer",
            "layer_norm",
            "rms_norm",
        ),
        *("lstm", "gru", "widen"),
    )

    @property
    def tokens(self):
        return self.shape[1]

    def linear(self, x, c, outputs):
        array = (self.random.standard_normal((c, outputs)) / np.sqrt(c)).astype(np.float32)
        made = self.add("MatMul", x, self.constant(array))
        return self.add("Add", made, self.weight(outputs)) if self.pick(True, False) else made

    def widen(self, x, c):
        outputs = self.pick(8, 12)
        return self.linear(x, c, outputs), outputs

    def split_heads(self, x, heads, depth, perm=(0, 2, 1, 3)):
        parts = self.add("Reshape", x, self.integers(1, self.tokens, heads, depth))
        return self.add("Transpose", parts, perm=perm)

    def attend(self, query, key, value, heads, depth):
        """softmax(q k) v of [1, H, T, D], [1, H, D, T] and [1, H, T, D], back to [1, T, H * D]."""
        scores = self.add("Mul", self.add("MatMul", query, key), self.number(depth**-0.5))
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        joined = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.add("Reshape", joined, self.integers(1, self.tokens, heads * depth))

    def attention(self, x, c):
        heads, depth = self.pick(2, 3), self.pick(2, 4)
        query, key, value = (self.linear(x, c, heads * depth) for _ in range(3))
        key = self.split_heads(key, heads, depth, (0, 2, 3, 1))
        query, value = self.split_heads(query, heads, depth), self.split_heads(value, heads, depth)
        return self.add("Add", x, self.linear(self.attend(query, key, value, heads, depth), heads * depth, c)), c

    def grouped_attention(self, x, c):
        """Every key and value head serves `share` query heads; with one of them it is shared by broadcasting."""
        heads, depth, share = self.pick(1, 2, 3), self.pick(2, 3), 2
        query = self.split_heads(self.linear(x, c, heads * share * depth), heads * share, depth)
        key, value = (self.linear(x, c, heads * depth) for _ in range(2))
        if heads == 1:
            key = self.split_heads(key, 1, depth, (0, 2, 3, 1))
            value = self.split_heads(value, 1, depth)
        else:
            key, value = (self.repeat(each, heads, depth, share) for each in (key, value))
            key = self.add("Transpose", key, perm=[0, 1, 3, 2])
        mixed = self.attend(query, key, value, heads * share, depth)
        return self.add("Add", self.linear(mixed, heads * share * depth, c), x), c

    def repeat(self, x, heads, depth, share):
        """[1, T, heads * depth] as [1, heads * share, T, depth], every head `share` times."""
        split = self.split_heads(x, heads, depth)
        single = self.add("Unsqueeze", split, self.integers(2))
        spread = self.add("Expand", single, self.integers(1, heads, share, self.tokens, depth))
        return self.add("Reshape", spread, self.integers(1, heads * share, self.tokens, depth))

    def fused_attention(self, x, c):
        """One layer makes queries, keys and values, which are taken apart again."""
        heads, depth = self.pick(2, 4), self.pick(2, 3)
        whole = self.linear(x, c, 3 * heads * depth)
        parts = self.add("Reshape", whole, self.integers(1, self.tokens, 3, heads, depth))
        turned = self.add("Transpose", parts, perm=[2, 0, 3, 1, 4])
        query, key, value = (self.add("Gather", turned, self.constant(np.int64(i)), axis=0) for i in range(3))
        mixed = self.attend(query, self.add("Transpose", key, perm=[0, 1, 3, 2]), value, heads, depth)
        return self.add("Add", x, self.linear(mixed, heads * depth, c)), c

    def perceptron(self, x, c):
        inner = self.pick(5, 8)
        hidden = self.add(self.pick("Relu", "Gelu", "Sigmoid"), self.linear(x, c, inner))
        return self.add("Add", x, self.linear(hidden, inner, c)), c

    def gated(self, x, c):
        inner = self.pick(5, 6)
        gate = self.linear(x, c, inner)
        gate = self.add("Mul", gate, self.add("Sigmoid", gate))
        return self.add("Add", x, self.linear(self.add("Mul", gate, self.linear(x, c, inner)), inner, c)), c

    def mixer(self, x, c):
        """A perceptron along the tokens."""
        inner = self.pick(3, 4)
        turned = self.add("Transpose", x, perm=[0, 2, 1])
        hidden = self.add("Tanh", self.linear(turned, self.tokens, inner))
        back = self.add("Transpose", self.linear(hidden, inner, self.tokens), perm=[0, 2, 1])
        return self.add("Add", x, back), c

    def layer_norm(self, x, c):
        if self.pick(True, False):
            return self.add("LayerNormalization", x, self.weight(c), self.weight(c), axis=-1), c
        mean = self.add("ReduceMean", x, self.integers(-1), keepdims=1)
        centred = self.add("Sub", x, mean)
        variance = self.add("ReduceMean", self.add("Mul", centred, centred), self.integers(-1), keepdims=1)
        spread = self.add("Sqrt", self.add("Add", variance, self.number(1e-5)))
        return self.add("Mul", self.add("Div", centred, spread), self.weight(c)), c

    def rms_norm(self, x, c):
        square = self.add("ReduceMean", self.add("Pow", x, self.number(2.0)), self.integers(-1), keepdims=1)
        spread = self.add("Sqrt", self.add("Add", square, self.number(1e-5)))
        return self.add("Mul", self.add("Div", x, spread), self.weight(c)), c

    def lstm(self, x, c):
        return self._recurrent(x, c, "LSTM", 4)

    def gru(self, x, c):
        return self._recurrent(x, c, "GRU", 3)

    def _recurrent(self, x, c, op, gates):
        hidden, directions = self.pick(3, 5), self.pick(1, 2)
        steps = self.add("Transpose", x, perm=[1, 0, 2])
        weights = [self.weight(directions, gates * hidden, c), self.weight(directions, gates * hidden, hidden)]
        bias = self.weight(directions, 2 * gates * hidden)
        given = self.pick(True, False)
        states = ["", *(self.weight(directions, 1, hidden) for _ in range({"LSTM": 2, "GRU": 1}[op]))] if given else []
        direction = "bidirectional" if directions == 2 else "forward"
        attributes = {"linear_before_reset": self.pick(0, 1)} if op == "GRU" else {}
        made = self.add(op, steps, *weights, bias, *states, hidden_size=hidden, direction=direction, **attributes)
        turned = self.add("Transpose", made, perm=[2, 0, 1, 3])
        size = directions * hidden
        return self.add("Reshape", turned, self.integers(1, self.tokens, size)), size

    def finish(self, x, c):
        pooled = self.add("ReduceMean", x, self.integers(1), keepdims=0) if self.pick(True, False) else x
        return self.model(self.linear(self.add("Relu", self.linear(pooled, c, 6)), 6, 3))


def random_network(family, seed, steps):
    """A network of `steps`, by number, of `family`."""
    shape = [1, 3, 4, 6] if family is Image else [1, 5, 4]
    build = family(seed, shape)
    value, size = ("x", 3) if family is Image else ("x", 4)
    value, size = build.plain(value, size) if family is Image else build.widen(value, size)
    for step in steps:
        value, size = getattr(build, family.STEPS[step % len(family.STEPS)])(value, size)
    return build.finish(value, size)
