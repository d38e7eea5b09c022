"""One or more small models for every row of the trainable table: op, inputs, constant inputs, attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

UNARY = """Relu Sigmoid Tanh HardSwish Mish Softplus Softsign Erf Exp Abs Neg Sign Floor Ceil Round Sin Cos Tan Atan
    Sinh Cosh Identity Elu Selu Celu ThresholdedRelu HardSigmoid LeakyRelu IsNaN Softmax LogSoftmax"""
POSITIVE = "Log Sqrt Reciprocal Asin Acos"
BINARY = "Add Sub Mul Div Equal Less LessOrEqual Greater GreaterOrEqual Min Max Sum Mean"
REDUCTIONS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp"


@dataclass(frozen=True)
class Case:
    """`inputs` are arrays or shapes (a tuple: normal random float32); `constant` are indices held as initializers."""

    op: str
    inputs: tuple[Any, ...]
    constant: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    positive: bool = False
    opset: int = 18

    def __str__(self) -> str:
        return f"{self.op}-{self.attributes}"


def arrays(case: Case, seed: int) -> list[np.ndarray | None]:
    """The inputs of `case`, those given as shapes filled from `seed`."""
    rng = np.random.default_rng(seed)
    made: list[np.ndarray | None] = []
    for given in case.inputs:
        if isinstance(given, tuple):
            drawn = rng.standard_normal(given).astype(np.float32)
            given = np.clip(np.abs(drawn), 0.05, 0.95) if case.positive else drawn
        made.append(given)
    return made


def build(case: Case, values: list[np.ndarray | None]) -> ir.Model:
    """The one-node model of `case` with static shapes."""
    names = ["" if value is None else f"i{index}" for index, value in enumerate(values)]
    outputs = [f"o{index}" for index in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, name="only", **case.attributes)
    given = [(i, n, v) for i, (n, v) in enumerate(zip(names, values, strict=True)) if v is not None]
    held = [(n, v) for i, n, v in given if i in case.constant]
    fed = [(n, v) for i, n, v in given if i not in case.constant]
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in fed]
    empty = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs]
    graph = helper.make_graph([node], case.op, inputs, empty, [numpy_helper.from_array(v, n) for n, v in held])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=9)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))


def ints(*numbers: int) -> np.ndarray:
    """A constant input of int64."""
    return np.array(numbers, np.int64)


def flags(*numbers: int) -> np.ndarray:
    """A boolean input of one row."""
    return np.array([numbers], bool)


def cases() -> Iterator[Case]:
    """Every case."""
    yield from _elementwise()
    yield from _convolutions()
    yield from _pools()
    yield from _pads_and_resizes()
    yield from _movement()
    yield from _norms_and_reductions()


def _elementwise() -> Iterator[Case]:
    shape = (1, 3, 5)
    for op in UNARY.split():
        yield Case(op, (shape,))
    for op in POSITIVE.split():
        yield Case(op, (shape,), positive=True)
    for op in BINARY.split():
        yield Case(op, (shape, (1, 1, 5)))
        yield Case(op, (shape, (3, 1)), constant=(1,))
    for op in ("Min", "Max", "Sum", "Mean"):
        yield Case(op, (shape, (1, 3, 1), shape))
    for op in ("And", "Or", "Xor"):
        yield Case(op, (flags(0, 1, 0, 1), flags(0, 0, 1, 1)))
    yield Case("Not", (flags(0, 1),))
    yield from _quantization()
    yield Case("Where", (np.array([[[1], [0], [1]]], bool), shape, shape))
    yield Case("Div", (np.array([[-7, 7, 9]], np.int64), np.array([[2, -2, 3]], np.int64)))
    yield Case("Mod", (np.array([[-7, 7, 9]], np.int64), np.array([[2, -2, 5]], np.int64)))
    yield Case("Mod", (shape, shape), attributes={"fmod": 1})
    yield Case("Pow", (shape, np.array(2.0, np.float32)), constant=(1,))
    yield Case("Pow", (shape, np.array([0.5], np.float32)), constant=(1,), positive=True)
    yield Case("Clip", (shape, np.array(-0.5, np.float32), np.ones((), np.float32)), constant=(1, 2))
    yield Case("Clip", (shape, None, np.ones((), np.float32)), constant=(2,))
    yield Case("Clip", (shape,), attributes={"min": -0.1, "max": 0.4}, opset=7)
    yield Case("PRelu", (shape, (3, 1)), constant=(1,))
    yield Case("LeakyRelu", (shape,), attributes={"alpha": 0.3})
    yield Case("Gelu", (shape,), opset=20)
    yield Case("Gelu", (shape,), attributes={"approximate": "tanh"}, opset=20)
    yield Case("Softmax", (shape,), attributes={"axis": 1})
    yield Case("Cast", (shape,), attributes={"to": TensorProto.INT32})
    yield Case("Cast", (flags(0, 1, 1),), attributes={"to": TensorProto.FLOAT})
    yield Case("Dropout", (shape,))
    yield Case("Swish", (shape,), attributes={"alpha": 1.5}, opset=24)


def _convolutions() -> Iterator[Case]:
    yield Case("Conv", ((1, 3, 9, 7), (5, 3, 3, 3), (5,)), (1, 2), {"pads": [1, 1, 1, 1]})
    yield Case("Conv", ((1, 4, 9, 7), (6, 2, 3, 2)), (1,), {"group": 2, "strides": [2, 1], "pads": [0, 1, 2, 0]})
    yield Case(
        "Conv", ((1, 4, 9, 7), (4, 1, 3, 3), (4,)), (1, 2), {"group": 4, "dilations": [2, 1], "pads": [2, 1, 2, 1]}
    )
    yield Case("Conv", ((1, 3, 10, 7), (2, 3, 3, 4)), (1,), {"auto_pad": "SAME_UPPER", "strides": [2, 2]})
    yield Case("Conv", ((1, 3, 10, 7), (2, 3, 4, 3)), (1,), {"auto_pad": "SAME_LOWER", "strides": [1, 2]})
    yield Case("Conv", ((1, 3, 10, 7), (2, 3, 4, 3)), (1,), {"auto_pad": "VALID"})
    yield Case("Conv", ((1, 3, 11), (4, 3, 5), (4,)), (1, 2), {"pads": [2, 1]})
    yield Case("Conv", ((1, 2, 4, 5, 6), (3, 2, 2, 3, 3)), (1,), {"pads": [0, 1, 1, 0, 1, 1]})
    yield Case("ConvTranspose", ((1, 3, 5, 4), (3, 2, 3, 3), (2,)), (1, 2), {"strides": [2, 2], "pads": [1, 1, 1, 1]})
    yield Case(
        "ConvTranspose", ((1, 4, 5, 4), (4, 2, 3, 2)), (1,), {"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 1]}
    )
    extra = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    yield Case("ConvTranspose", ((1, 3, 5, 4), (3, 2, 3, 3), (2,)), (1, 2), extra)
    yield Case("Gemm", ((1, 6), (4, 6), (4,)), (1, 2), {"transB": 1})
    yield Case("Gemm", ((1, 6), (6, 4), (1, 4)), (1, 2), {"alpha": 0.5, "beta": 2.0})
    yield Case("Gemm", ((6, 1), (6, 4)), (1,), {"transA": 1})
    yield Case("MatMul", ((1, 3, 6), (6, 4)), (1,))
    yield Case("MatMul", ((1, 2, 3, 6), (1, 2, 6, 4)))
    yield Case("Einsum", ((1, 3, 4), (1, 4, 5)), (), {"equation": "bij,bjk->bik"})


def _pools() -> Iterator[Case]:
    for op in ("MaxPool", "AveragePool"):
        yield Case(op, ((1, 3, 9, 8),), (), {"kernel_shape": [2, 3], "strides": [2, 2]})
        yield Case(op, ((1, 3, 9, 8),), (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})
        yield Case(op, ((1, 3, 9, 8),), (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 2]})
        yield Case(op, ((1, 3, 10, 8),), (), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})
        yield Case(op, ((1, 3, 7, 7),), (), {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1})
        yield Case(op, ((1, 3, 10, 7),), (), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"})
        yield Case(op, ((1, 3, 11),), (), {"kernel_shape": [4], "strides": [3]})
    padded = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "count_include_pad": 1}
    yield Case("AveragePool", ((1, 2, 8, 9),), (), padded)
    yield Case("MaxPool", ((1, 2, 9, 9),), (), {"kernel_shape": [3, 3], "dilations": [2, 2]})
    yield Case("GlobalAveragePool", ((1, 3, 5, 4),))
    yield Case("GlobalMaxPool", ((1, 3, 5, 4),))


def _pads_and_resizes() -> Iterator[Case]:
    value = np.array(1.5, np.float32)
    yield Case("Pad", ((1, 2, 4, 5), ints(0, 0, 1, 2, 0, 1, 3, 0), value), (1, 2))
    yield Case("Pad", ((1, 2, 4, 5), ints(1, -1, 2, 0), None, ints(2, 3)), (1, 3))
    for mode in ("reflect", "edge"):
        yield Case("Pad", ((1, 2, 4, 5), ints(0, 0, 1, 2, 0, 1, 3, 0)), (1,), {"mode": mode})
    yield Case("Pad", ((1, 2, 4),), (), {"pads": [0, 0, 1, 0, 0, 2], "value": 2.0}, opset=10)
    scales = np.array([1, 1, 2, 1.5], np.float32)
    for coordinate in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        for mode in ("nearest", "linear", "cubic"):
            attributes = {"mode": mode, "coordinate_transformation_mode": coordinate}
            yield Case("Resize", ((1, 2, 4, 6), None, scales), (2,), attributes)
            yield Case("Resize", ((1, 2, 6, 7), None, None, ints(1, 2, 4, 9)), (3,), attributes)
    for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
        attributes = {"mode": "nearest", "nearest_mode": rounding, "coordinate_transformation_mode": "asymmetric"}
        yield Case("Resize", ((1, 2, 4, 6), None, None, ints(6, 3)), (3,), {**attributes, "axes": [2, 3]})
    outside = {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}
    yield Case("Resize", ((1, 2, 4, 6), None, scales), (2,), outside)


def _movement() -> Iterator[Case]:
    shape = (1, 4, 6)
    yield Case("Reshape", (shape, ints(1, -1)), (1,))
    yield Case("Reshape", (shape, ints(0, 2, 2, -1)), (1,))
    yield Case("Reshape", (shape, ints(8, 3)), (1,))
    for axis in (0, 1, 2, -1):
        yield Case("Flatten", (shape,), (), {"axis": axis})
    yield Case("Transpose", (shape,))
    yield Case("Transpose", (shape,), (), {"perm": [0, 2, 1]})
    yield Case("Squeeze", ((1, 1, 4, 1), ints(1, -1)), (1,))
    yield Case("Squeeze", ((1, 1, 4, 1), ints(0, 1)), (1,))
    yield Case("Unsqueeze", (shape, ints(-1, 1)), (1,))
    yield Case("Unsqueeze", (shape,), (), {"axes": [0, 3]}, opset=11)
    yield Case("Concat", (shape, (1, 3, 6)), (), {"axis": 1})
    yield Case("Concat", (shape, (1, 4, 2)), (1,), {"axis": -1})
    yield Case("Concat", (shape, shape), (), {"axis": 0})
    yield Case("Slice", (shape, ints(1, -5), ints(99, -1), ints(1, 2), ints(2, 3)), (1, 2, 3, 4))
    yield Case("Slice", (shape, ints(-1), ints(-100), ints(2), ints(-2)), (1, 2, 3, 4))
    yield Case("Slice", (shape,), (), {"axes": [1], "starts": [1], "ends": [3]}, opset=9)
    yield Case("Split", (shape, ints(1, 3)), (1,), {"axis": 1}, outputs=2)
    yield Case("Split", (shape,), (), {"axis": 2, "num_outputs": 4}, outputs=4)
    yield Case("Gather", (shape, ints(2, -1, 0)), (1,), {"axis": 1})
    yield Case("Gather", (shape, np.array(1, np.int64)), (1,), {"axis": -1})
    yield Case("Gather", ((9, 5), np.array([[3, 8, 0]], np.int64)), (0,))
    yield Case("GatherElements", (shape, np.array([[[1, -1], [0, 2], [3, 3], [5, 0]]], np.int64)), (1,), {"axis": 2})
    yield Case("Expand", ((1, 4, 1), ints(2, 1, 3)), (1,))
    yield Case("Tile", (shape, ints(1, 2, 3)), (1,))
    for mode in ("DCR", "CRD"):
        yield Case("DepthToSpace", ((1, 8, 2, 3),), (), {"blocksize": 2, "mode": mode})
    yield Case("SpaceToDepth", ((1, 2, 4, 6),), (), {"blocksize": 2})
    yield Case("Trilu", (shape,))
    yield Case("Trilu", (shape, np.array(-1, np.int64)), (1,), {"upper": 0})
    yield Case("CumSum", (shape, np.array(1, np.int64)), (1,), {"exclusive": 1, "reverse": 1})
    yield Case("CumSum", (shape, np.array(2, np.int64)), (1,))


def _norms_and_reductions() -> Iterator[Case]:
    shape, image = (1, 4, 6), (1, 6, 4, 3)
    for op in REDUCTIONS.split():
        yield Case(op, (shape, ints(1, -1)), (1,), {"keepdims": 0})
        yield Case(op, (shape,))
    yield Case("ReduceMean", (shape,), (), {"axes": [2]}, opset=11)
    yield Case("ReduceSum", (shape,), (), {"noop_with_empty_axes": 1})
    for op in ("ArgMax", "ArgMin"):
        yield Case(op, (shape,), (), {"axis": 2, "keepdims": 0})
    yield Case("BatchNormalization", (image, (6,), (6,), (6,), (6,)), (1, 2, 3, 4), positive=True)
    yield Case("InstanceNormalization", (image, (6,), (6,)), (1, 2), {"epsilon": 1e-3})
    yield Case("GroupNormalization", (image, (6,), (6,)), (1, 2), {"num_groups": 3}, opset=21)
    yield Case("LayerNormalization", (shape, (6,), (6,)), (1, 2))
    yield Case("LayerNormalization", (shape, (4, 6)), (1,), {"axis": 1, "epsilon": 1e-3})
    yield Case("RMSNormalization", (shape, (6,)), (1,), opset=23)
    yield Case("LRN", (image,), (), {"size": 3, "alpha": 0.01, "beta": 0.6, "bias": 1.2})
    yield Case("LRN", (image,), (), {"size": 4})
    yield Case("LpNormalization", (shape,), (), {"axis": 1, "p": 2})


def _quantization() -> Iterator[Case]:
    shape = (1, 3, 5)
    scale, scales = np.array(0.1, np.float32), np.array([0.1, 0.2, 0.3], np.float32)
    zero, zeros = np.array(7, np.uint8), np.array([-3, 0, 3], np.int8)
    yield Case("QuantizeLinear", (shape, scale), (1,))
    yield Case("QuantizeLinear", (shape, scale, zero), (1, 2))
    yield Case("QuantizeLinear", (shape, scales, zeros), (1, 2), {"axis": 1})
    yield Case("QuantizeLinear", (shape, scale), (1,), {"output_dtype": TensorProto.INT8}, opset=21)
    whole = np.arange(-7, 8, dtype=np.int8).reshape(shape)
    yield Case("DequantizeLinear", (whole, scale), (1,))
    yield Case("DequantizeLinear", (whole, scales, zeros), (1, 2), {"axis": 1})
    yield Case("DequantizeLinear", (whole.astype(np.int32) * 1000, scales), (1,), {"axis": 1})
    yield Case("DequantizeLinear", (whole.astype(np.uint8), scale, zero), (1, 2))
