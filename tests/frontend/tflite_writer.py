"""Writes small .tflite files with LiteRT's own schema classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Quant = tuple[Any, Any] | tuple[Any, Any, int]
"""Scale or scales, zero point or points, axis."""


_VERSIONS = {"BROADCAST_TO": 2}


def _number(enumeration: type, name: str) -> int:
    return int(getattr(enumeration, name))


class Writer:
    """One subgraph; tensors are numbers that `tensor` and `constant` give."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = b"test"
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.name = b"main"
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: Sequence[int],
        kind: str = "FLOAT32",
        quant: Quant | None = None,
        *,
        name: str = "",
        variable: bool = False,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name = (name or f"t{len(self.graph.tensors)}").encode()
        tensor.shape, tensor.type, tensor.buffer = list(shape), _number(schema.TensorType, kind), 0
        tensor.isVariable = variable
        if quant is not None:
            parameters = schema.QuantizationParametersT()
            parameters.scale = np.atleast_1d(np.asarray(quant[0], np.float32)).tolist()
            parameters.zeroPoint = np.resize(np.asarray(quant[1], np.int64), len(parameters.scale)).tolist()
            parameters.quantizedDimension = quant[2] if len(quant) > 2 else 0
            tensor.quantization = parameters
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, array: Any, quant: Quant | None = None, *, name: str = "", kind: str = "") -> int:
        array = np.asarray(array)
        index = self.tensor(array.shape, kind or str(array.dtype).upper(), quant, name=name)
        self.data(index, array.tobytes())
        return index

    def data(self, index: int, content: bytes) -> None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[index].buffer = len(self.model.buffers) - 1

    def node(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        fields: Mapping[str, Any] | None = None,
        intermediates: Sequence[int] = (),
    ) -> None:
        code = schema.OperatorCodeT()
        number = _number(schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version = _VERSIONS.get(name, 1)
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if intermediates:
            operator.intermediates = list(intermediates)
        if options:
            operator.builtinOptionsType = _number(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for field, value in (fields or {}).items():
                assert hasattr(operator.builtinOptions, field), field
                setattr(operator.builtinOptions, field, value)
        self.graph.operators.append(operator)

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())
