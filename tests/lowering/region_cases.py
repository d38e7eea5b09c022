"""ONNX models of one node each, awkward sizes, that a region must lower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
_random = np.random.default_rng(7)


def reals(*shape: int) -> np.ndarray:
    return _random.standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def feeds_of(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs: reals around 0 within the unit of arcsine for one in four, integers from 0 to 3."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        shape = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype.kind == "b":
            feeds[value.name] = generator.random(shape) > 0.5
        elif dtype.kind == "f":
            feeds[value.name] = (generator.standard_normal(shape) * 2).astype(dtype)
        else:
            feeds[value.name] = generator.integers(0, 4, shape).astype(dtype)
    return feeds


def reference(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return dict(zip([value.name for value in model.graph.output], session.run(None, feeds), strict=True))


def model_of(
    op: str,
    inputs: dict[str, tuple[Sequence[int], int]],
    constants: dict[str, np.ndarray] | None = None,
    outputs: int = 1,
    opset: int = 18,
    order: Sequence[str] | None = None,
    **attributes: object,
) -> onnx.ModelProto:
    """A model of one node; output types and shapes are those that ONNX Runtime gives."""
    constants = constants or {}
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, order or [*inputs, *constants], names, name=f"the_{op}", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in names],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    for value, array in zip(model.graph.output, reference(model, feeds_of(model)).values(), strict=True):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, array.shape))
    return model


def x(*shape: int, kind: int = F) -> dict[str, tuple[Sequence[int], int]]:
    return {"x": (shape, kind)}


def two(a: Sequence[int], b: Sequence[int], kind: int = F) -> dict[str, tuple[Sequence[int], int]]:
    return {"a": (a, kind), "b": (b, kind)}


UNARY = [
    "Abs", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Acos", "Ceil", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor",
    "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh",
    "ThresholdedRelu", "IsNaN", "IsInf", "Hardmax", "EyeLike",
]  # fmt: skip
REDUCTIONS = [f"Reduce{kind}" for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")]
COMPARISONS = ("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal")
pads = whole(0, 1, 2, 0, 2, 1)
sizes = {"s": whole(1, 3, 10, 9)}
boxes = ["x", "", "", "s"]
scales = {"s": np.array([1, 1, 1.7, 0.43], np.float32)}
by_scales = ["x", "", "s"]


def recurrent(op: str, gates: int, directions: int, peepholes: bool = False, **attributes: object) -> onnx.ModelProto:
    """3 steps, batch 2, 4 inputs, 5 hidden values; the initial states are inputs. An LSTM may have `peepholes`."""
    states = dict.fromkeys(("h", "c")[: 2 if op == "LSTM" else 1], ((directions, 2, 5), F))
    weights = {"w": reals(directions, gates * 5, 4), "r": reals(directions, gates * 5, 5)}
    order = ["x", "w", "r", "b", "", *states]
    constants = {**weights, "b": reals(directions, 2 * gates * 5)}
    if peepholes:
        order, constants = [*order, "p"], {**constants, "p": reals(directions, 15)}
    return model_of(op, {**x(3, 2, 4), **states}, constants, 1 + len(states), order=order, hidden_size=5, **attributes)


CASES: dict[str, onnx.ModelProto] = {op: model_of(op, x(3, 7)) for op in UNARY}
CASES |= {op: model_of(op, x(3, 5, 16), {"a": whole(1)}) for op in REDUCTIONS}
CASES |= {op: model_of(op, two((3, 4), (1, 4))) for op in COMPARISONS}
CASES |= {
    "softmax_last": model_of("Softmax", x(2, 5, 10), axis=-1),
    "softmax_middle": model_of("Softmax", x(2, 5, 16), axis=1),
    "log_softmax": model_of("LogSoftmax", x(3, 10)),
    "layer_norm": model_of("LayerNormalization", x(2, 4, 24), {"s": reals(24), "b": reals(24)}),
    "group_norm": model_of("GroupNormalization", x(2, 8, 5), {"s": reals(8), "b": reals(8)}, opset=21, num_groups=4),
    "instance_norm": model_of("InstanceNormalization", x(1, 4, 5, 6), {"s": reals(4), "b": reals(4)}),
    "lrn": model_of("LRN", x(1, 8, 5, 6), size=3),
    "gather": model_of("Gather", {"x": ((5, 6), F), "i": ((3, 2), I)}),
    "gather_constant": model_of("Gather", x(5, 6), {"i": whole(1, 0, -1)}, axis=1),
    "gather_elements": model_of("GatherElements", {"x": ((5, 4), F), "i": ((2, 4), I)}),
    "gather_nd": model_of("GatherND", {"x": ((5, 6), F), "i": ((3, 1), I)}),
    "scatter_nd": model_of("ScatterND", x(5, 6), {"i": whole(1, 3)[:, None], "u": reals(2, 6)}),
    "scatter_elements": model_of("ScatterElements", x(5, 6), {"i": whole(1, 0, 2, 3, 4, 1)[None], "u": reals(1, 6)}),
    "transpose": model_of("Transpose", x(2, 3, 4, 5), perm=[0, 2, 3, 1]),
    "concat": model_of("Concat", two((2, 3, 4), (2, 5, 4)), axis=1),
    "slice": model_of("Slice", x(5, 8), {"s": whole(1, 6), "e": whole(4, -9), "a": whole(0, 1), "t": whole(1, -2)}),
    "pad": model_of("Pad", x(2, 3, 4), {"p": pads, "v": np.float32(1.5)}),
    "pad_reflect": model_of("Pad", x(2, 3, 4), {"p": pads}, mode="reflect"),
    "pad_edge": model_of("Pad", x(2, 3, 4), {"p": pads}, mode="edge"),
    "reshape": model_of("Reshape", x(2, 3, 4), {"s": whole(6, -1)}),
    "flatten": model_of("Flatten", x(2, 3, 4)),
    "expand": model_of("Expand", x(2, 1, 4), {"s": whole(2, 3, 4)}),
    "tile": model_of("Tile", x(2, 3), {"r": whole(2, 3)}),
    "where": model_of("Where", {"c": ((3, 4), B), "a": ((3, 4), F), "b": ((1, 4), F)}),
    "mean_last": model_of("ReduceMean", x(3, 5, 16), {"a": whole(2)}, keepdims=0),
    "sum_all": model_of("ReduceSum", x(3, 5, 16), keepdims=0),
    "einsum": model_of("Einsum", two((2, 3, 4), (2, 4, 5)), equation="bij,bjk->bik"),
    "einsum_rows": model_of("Einsum", two((2, 7, 8), (2, 5, 8)), equation="bij,bkj->bik"),
    "einsum_heads": model_of("Einsum", two((7, 3, 8), (5, 3, 8)), equation="thd,shd->hts"),
    "einsum_mixed": model_of("Einsum", two((3, 7, 5), (5, 3, 8)), equation="hts, shd -> thd"),
    "einsum_outer": model_of("Einsum", two((4,), (5,)), equation="i,j->ji"),
    "einsum_inner": model_of("Einsum", two((4, 5), (5, 4)), equation="ij,ji->"),
    "einsum_diagonal": model_of("Einsum", two((4, 4), (4, 5)), equation="ii,ij->j"),
    "einsum_alone": model_of("Einsum", two((4, 3), (4, 5)), equation="ik,ij->j"),
    "einsum_one": model_of("Einsum", x(4, 3), equation="ij->ji"),
    "matmul": model_of("MatMul", two((2, 3, 9, 17), (2, 3, 17, 32))),
    "matmul_broadcast": model_of("MatMul", two((5, 7), (3, 7, 43))),
    "matmul_vector": model_of("MatMul", two((7,), (7, 4))),
    "gemm": model_of("Gemm", two((5, 7), (4, 7)), {"c": reals(4)}, transB=1),
    "power": model_of("Pow", x(3, 4), {"e": np.float32(3)}),
    "modulo": model_of("Mod", two((3, 4), (3, 4)), fmod=1),
    "add_broadcast": model_of("Add", two((3, 1, 4), (5, 4))),
    "maximum": model_of("Max", two((3, 4), (4,))),
    "nearest": model_of("Resize", x(1, 3, 5, 6), sizes, order=boxes, mode="nearest"),
    "linear": model_of("Resize", x(1, 3, 5, 6), sizes, order=boxes, mode="linear"),
    "cubic": model_of("Resize", x(1, 3, 5, 6), sizes, order=boxes, mode="cubic"),
    "linear_scales": model_of("Resize", x(1, 3, 5, 6), scales, order=by_scales, mode="linear"),
    "nearest_scales": model_of("Resize", x(1, 3, 5, 6), scales, order=by_scales, mode="nearest", nearest_mode="ceil"),
    "cubic_symmetric": model_of(
        "Resize",
        x(1, 3, 5, 6),
        scales,
        order=by_scales,
        mode="cubic",
        coordinate_transformation_mode="half_pixel_symmetric",
        exclude_outside=1,
    ),
    "smoothed": model_of(
        "Resize",
        x(1, 2, 9, 8),
        {"s": np.array([1, 1, 0.3, 0.6], np.float32)},
        order=by_scales,
        mode="linear",
        antialias=1,
    ),
    "cropped": model_of(
        "Resize",
        x(1, 3, 5, 6),
        {"r": np.array([0, 0, 0.13, -0.21, 1, 1, 0.77, 1.12], np.float32), **sizes},
        order=["x", "r", "", next(iter(sizes))],
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=2.5,
    ),
    "transposed_conv": model_of(
        "ConvTranspose", x(1, 4, 5, 6), {"w": reals(4, 3, 3, 3), "b": reals(3)}, strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "transposed_groups": model_of("ConvTranspose", x(1, 4, 5, 6), {"w": reals(4, 2, 2, 2)}, strides=[2, 2], group=2),
    "transposed_1d": model_of("ConvTranspose", x(1, 4, 9), {"w": reals(4, 3, 4)}, strides=[2]),
    "conv_1d": model_of("Conv", x(1, 4, 9), {"w": reals(8, 4, 3)}),
    "conv_2d": model_of("Conv", x(1, 4, 9, 9), {"w": reals(8, 4, 3, 3), "b": reals(8)}, pads=[1, 1, 1, 1]),
    "conv_3d": model_of("Conv", x(1, 4, 5, 5, 5), {"w": reals(8, 4, 3, 3, 3)}),
    "max_pool": model_of("MaxPool", x(1, 4, 9, 9), kernel_shape=[3, 3], strides=[2, 2]),
    "average_pool": model_of("AveragePool", x(1, 4, 9, 9), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "lp_pool": model_of("LpPool", x(1, 4, 9, 9), kernel_shape=[3, 3]),
    "global_mean": model_of("GlobalAveragePool", x(1, 4, 9, 9)),
    "global_max": model_of("GlobalMaxPool", x(1, 4, 9, 9)),
    "arg_max": model_of("ArgMax", x(3, 7), axis=1),
    "arg_min": model_of("ArgMin", x(3, 7), axis=0, keepdims=0),
    "top_k": model_of("TopK", x(3, 7), {"k": whole(3)}, outputs=2),
    "bottom_k": model_of("TopK", x(7, 2), {"k": whole(4)}, outputs=2, axis=0, largest=0),
    "to_int64": model_of("Cast", x(3, 4), to=I),
    "to_bool": model_of("Cast", x(3, 4), to=B),
    "to_float16": model_of("Cast", x(3, 4), to=TensorProto.FLOAT16),
    "to_float64": model_of("Cast", x(3, 4), to=TensorProto.DOUBLE),
    "from_int64": model_of("Cast", x(3, 4, kind=I), to=F),
    "to_uint8": model_of("Cast", x(3, 4, kind=I), to=TensorProto.UINT8),
    "split": model_of("Split", x(2, 7), {"s": whole(3, 4)}, outputs=2, axis=1),
    "squeeze": model_of("Squeeze", x(2, 1, 3), {"a": whole(1)}),
    "unsqueeze": model_of("Unsqueeze", x(2, 3), {"a": whole(1)}),
    "clip": model_of("Clip", x(3, 4), {"l": np.float32(-1), "u": np.float32(1)}),
    "equal_int": model_of("Equal", two((3, 4), (1, 4), I)),
    "and": model_of("And", two((3, 4), (1, 4), B)),
    "not": model_of("Not", x(3, 4, kind=B)),
    "multiply_int32": model_of("Mul", two((3, 4), (3, 4), TensorProto.INT32)),
    "lower_triangle": model_of("Trilu", x(4, 5), upper=0),
    "upper_triangle": model_of("Trilu", x(4, 5), {"k": np.int64(1)}),
    "cumulative": model_of("CumSum", x(3, 5), {"a": np.int32(1)}),
    "cumulative_reverse": model_of("CumSum", x(3, 5), {"a": np.int32(0)}, reverse=1, exclusive=1),
    "depth_to_space": model_of("DepthToSpace", x(1, 8, 3, 4), blocksize=2),
    "space_to_depth": model_of("SpaceToDepth", x(1, 2, 4, 6), blocksize=2),
    "prelu": model_of("PRelu", x(1, 4, 5, 6), {"s": reals(4, 1, 1)}),
    "gelu": model_of("Gelu", x(3, 4), opset=20),
    "gelu_tanh": model_of("Gelu", x(3, 4), opset=20, approximate="tanh"),
    "grid_sample": model_of("GridSample", {"x": ((1, 2, 4, 5), F), "g": ((1, 3, 3, 2), F)}),
    "quantize": model_of("QuantizeLinear", x(3, 4), {"s": np.float32(0.1), "z": np.uint8(128)}),
    "dequantize": model_of("DequantizeLinear", x(3, 4, kind=TensorProto.INT8), {"s": np.float32(0.1), "z": np.int8(3)}),
    "one_hot": model_of("OneHot", x(3, kind=I), {"d": np.int64(4), "v": np.array([-1, 2], np.float32)}),
    "one_hot_front": model_of("OneHot", x(3, kind=I), {"d": np.int64(4), "v": np.array([0, 1], np.float32)}, axis=0),
    "celu": model_of("Celu", x(3, 4), alpha=0.7),
    "gather_one": model_of("Gather", x(5, 6), {"i": np.int64(-2)}, axis=1),
    "gather_even": model_of("Gather", x(5, 6), {"i": whole(1, 3, 5)}, axis=1),
    "lstm": recurrent("LSTM", 4, 1),
    "lstm_reverse": recurrent("LSTM", 4, 1, direction="reverse"),
    "lstm_both": recurrent("LSTM", 4, 2, direction="bidirectional"),
    "lstm_peepholes": recurrent("LSTM", 4, 2, peepholes=True, direction="bidirectional"),
    "gru": recurrent("GRU", 3, 1),
    "gru_both": recurrent("GRU", 3, 2, direction="bidirectional", linear_before_reset=1),
    "rnn": recurrent("RNN", 1, 1, activations=["Relu"]),
}
