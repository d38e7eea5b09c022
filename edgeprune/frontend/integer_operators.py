"""Operators on stored integers, as ONNX Runtime's quantizer writes them, written out by QuantizeLinear and
DequantizeLinear: QLinearConv and its kin of the standard and of `com.microsoft`, ConvInteger, and grids of 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.rewriting import constants_of, replace_nodes

_MICROSOFT = "com.microsoft"
_WIDE = (np.dtype(np.uint16), np.dtype(np.int16))
_CARRIED = frozenset(
    [
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators that give elements of their first input, on its grid."""


def write_out_integer_operators(proto: onnx.ModelProto, graphs: Iterable[onnx.GraphProto]) -> None:
    """Replace every operator on stored integers in `graphs` of `proto`, in place.

    Definitions: the ONNX standard; ONNX Runtime, ContribOperators.md. Grids of 16 bits become arithmetic on real
    numbers. Raises EdgepruneError (op-unsupported) for a form that is not known.
    """
    for graph in graphs:
        replace_nodes(graph, _Writer(graph))
    if not any(node.domain == _MICROSOFT for node in proto.graph.node):
        kept = [entry for entry in proto.opset_import if entry.domain != _MICROSOFT]
        del proto.opset_import[:]
        proto.opset_import.extend(kept)


Convert = Callable[["_Writer", onnx.NodeProto], None]


@dataclass
class _Writer:
    """Adds to `graph` the nodes that stand for others.

    `grids` holds scale and zero point of 8-bit values, `real` the 16-bit values that are held as real numbers.
    """

    graph: onnx.GraphProto
    constants: dict[str, np.ndarray] = field(init=False)
    grids: dict[str, tuple[str, str]] = field(default_factory=dict)
    real: set[str] = field(default_factory=set)
    outputs: set[str] = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.outputs = {value.name for value in self.graph.output}
        self.constants = constants_of(self.graph)

    def convert(self, node: onnx.NodeProto) -> Convert | None:
        """How `node` is written out; None where it stays."""
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in ("", _MICROSOFT):
            return _linear
        if not node.domain and node.op_type in _CARRIED and node.input[0] in self.grids:
            return _carried
        return _TABLE.get((node.domain, node.op_type))

    def write(self, node: onnx.NodeProto, convert: Convert) -> None:
        """Add what stands for `node`."""
        try:
            convert(self, node)
        except (IndexError, KeyError) as error:
            raise _refusal(node, "an input that must be there or constant is not") from error

    def add(
        self, op: str, *inputs: str, result: str = "", like: onnx.NodeProto | None = None, **attributes: Any
    ) -> str:
        """A new node with the attributes of `like` and these; gives the name of its output."""
        self.count += 1
        name = result or f"{self.graph.name}_written_{self.count}"
        made = helper.make_node(op, inputs, [name], name=f"{name}_{op}", **attributes)
        if like is not None:
            made.name = like.name or made.name
            made.attribute.extend(item for item in like.attribute if item.name not in _LEFT_OUT)
        self.graph.node.append(made)
        return name

    def constant(self, array: np.ndarray) -> str:
        """A new constant."""
        self.count += 1
        name = f"{self.graph.name}_written_{self.count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        self.constants[name] = np.asarray(array)
        return name

    def opened(self, value: str, scale: str, zero: str, *, axis: int = 0) -> str:
        """The real number that `value` stands for; a scale for each channel lies along `axis`."""
        scales, zeros = self.constants[scale], self.constants[zero] if zero else None
        if scales.size == 1:
            scale = self.constant(scales.reshape(()))
            zero = "" if zeros is None else self.constant(zeros.reshape(()))
            return self.add("DequantizeLinear", value, scale, *([zero] if zero else []))
        return self.add("DequantizeLinear", value, scale, *([zero] if zero else []), axis=axis)

    def closed(self, real: str, scale: str, zero: str, name: str) -> None:
        """Store `real` on a grid under `name`."""
        scale = self.constant(self.constants[scale].reshape(()))
        zero = self.constant(self.constants[zero].reshape(())) if zero else self.constant(np.zeros((), np.uint8))
        self.add("QuantizeLinear", real, scale, zero, result=name)
        self.grids[name] = scale, zero

    def bias(self, value: str, first: str, second: str, factor: float = 1.0) -> str:
        """The int32 bias of a product, on the grid of the product."""
        scales = self.constants[first].reshape(-1) * self.constants[second].reshape(-1) * np.float32(factor)
        scale = self.constant(scales.reshape(()) if scales.size == 1 else scales)
        along: dict[str, Any] = {} if scales.size == 1 else {"axis": 0}
        return self.add("DequantizeLinear", value, scale, **along)


