"""Replaces nodes of an ONNX graph by others, in their place."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx
from onnx import numpy_helper


class Writer(Protocol):
    """Knows which nodes are replaced, and adds what stands for them to the graph it was made for."""

    real: set[str]
    """Values whose type or shape is no longer what the graph noted."""

    def convert(self, node: onnx.NodeProto) -> Any | None:
        """How `node` is written out; None where it stays."""

    def write(self, node: onnx.NodeProto, convert: Any) -> None:
        """Add what stands for `node`."""


def replace_nodes(graph: onnx.GraphProto, writer: Writer) -> None:
    """Write out every node of `graph` that `writer` converts, in place and in order."""
    nodes = list(graph.node)
    if not any(writer.convert(node) for node in nodes):
        return
    del graph.node[:]
    for node in nodes:
        convert = writer.convert(node)
        if convert is None:
            graph.node.append(node)
        else:
            writer.write(node, convert)
    known = [value for value in graph.value_info if value.name not in writer.real]
    del graph.value_info[:]
    graph.value_info.extend(known)


def constants_of(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The arrays of `graph` by name: initializers, and what nodes of constants hold."""
    found = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
        if node.op_type == "Constant" and values:
            found[node.output[0]] = numpy_helper.to_array(values[0])
    return found
