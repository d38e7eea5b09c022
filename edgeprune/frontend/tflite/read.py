"""Reads a TFLite flatbuffer into plain values; every offset, length and index is checked before it is used."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.tflite.schema import Operator, Quantization, Subgraph, Tensor
from edgeprune.frontend.tflite.sparsity import Axis, densify

_LARGEST_RANK = 8
_LARGEST_TENSOR = (1 << 31) - 1
_DTYPES = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "FLOAT64": np.float64, "BOOL": np.bool_,
    "INT4": np.int8, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
}  # fmt: skip
_QUANTIZED = ("INT4", "INT8", "UINT8", "INT16", "INT32", "INT64")


def read_subgraphs(source: Path) -> tuple[Subgraph, ...]:
    """The subgraphs of a .tflite file; the first is the model. Raises EdgepruneError (model-missing, model-corrupt)."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise EdgepruneError(
            "model-missing", f"cannot read '{source}': {error.strerror}", where=str(source), hint="check the path"
        ) from error
    try:
        return _Reader(content).subgraphs()
    except EdgepruneError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError) and str(error) else "an offset leads out of the file"
        raise EdgepruneError(
            "model-corrupt",
            f"'{source.name}' is not a readable TFLite model",
            where=str(source),
            hint=f"{reason}; the file is truncated or damaged, fetch or export it again",
        ) from error