def _input(node: onnx.NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = [helper.get_attribute_value(item) for item in node.attribute if item.name == name]
    return found[0] if found else default


def _refusal(node: onnx.NodeProto, why: str) -> EdgepruneError:
    return EdgepruneError(
        "op-unsupported",
        f"operator {node.op_type} on stored integers cannot be imported: {why}",
        where=f"node '{node.name or node.output[0]}' ({node.op_type})",
        hint="quantize the model again with QuantFormat.QDQ and constant scales",
    )


def _linear(w: _Writer, node: onnx.NodeProto) -> None:
    """QuantizeLinear and DequantizeLinear: those of 16 bits go, others become the standard's."""
    zero = w.constants.get(_input(node, 2))
    stored = w.constants.get(node.input[0])
    closes = node.op_type == "QuantizeLinear"
    wide = node.input[0] in w.real if zero is None else zero.dtype in _WIDE
    if wide or (stored is not None and stored.dtype in _WIDE):
        _wide(w, node, closes)
        return
    node.domain = ""
    w.graph.node.append(node)
    if closes and zero is not None and zero.size == 1:
        w.grids[node.output[0]] = node.input[1], node.input[2]


def _wide(w: _Writer, node: onnx.NodeProto, closes: bool) -> None:
    scales, axis = w.constants[node.input[1]], int(_attribute(node, "axis", 1))
    zeros = w.constants[node.input[2]] if _input(node, 2) else np.zeros((), np.int16)
    rank = w.constants[node.input[0]].ndim if scales.size > 1 else 0
    shape = [-1 if place == axis % rank else 1 for place in range(rank)] if rank else []
    scale, zero = (w.constant(array.astype(np.float32).reshape(shape)) for array in (scales, zeros))
    if not closes:
        whole = w.add("Cast", node.input[0], to=TensorProto.FLOAT) if node.input[0] not in w.real else node.input[0]
        w.add("Mul", w.add("Sub", whole, zero), scale, result=node.output[0])
        return
    if node.output[0] in w.outputs:
        raise _refusal(node, "an output of the model holds integers of 16 bits")
    ends = np.iinfo(zeros.dtype)
    low, high = (w.constant(np.array(end, np.float32)) for end in (ends.min, ends.max))
    steps = w.add("Add", w.add("Round", w.add("Div", node.input[0], scale)), zero)
    w.real.add(w.add("Clip", steps, low, high, result=node.output[0]))


def _carried(w: _Writer, node: onnx.NodeProto) -> None:
    scale, zero = w.grids[node.input[0]]
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[0] = w.opened(node.input[0], scale, zero)
    made.output[:] = [f"{name}_opened" if name else "" for name in node.output]
    w.graph.node.append(made)
    for inner, name in zip(made.output, node.output, strict=True):
        if name:
            w.closed(inner, scale, zero, name)


def _convolution(w: _Writer, node: onnx.NodeProto) -> None:
    if _attribute(node, "channels_last", 0):
        raise _refusal(node, "its channels are last")
    x, x_scale, x_zero, weight, scale, zero, y_scale, y_zero = node.input[:8]
    operands = [w.opened(x, x_scale, x_zero), w.opened(weight, scale, zero)]
    operands += [w.bias(node.input[8], x_scale, scale)] if _input(node, 8) else []
    w.closed(w.add("Conv", *operands, like=node), y_scale, y_zero, node.output[0])


def _product(w: _Writer, node: onnx.NodeProto) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.input[:8]
    axis = w.constants[b].ndim - 1 if b in w.constants else 0
    real = w.add("MatMul", w.opened(a, a_scale, a_zero), w.opened(b, b_scale, b_zero, axis=axis), like=node)
    w.closed(real, y_scale, y_zero, node.output[0])


def _general_product(w: _Writer, node: onnx.NodeProto) -> None:
    """Without a scale for the output it is real."""
    a, a_scale, a_zero, b, b_scale, b_zero = node.input[:6]
    axis = 0 if _attribute(node, "transB", 0) else 1
    operands = [w.opened(a, a_scale, a_zero), w.opened(b, b_scale, b_zero, axis=axis)]
    if _input(node, 6):
        operands.append(w.bias(node.input[6], a_scale, b_scale, _attribute(node, "alpha", 1.0)))
    if not _input(node, 7):
        w.add("Gemm", *operands, like=node, result=node.output[0])
        return
    w.closed(w.add("Gemm", *operands, like=node), node.input[7], _input(node, 8), node.output[0])


def _pair(w: _Writer, node: onnx.NodeProto) -> None:
    first, second = w.opened(*node.input[:3]), w.opened(*node.input[3:6])
    real = w.add(node.op_type.removeprefix("QLinear"), first, second, like=node)
    w.closed(real, node.input[6], _input(node, 7), node.output[0])


def _single(w: _Writer, node: onnx.NodeProto) -> None:
    if _attribute(node, "channels_last", 0):
        raise _refusal(node, "its channels are last")
    real = w.add(node.op_type.removeprefix("QLinear"), w.opened(*node.input[:3]), like=node)
    w.closed(real, node.input[3], _input(node, 4), node.output[0])


def _concatenation(w: _Writer, node: onnx.NodeProto) -> None:
    parts: Sequence[str] = node.input[2:]
    real = [w.opened(*parts[start : start + 3]) for start in range(0, len(parts), 3)]
    w.closed(w.add("Concat", *real, like=node), node.input[0], node.input[1], node.output[0])


def _selection(w: _Writer, node: onnx.NodeProto) -> None:
    real = w.add("Where", node.input[0], w.opened(*node.input[1:4]), w.opened(*node.input[4:7]), like=node)
    w.closed(real, node.input[7], _input(node, 8), node.output[0])


def _integer_convolution(w: _Writer, node: onnx.NodeProto) -> None:
    """ConvInteger: exact in real numbers as long as sums are below 2^24."""
    x, weight = (w.add("Cast", name, to=TensorProto.FLOAT) for name in node.input[:2])
    if _input(node, 2):
        x = w.add("Sub", x, w.add("Cast", node.input[2], to=TensorProto.FLOAT))
    if _input(node, 3):
        zero = w.constants[node.input[3]]
        shape = [-1] + [1] * (w.constants[node.input[1]].ndim - 1)
        weight = w.add("Sub", weight, w.constant(zero.astype(np.float32).reshape(shape)))
    w.add("Cast", w.add("Conv", x, weight, like=node), result=node.output[0], to=TensorProto.INT32)


_LEFT_OUT = ("channels_last", "opset")
_TABLE: dict[tuple[str, str], Convert] = {
    ("", "QLinearConv"): _convolution,
    ("", "QLinearMatMul"): _product,
    ("", "ConvInteger"): _integer_convolution,
    (_MICROSOFT, "QLinearConv"): _convolution,
    (_MICROSOFT, "QGemm"): _general_product,
    (_MICROSOFT, "QLinearAdd"): _pair,
    (_MICROSOFT, "QLinearMul"): _pair,
    (_MICROSOFT, "QLinearConcat"): _concatenation,
    (_MICROSOFT, "QLinearWhere"): _selection,
    **{
        (_MICROSOFT, f"QLinear{name}"): _single
        for name in ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
    },
}
