"""A small network with everything that pruning passes meet: residual sum, groups, depthwise, linear layers."""

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples


class Builder:
    """Adds nodes to a graph whose values all have known shapes."""

    def __init__(self, seed, shape):
        self.rng = np.random.default_rng(seed)
        self.input = ir.val("x", dtype=ir.DataType.FLOAT, shape=shape)
        self.nodes, self.constants = [], []

    def constant(self, name, *shape):
        fan = np.prod(shape[1:]) if len(shape) > 1 else 100
        array = (self.rng.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)
        self.constants.append(ir.val(name, const_value=ir.tensor(array, name=name)))
        return self.constants[-1]

    def add(self, op, name, inputs, shape, **attributes):
        output = ir.val(f"{name}_out", dtype=ir.DataType.FLOAT, shape=shape)
        self.nodes.append(ir.node(op, inputs, attributes, outputs=[output], name=name))
        return output

    def convolution(self, name, x, outputs, kernel=3, group=1):
        weight = self.constant(f"{name}.w", outputs, int(x.shape[1]) // group, kernel, kernel)
        inputs = [x, weight, self.constant(f"{name}.b", outputs)]
        shape = [1, outputs, *x.shape[2:]]
        attributes = {"pads": [kernel // 2] * 4, "strides": [1, 1], "dilations": [1, 1], "group": group}
        return self.add("Conv", name, inputs, shape, kernel_shape=[kernel, kernel], **attributes)

    def relu(self, name, x):
        return self.add("Relu", name, [x], list(x.shape))

    def model(self, *outputs):
        graph = ir.Graph(
            [self.input], outputs, nodes=self.nodes, initializers=self.constants, opset_imports={"": 18}, name="g"
        )
        return ir.Model(graph, ir_version=9)


def small_network(seed=0):
    """Conv first; a residual block of conv a and grouped conv b; depthwise; 1x1 conv wide; MatMul; Gemm last."""
    build = Builder(seed, [1, 3, 6, 6])
    first = build.relu("r0", build.convolution("first", build.input, 8))
    a = build.relu("r1", build.convolution("a", first, 12))
    b = build.convolution("b", a, 8, group=2)
    joined = build.relu("r2", build.add("Add", "sum", [b, first], [1, 8, 6, 6]))
    depth = build.relu("r3", build.convolution("depthwise", joined, 8, group=8))
    wide = build.relu("r4", build.convolution("wide", depth, 20, kernel=1))
    mean = build.add("GlobalAveragePool", "mean", [wide], [1, 20, 1, 1])
    flat = build.add("Flatten", "flat", [mean], [1, 20])
    hidden = build.relu("r5", build.add("MatMul", "hidden", [flat, build.constant("hidden.w", 20, 16)], [1, 16]))
    inputs = [hidden, build.constant("last.w", 5, 16), build.constant("last.b", 5)]
    return build.model(build.add("Gemm", "last", inputs, [1, 5], transB=1))


def random_samples(count, seed=1):
    """Rows of smooth random images for `small_network`."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, 3, 6, 6)).cumsum(axis=2).cumsum(axis=3)
    return Samples({"x": (images / images.std()).astype(np.float32)})