class _Reader:
    """One file. `budget` bounds the entries that are looked at: vectors that overlap must not multiply the work."""

    def __init__(self, content: bytes) -> None:
        if len(content) < 8 or content[4:8] != b"TFL3":
            raise ValueError("the identifier TFL3 is not there")
        self.content = content
        self.budget = 4 * len(content) + (1 << 16)
        self.model = tflite.Model.GetRootAs(content)

    def subgraphs(self) -> tuple[Subgraph, ...]:
        self.buffers = [self._buffer(buffer) for buffer in self._tables(self.model, "Buffers")]
        self.codes = [_operator_name(code) for code in self._tables(self.model, "OperatorCodes")]
        found = tuple(self._subgraph(graph) for graph in self._tables(self.model, "Subgraphs"))
        if not found or not found[0].outputs:
            raise ValueError("the file holds no graph with outputs")
        return found

    def _spend(self, count: int) -> None:
        self.budget -= count
        if count < 0 or self.budget < 0:
            raise ValueError("a length is larger than the file")

    def _tables(self, owner: Any, name: str) -> Iterator[Any]:
        count = getattr(owner, f"{name}Length")()
        self._spend(count)
        for index in range(count):
            yield getattr(owner, name)(index)

    def _vector(self, owner: Any, name: str) -> np.ndarray:
        count = getattr(owner, f"{name}Length")()
        self._spend(count)
        return getattr(owner, f"{name}AsNumpy")() if count else np.zeros(0, np.int64)

    def _integers(self, owner: Any, name: str) -> tuple[int, ...]:
        return tuple(int(number) for number in self._vector(owner, name))

    def _buffer(self, buffer: Any) -> np.ndarray:
        """The bytes of a buffer; large files keep them behind the flatbuffer."""
        offset, size = buffer.Offset(), buffer.Size()
        if offset > 1:
            if offset + size > len(self.content):
                raise ValueError("a buffer reaches beyond the file")
            return np.frombuffer(self.content, np.uint8, size, offset)
        return buffer.DataAsNumpy() if buffer.DataLength() else np.zeros(0, np.uint8)

    def _subgraph(self, graph: Any) -> Subgraph:
        tensors = tuple(self._tensor(tensor) for tensor in self._tables(graph, "Tensors"))
        operators = tuple(self._operator(operator) for operator in self._tables(graph, "Operators"))
        subgraph = Subgraph(
            _text(graph.Name()),
            tensors,
            operators,
            self._integers(graph, "Inputs"),
            self._integers(graph, "Outputs"),
        )
        _check_order(subgraph)
        return subgraph

    def _tensor(self, tensor: Any) -> Tensor:
        shape = self._integers(tensor, "Shape")
        if len(shape) > _LARGEST_RANK or any(size < 0 for size in shape) or math.prod(shape) > _LARGEST_TENSOR:
            raise ValueError(f"a tensor has the shape {list(shape)}")
        kind = _names("TensorType").get(tensor.Type(), "unknown")
        dtype = np.dtype(_DTYPES[kind]) if kind in _DTYPES else None
        data = self._data(tensor, kind, dtype, shape)
        quantization = self._quantization(tensor, shape) if kind in _QUANTIZED else None
        return Tensor(_text(tensor.Name()), kind, dtype, shape, data, quantization, bool(tensor.IsVariable()))

    def _data(self, tensor: Any, kind: str, dtype: np.dtype[Any] | None, shape: tuple[int, ...]) -> np.ndarray | None:
        number = tensor.Buffer()
        if number >= len(self.buffers):
            raise ValueError(f"a tensor reads buffer {number} of {len(self.buffers)}")
        stored = self.buffers[number]
        if dtype is None or tensor.IsVariable() or not stored.size:
            return None
        sparsity = tensor.Sparsity()
        size = math.prod(shape)
        if kind == "INT4":
            halves = np.stack([stored << 4, stored & 0xF0], axis=-1).reshape(-1).view(np.int8) >> 4
            values = halves if sparsity is not None else halves[:size]
        elif stored.size % dtype.itemsize:
            raise ValueError(f"a buffer of {stored.size} bytes holds no whole {kind} values")
        else:
            values = np.frombuffer(stored.tobytes(), dtype)
        if sparsity is not None:
            return self._densified(sparsity, values, shape)
        if values.size != size:
            raise ValueError(f"a buffer holds {values.size} values for the shape {list(shape)}")
        return values.reshape(shape)

    def _densified(self, sparsity: Any, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        axes = [self._axis(axis) for axis in self._tables(sparsity, "DimMetadata")]
        order, blocks = self._integers(sparsity, "TraversalOrder"), self._integers(sparsity, "BlockMap")
        return densify(values, shape, order, blocks, axes)

    def _axis(self, axis: Any) -> Axis:
        if axis.Format() == tflite.DimensionType.DENSE:
            return Axis(axis.DenseSize())
        return Axis(
            0,
            self._indices(axis.ArraySegmentsType(), axis.ArraySegments()),
            self._indices(axis.ArrayIndicesType(), axis.ArrayIndices()),
        )

    def _indices(self, kind: int, table: Any) -> np.ndarray:
        vectors = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
        if kind not in vectors or table is None:
            raise ValueError("a sparse tensor has no indices")
        vector = vectors[kind]()
        vector.Init(table.Bytes, table.Pos)
        return self._vector(vector, "Values").astype(np.int64)

    def _quantization(self, tensor: Any, shape: tuple[int, ...]) -> Quantization | None:
        stored = tensor.Quantization()
        scale = self._vector(stored, "Scale") if stored is not None else np.zeros(0)
        if stored is None or not scale.size:
            return None
        scale = scale.astype(np.float32)
        zero_point = self._vector(stored, "ZeroPoint").astype(np.int64)
        axis = stored.QuantizedDimension()
        if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
            raise EdgepruneError(
                "quantization-invalid",
                f"tensor '{_text(tensor.Name())}' has a scale that is not a positive number",
                where=f"tensor '{_text(tensor.Name())}'",
                hint="quantize and export the model again",
            )
        if zero_point.size not in (0, 1, scale.size):
            raise ValueError(f"a tensor has {scale.size} scales and {zero_point.size} zero points")
        full = np.zeros(scale.size, np.int64) if not zero_point.size else np.resize(zero_point, scale.size)
        return Quantization(scale, full, _channel_axis(axis, shape, scale.size))

    def _operator(self, operator: Any) -> Operator:
        code = operator.OpcodeIndex()
        if code >= len(self.codes):
            raise ValueError(f"an operator has code {code} of {len(self.codes)}")
        name, custom = self.codes[code]
        return Operator(
            name,
            self._integers(operator, "Inputs"),
            self._integers(operator, "Outputs"),
            self._options(operator),
            self._integers(operator, "Intermediates"),
            custom,
        )

    def _options(self, operator: Any) -> dict[str, Any]:
        kind = _names("BuiltinOptions").get(operator.BuiltinOptionsType(), "NONE")
        table = operator.BuiltinOptions()
        if kind == "NONE" or table is None or not hasattr(tflite, kind):
            return {}
        options = getattr(tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        scalars, vectors = _fields(kind)
        found: dict[str, Any] = {name: getattr(options, name)() for name in scalars}
        found.update({name: self._integers(options, name) for name in vectors})
        return found


def _channel_axis(axis: int, shape: tuple[int, ...], channels: int) -> int:
    """The axis that `channels` scales are for; old converters give a bias the axis of its weight."""
    if channels == 1 or (0 <= axis < len(shape) and shape[axis] == channels):
        return 0 if channels == 1 else axis
    if shape == (channels,):
        return 0
    raise ValueError(f"{channels} scales do not fit axis {axis} of the shape {list(shape)}")


def _operator_name(code: Any) -> tuple[str, bool]:
    """TFLite's name and whether the operator is a custom one; old files keep the number in one byte."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = _names("BuiltinOperator").get(number, f"number {number}")
    return (_text(code.CustomCode()) or "custom", True) if name == "CUSTOM" else (name, False)


@cache
def _names(enumeration: str) -> dict[int, str]:
    members = vars(getattr(tflite, enumeration)).items()
    return {value: name for name, value in members if isinstance(value, int) and not name.startswith("_")}


@cache
def _fields(kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The accessors of an options table: those of one value, and the names of its vectors of numbers."""
    methods: dict[str, Callable[..., Any]] = {
        name: method
        for name, method in vars(getattr(tflite, kind)).items()
        if inspect.isfunction(method) and name != "Init" and not name.startswith("_")
    }
    vectors = {name.removesuffix("AsNumpy") for name in methods if name.endswith("AsNumpy")}
    scalars = [name for name, method in methods.items() if len(inspect.signature(method).parameters) == 1]
    derived = {f"{name}{ending}" for name in methods for ending in ("Length", "AsNumpy", "IsNone")}
    return tuple(name for name in scalars if name not in derived), tuple(sorted(vectors))


def _check_order(graph: Subgraph) -> None:
    """Every index names a tensor, every tensor is made once, and nothing is read before it is made."""
    count = len(graph.tensors)
    made = set(graph.inputs)
    if len(made) < len(graph.inputs):
        raise ValueError("an input occurs twice")
    produced = {index for operator in graph.operators for index in operator.outputs}
    for operator in graph.operators:
        for index in operator.inputs:
            if not -1 <= index < count or (index in produced and index not in made):
                raise ValueError(f"operator {operator.name} reads tensor {index}, which nothing has made")
        for index in operator.outputs:
            if not 0 <= index < count or index in made or graph.tensors[index].data is not None:
                raise ValueError(f"operator {operator.name} writes tensor {index}, which is there already")
        if any(not -1 <= index < count for index in operator.intermediates):
            raise ValueError(f"operator {operator.name} has an intermediate tensor that does not exist")
        made.update(operator.outputs)
    if any(not 0 <= index < count for index in (*graph.inputs, *graph.outputs)):
        raise ValueError("an input or output names a tensor that does not exist")


def _text(name: bytes | None) -> str:
    return name.decode("utf-8", "replace") if name else ""
