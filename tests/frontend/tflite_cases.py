"""One small TFLite model for every operator: what it reads, its options, and the shape of what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RNG = np.random.default_rng(7)
IMAGE = (1, 7, 6, 4)


@dataclass(frozen=True)
class Case:
    """`inputs`: a shape for each input of the graph (with a dtype where it is not float32), arrays for constants."""

    op: str
    inputs: tuple[Any, ...]
    output: tuple[int, ...]
    options: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "FLOAT32"
    label: str = ""
    low: float = -3.0
    high: float = 3.0

    @property
    def name(self) -> str:
        return f"{self.op}{self.label and '-' + self.label}"


def ints(*numbers: Any) -> np.ndarray:
    return np.array(numbers[0] if len(numbers) == 1 and isinstance(numbers[0], (list, int)) else numbers, np.int32)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def conv(label: str, output: tuple[int, ...], weight: np.ndarray, **fields: Any) -> Case:
    given = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, **fields}
    return Case("CONV_2D", (IMAGE, weight, floats(len(weight))), output, "Conv2DOptions", given, label=label)


def pool(op: str, label: str, output: tuple[int, ...], **fields: Any) -> Case:
    given = {"filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 2, **fields}
    return Case(op, (IMAGE,), output, "Pool2DOptions", given, label=label)


def unary(op: str, options: str = "", low: float = -3.0, high: float = 3.0, **fields: Any) -> Case:
    return Case(op, (IMAGE,), IMAGE, options, fields, low=low, high=high)


def compare(op: str, options: str) -> Case:
    return Case(op, ((2, 5, "int32"), (2, 5, "int32")), (2, 5), options, kind="BOOL")


def binary(op: str, options: str = "", low: float = -3.0, **fields: Any) -> Case:
    return Case(op, (IMAGE, IMAGE), IMAGE, options, fields, low=low)


def reduce(op: str, axes: list[int], output: tuple[int, ...], keep: bool = False, label: str = "") -> Case:
    return Case(op, (IMAGE, ints(axes)), output, "ReducerOptions", {"keepDims": keep}, label=label)


SAME, VALID = 0, 1
RELU, RELU_N1, RELU6, TANH = 1, 2, 3, 4

CASES: tuple[Case, ...] = (
    conv("same", (1, 7, 6, 5), floats(5, 3, 3, 4), padding=SAME, fusedActivationFunction=RELU),
    conv("uneven", (1, 4, 3, 5), floats(5, 2, 4, 4), padding=SAME, strideH=2, strideW=2),
    conv("valid", (1, 3, 2, 5), floats(5, 3, 3, 4), padding=VALID, dilationHFactor=2, dilationWFactor=2),
    conv("grouped", (1, 7, 6, 6), floats(6, 1, 1, 2), padding=SAME, fusedActivationFunction=RELU6),
    Case(
        "DEPTHWISE_CONV_2D",
        (IMAGE, floats(1, 3, 3, 8), floats(8)),
        (1, 4, 3, 8),
        "DepthwiseConv2DOptions",
        {"strideH": 2, "strideW": 2, "depthMultiplier": 2, "padding": SAME, "fusedActivationFunction": RELU_N1,
         "dilationHFactor": 1, "dilationWFactor": 1},
    ),
    Case(
        "CONV_3D",
        ((1, 4, 5, 5, 3), floats(2, 3, 3, 3, 4), floats(4)),
        (1, 2, 3, 3, 4),
        "Conv3DOptions",
        {"strideD": 2, "strideH": 2, "strideW": 2, "padding": SAME, "dilationDFactor": 1, "dilationHFactor": 1,
         "dilationWFactor": 1},
    ),
    Case(
        "TRANSPOSE_CONV",
        (ints(1, 13, 12, 3), floats(3, 3, 3, 4), IMAGE, floats(3)),
        (1, 13, 12, 3),
        "TransposeConvOptions",
        {"strideH": 2, "strideW": 2, "padding": SAME},
        label="same",
    ),
    Case(
        "TRANSPOSE_CONV",
        (ints(1, 16, 13, 3), floats(3, 3, 2, 4), IMAGE),
        (1, 16, 13, 3),
        "TransposeConvOptions",
        {"strideH": 2, "strideW": 2, "padding": VALID},
        label="valid",
    ),
    Case(
        "FULLY_CONNECTED",
        ((3, 8), floats(5, 8), floats(5)),
        (3, 5),
        "FullyConnectedOptions",
        {"fusedActivationFunction": RELU},
    ),
    Case("FULLY_CONNECTED", ((2, 3, 8), floats(5, 8)), (2, 3, 5), "FullyConnectedOptions", {"keepNumDims": True},
         label="axes kept"),
    Case("BATCH_MATMUL", ((2, 3, 4), (2, 5, 4)), (2, 3, 5), "BatchMatMulOptions", {"adjY": True}),
    pool("AVERAGE_POOL_2D", "same", (1, 4, 3, 4), padding=SAME),
    pool("AVERAGE_POOL_2D", "valid", (1, 3, 3, 4), padding=VALID, fusedActivationFunction=RELU),
    pool("MAX_POOL_2D", "same", (1, 4, 3, 4), padding=SAME),
    pool("L2_POOL_2D", "valid", (1, 3, 3, 4), padding=VALID),
    *(unary(op) for op in ("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LOGISTIC", "NEG", "RELU",
                           "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ROUND", "SIN", "SIGN", "SQUARE", "TANH",
                           "ZEROS_LIKE", "LOG_SOFTMAX")),
    *(unary(op, low=0.1) for op in ("LOG", "RSQRT", "SQRT")),
    unary("LEAKY_RELU", "LeakyReluOptions", alpha=0.3),
    unary("GELU", "GeluOptions", approximate=False),
    unary("SOFTMAX", "SoftmaxOptions", beta=2.0),
    unary("L2_NORMALIZATION", "L2NormOptions"),
    unary("LOCAL_RESPONSE_NORMALIZATION", "LocalResponseNormalizationOptions", radius=1, bias=1.0, alpha=0.5, beta=0.7),
    Case("PRELU", (IMAGE, floats(1, 1, 4)), IMAGE),
    Case("CAST", (IMAGE,), IMAGE, "CastOptions", {"inDataType": 0, "outDataType": 2}, kind="INT32"),
    *(binary(op, f"{op.title()}Options") for op in ("ADD", "SUB", "MUL")),
    binary("DIV", "DivOptions", low=0.5),
    binary("MAXIMUM", "MaximumMinimumOptions"),
    binary("MINIMUM", "MaximumMinimumOptions"),
    binary("POW", "PowOptions", low=0.2),
    binary("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"),
    binary("FLOOR_DIV", "FloorDivOptions", low=0.4),
    binary("FLOOR_MOD", "FloorModOptions", low=0.4),
    Case("FLOOR_DIV", ((2, 6, "int32"), ints([3, -2, 4, 5, -7, 2])), (2, 6), "FloorDivOptions", kind="INT32",
         label="integers", low=-30, high=30),
    Case("FLOOR_MOD", ((2, 6, "int32"), ints([3, -2, 4, 5, -7, 2])), (2, 6), "FloorModOptions", kind="INT32",
         label="integers", low=-30, high=30),
    Case("ADD", (IMAGE, floats(4)), IMAGE, "AddOptions", {"fusedActivationFunction": RELU}, label="bias"),
    Case("MUL", (IMAGE, (1, 1, 1, 4)), IMAGE, "MulOptions", label="gate"),
    Case("ADD", ((2, 6, "int32"), (2, 6, "int32")), (2, 6), "AddOptions", kind="INT32", label="integers"),
    Case("ADD_N", ((2, 3), (2, 3), (2, 3)), (2, 3), "AddNOptions"),
    compare("EQUAL", "EqualOptions"),
    compare("NOT_EQUAL", "NotEqualOptions"),
    compare("GREATER", "GreaterOptions"),
    compare("GREATER_EQUAL", "GreaterEqualOptions"),
    compare("LESS", "LessOptions"),
    compare("LESS_EQUAL", "LessEqualOptions"),
    Case("LOGICAL_AND", ((2, 5, "bool"), (2, 5, "bool")), (2, 5), "LogicalAndOptions", kind="BOOL"),
    Case("LOGICAL_OR", ((2, 5, "bool"), (2, 5, "bool")), (2, 5), "LogicalOrOptions", kind="BOOL"),
    Case("LOGICAL_NOT", ((2, 5, "bool"),), (2, 5), "LogicalNotOptions", kind="BOOL"),
    Case("SELECT", ((4, "bool"), (4, 3), (4, 3)), (4, 3), "SelectOptions"),
    Case("SELECT_V2", ((2, 1, "bool"), (2, 3), (3,)), (2, 3), "SelectV2Options"),
    reduce("MEAN", [1, 2], (1, 4)),
    reduce("MEAN", [1, 2], (1, 1, 1, 4), keep=True, label="kept"),
    reduce("SUM", [-1], (1, 7, 6)),
    reduce("REDUCE_MAX", [1], (1, 6, 4)),
    reduce("REDUCE_MIN", [2, 3], (1, 7)),
    reduce("REDUCE_PROD", [1], (1, 6, 4)),
    Case("REDUCE_ANY", ((2, 5, "bool"), ints([1])), (2,), "ReducerOptions", kind="BOOL"),
    Case("REDUCE_ALL", ((2, 5, "bool"), ints([1])), (2,), "ReducerOptions", kind="BOOL"),
    Case("ARG_MAX", (IMAGE, ints(3)), (1, 7, 6), "ArgMaxOptions", {"outputType": 2}, kind="INT32"),
    Case("ARG_MIN", (IMAGE, ints(1)), (1, 6, 4), "ArgMinOptions", {"outputType": 4}, kind="INT64"),
    Case("CUMSUM", ((2, 5), ints(1)), (2, 5), "CumsumOptions", {"exclusive": True, "reverse": True}),
    Case("RESHAPE", (IMAGE, ints(2, -1)), (2, 84), "ReshapeOptions"),
    Case("RESHAPE", (IMAGE,), (1, 168), "ReshapeOptions", {"newShape": [1, 168]}, label="option"),
    Case("SQUEEZE", ((1, 5, 1, 4),), (5, 4), "SqueezeOptions", {"squeezeDims": [0, -2]}),
    Case("EXPAND_DIMS", ((5, 4), ints(-2)), (5, 1, 4), "ExpandDimsOptions"),
    Case("TRANSPOSE", (IMAGE, ints(0, 2, 3, 1)), (1, 6, 4, 7), "TransposeOptions"),
    Case("CONCATENATION", (IMAGE, (1, 7, 6, 2)), (1, 7, 6, 6), "ConcatenationOptions", {"axis": -1}),
    Case("PACK", ((3, 4), (3, 4)), (3, 2, 4), "PackOptions", {"axis": 1, "valuesCount": 2}),
    Case("SLICE", (IMAGE, ints(0, 1, 2, 0), ints(1, 3, -1, 4)), (1, 3, 4, 4), "SliceOptions"),
    Case(
        "STRIDED_SLICE",
        (IMAGE, ints(0, 1, 5, 1), ints(1, 7, 0, 2), ints(1, 2, -2, 1)),
        (1, 3, 3),
        "StridedSliceOptions",
        {"beginMask": 0, "shrinkAxisMask": 8},
    ),
    Case(
        "STRIDED_SLICE",
        (IMAGE, ints(0, 0, 1), ints(0, 0, 3), ints(1, 1, 1)),
        (1, 1, 7, 6, 2),
        "StridedSliceOptions",
        {"newAxisMask": 1, "ellipsisMask": 2},
        label="masks",
    ),
    Case("PAD", (IMAGE, ints([[0, 0], [1, 2], [0, 3], [0, 1]])), (1, 10, 9, 5), "PadOptions"),
    Case("PADV2", (IMAGE, ints([[0, 0], [1, 2], [0, 3], [0, 1]]), np.float32(1.5)), (1, 10, 9, 5), "PadV2Options"),
    Case("MIRROR_PAD", (IMAGE, ints([[0, 0], [1, 2], [0, 3], [0, 0]])), (1, 10, 9, 4), "MirrorPadOptions", {"mode": 0}),
    Case(
        "MIRROR_PAD",
        (IMAGE, ints([[0, 0], [1, 2], [0, 3], [0, 0]])),
        (1, 10, 9, 4),
        "MirrorPadOptions",
        {"mode": 1},
        label="symmetric",
    ),
    Case("TILE", ((2, 3), ints(2, 3)), (4, 9), "TileOptions"),
    Case("BROADCAST_TO", ((1, 3), ints(4, 3)), (4, 3), "BroadcastToOptions"),
    Case("REVERSE_V2", ((2, 3, 4), ints([1])), (2, 3, 4), "ReverseV2Options"),
    Case("DEPTH_TO_SPACE", (IMAGE, ), (1, 14, 12, 1), "DepthToSpaceOptions", {"blockSize": 2}),
    Case("SPACE_TO_DEPTH", ((1, 6, 4, 3),), (1, 3, 2, 12), "SpaceToDepthOptions", {"blockSize": 2}),
    Case("SPACE_TO_BATCH_ND", (IMAGE, ints(2, 3), ints([[1, 0], [0, 0]])), (6, 4, 2, 4), "SpaceToBatchNDOptions"),
    Case("BATCH_TO_SPACE_ND", ((6, 4, 2, 4), ints(2, 3), ints([[1, 0], [0, 2]])), (1, 7, 4, 4),
         "BatchToSpaceNDOptions"),
    *(
        Case("RESIZE_BILINEAR", (IMAGE, ints(11, 9)), (1, 11, 9, 4), "ResizeBilinearOptions", fields, label=label)
        for label, fields in (("plain", {}), ("half", {"halfPixelCenters": True}), ("corners", {"alignCorners": True}))
    ),
    *(
        Case("RESIZE_NEAREST_NEIGHBOR", (IMAGE, ints(14, 9)), (1, 14, 9, 4), "ResizeNearestNeighborOptions", fields,
             label=label)
        for label, fields in (("plain", {}), ("half", {"halfPixelCenters": True}), ("corners", {"alignCorners": True}))
    ),
    Case("GATHER", (IMAGE, ints(3, 0, 0)), (1, 3, 6, 4), "GatherOptions", {"axis": 1}),
    Case("GATHER_ND", ((3, 4, 2), ints([[2, 1], [0, 3]])), (2, 2), "GatherNdOptions"),
    Case("EMBEDDING_LOOKUP", ((3, "int32"), floats(4, 5)), (3, 5), low=0, high=4),
    Case("ONE_HOT", ((3, "int32"), ints(4), np.float32(2), np.float32(-1)), (3, 4), "OneHotOptions", {"axis": -1},
         low=0, high=4),
    Case("FAKE_QUANT", (IMAGE,), IMAGE, "FakeQuantOptions", {"min": -1.7, "max": 2.1, "numBits": 8}),
    Case("DEQUANTIZE", (np.array([[1, 2.5, -3]], np.float16),), (1, 3), "DequantizeOptions", label="half precision"),
    Case("SHAPE", (IMAGE,), (4,), "ShapeOptions", {"outType": 2}, kind="INT32"),
    Case("RANK", (IMAGE,), (), "RankOptions", kind="INT32"),
    Case("FILL", (ints(2, 3), np.float32(1.5)), (2, 3), "FillOptions"),
    Case("RANGE", (ints(2), ints(11), ints(3)), (3,), "RangeOptions", kind="INT32"),
)  # fmt: skip
