"""QONNX's quantizers (Quant, BipolarQuant, Trunc: any number of bits), written out in standard arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.rewriting import constants_of

_DOMAINS = ("", "qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
_MOST_BITS = 24


def write_out_quantizers(proto: onnx.ModelProto, graphs: Iterable[onnx.GraphProto]) -> None:
    """Replace every quantizer of QONNX in `graphs` of `proto`, in place: weights then fold to what they round to.

    Definitions: Pappalardo et al., "QONNX: Representing Arbitrary-Precision Quantized Neural Networks", 2022.
    Raises EdgepruneError (op-unsupported) for a form that is not known.
    """
    for graph in graphs:
        if not any(_is_quantizer(node) for node in graph.node):
            continue
        constants = constants_of(graph)
        nodes = list(graph.node)
        del graph.node[:]
        for node in nodes:
            graph.node.extend(_written_out(node, constants) if _is_quantizer(node) else [node])
    kept = [entry for entry in proto.opset_import if entry.domain not in _DOMAINS[1:]]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)


def _is_quantizer(node: onnx.NodeProto) -> bool:
    return node.domain in _DOMAINS and node.op_type in _TABLE


@dataclass
class _Written:
    """The nodes that stand for `node`; `constants` are the graph's."""

    node: onnx.NodeProto
    constants: Mapping[str, np.ndarray]
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def add(self, op: str, *inputs: str, to: str = "") -> str:
        """A new node; gives the name of its output."""
        name = f"{self.node.output[0]}_{len(self.nodes)}"
        output = to or name
        self.nodes.append(helper.make_node(op, inputs, [output], name=name))
        return output

    def number(self, value: float) -> str:
        """A constant float32 scalar."""
        name = f"{self.node.output[0]}_{len(self.nodes)}"
        tensor = numpy_helper.from_array(np.array(value, np.float32))
        self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
        return name

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute of the quantizer."""
        found = [helper.get_attribute_value(item) for item in self.node.attribute if item.name == name]
        return found[0] if found else default

    def bits(self, place: int) -> int:
        """A constant number of bits."""
        array = self.constants.get(self.node.input[place])
        if array is None or array.size != 1 or not 1 <= float(array.reshape(())) <= _MOST_BITS:
            raise self.refuse(f"input {place} is no constant number of bits from 1 to {_MOST_BITS}")
        return int(array.reshape(()))

    def rounded(self, value: str) -> str:
        """`value` by the rounding mode of the quantizer."""
        mode = self.attribute("rounding_mode", b"FLOOR" if self.node.op_type == "Trunc" else b"ROUND")
        name = (mode.decode() if isinstance(mode, bytes) else str(mode)).upper()
        if name in _DIRECT:
            return self.add(_DIRECT[name], value)
        if name not in _BY_SIZE:
            raise self.refuse(f"rounding mode {name}")
        op, offset = _BY_SIZE[name]
        size = self.add("Abs", value)
        size = self.add("Add", size, self.number(offset)) if offset else size
        return self.add("Mul", self.add("Sign", value), self.add(op, size))

    def refuse(self, why: str) -> EdgepruneError:
        """The error for a form that is not known."""
        name = self.node.name or self.node.output[0]
        return EdgepruneError(
            "op-unsupported",
            f"QONNX operator {self.node.op_type} cannot be imported: {why}",
            where=f"node '{name}' ({self.node.op_type})",
            hint="export the model with constant bit widths and a standard rounding mode",
        )


def _written_out(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> list[onnx.NodeProto]:
    written = _Written(node, constants)
    wanted, convert = _TABLE[node.op_type]
    if len(node.input) != wanted or len(node.output) != 1:
        raise written.refuse(f"it has {len(node.input)} inputs in place of {wanted}")
    convert(written)
    return written.nodes


def _quant(w: _Written) -> None:
    """Inputs: data, scale, zero point, bits."""
    data, scale, zero, _ = w.node.input
    bits, signed, narrow = w.bits(3), int(w.attribute("signed", 1)), int(w.attribute("narrow", 0))
    highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    lowest = -(2 ** (bits - 1)) + narrow if signed else 0
    steps = w.add("Add", w.add("Div", data, scale), zero)
    kept = w.add("Clip", steps, w.number(lowest), w.number(highest))
    w.add("Mul", w.add("Sub", w.rounded(kept), zero), scale, to=w.node.output[0])


def _bipolar(w: _Written) -> None:
    """Inputs: data, scale; plus or minus one times the scale."""
    negative = w.add("Less", w.node.input[0], w.number(0.0))
    sign = w.add("Where", negative, w.number(-1.0), w.number(1.0))
    w.add("Mul", sign, w.node.input[1], to=w.node.output[0])


def _trunc(w: _Written) -> None:
    """Inputs: data, scale, zero point, bits before, bits after: the lowest bits go."""
    data, scale, zero, _, _ = w.node.input
    steps = w.add("Round", w.add("Add", w.add("Div", data, scale), zero))
    cut = w.rounded(w.add("Div", steps, w.number(2.0 ** (w.bits(3) - w.bits(4)))))
    w.add("Mul", w.add("Sub", cut, zero), scale, to=w.node.output[0])


_DIRECT = {"ROUND": "Round", "HALF_EVEN": "Round", "CEIL": "Ceil", "FLOOR": "Floor"}
_BY_SIZE = {
    "ROUND_TO_ZERO": ("Floor", 0.0),
    "DOWN": ("Floor", 0.0),
    "UP": ("Ceil", 0.0),
    "HALF_UP": ("Floor", 0.5),
    "HALF_DOWN": ("Ceil", -0.5),
}
_TABLE: dict[str, tuple[int, Callable[[_Written], None]]] = {
    "Quant": (4, _quant),
    "BipolarQuant": (2, _bipolar),
    "Trunc": (5, _trunc),
}
