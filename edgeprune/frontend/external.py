"""Weights that an ONNX model keeps in files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from edgeprune.errors import EdgepruneError

_LARGEST_TOTAL = (1 << 31) - (1 << 24)


def embed_external_data(proto: onnx.ModelProto, source: Path) -> None:
    """Read every external tensor of `proto`, the content of file `source`, into it.

    Files must lie in the model's folder. Raises EdgepruneError (model-unsafe, model-missing, model-corrupt).
    """
    folder = source.resolve().parent
    total = 0
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        data = _read(tensor, folder, _LARGEST_TOTAL - total)
        total += len(data)
        tensor.raw_data = data
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes) -> Iterator[onnx.TensorProto]:  # type: ignore[no-untyped-def]
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _graph_tensors(graph)


def _read(tensor: onnx.TensorProto, folder: Path, limit: int) -> bytes:
    fields = {entry.key: entry.value for entry in tensor.external_data}
    where = f"tensor '{tensor.name}'"
    path = _inside(folder, fields.get("location", ""), where)
    try:
        size = path.stat().st_size
        offset = int(fields.get("offset", "0"))
        length = int(fields.get("length", str(size - offset)))
        if offset < 0 or length < 0 or offset + length > size:
            raise ValueError(f"'{path.name}' has {size} bytes, the model reads {length} from {offset}")
        if length > limit:
            raise ValueError("its weights are larger than 2 GB together")
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except ValueError as error:
        raise EdgepruneError(
            "model-corrupt", "the model's external data does not fit it", where=where, hint=str(error)
        ) from error
    except OSError as error:
        raise EdgepruneError(
            "model-missing",
            f"cannot read '{path.name}', where the model keeps weights: {error.strerror}",
            where=where,
            hint="keep the model and its data files in one folder",
        ) from error


def _inside(folder: Path, location: str, where: str) -> Path:
    path = (folder / location).resolve() if location and "\0" not in location else folder
    if path == folder or not path.is_relative_to(folder):
        raise EdgepruneError(
            "model-unsafe",
            f"the model asks for data outside its own folder: '{location}'",
            where=where,
            hint="only load models from people you trust; keep data files beside the model",
        )
    return path
