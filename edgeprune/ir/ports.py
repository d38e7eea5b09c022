"""What goes into and comes out of a model, and the model's own file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import onnx_ir as ir

from edgeprune.data.samples import InputSpec
from edgeprune.errors import EdgepruneError
from edgeprune.files import write_bytes


def static_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape of `value` in elements.

    Raises EdgepruneError (shape-dynamic) where an axis has no fixed size.
    """
    shape = value.shape
    if shape is None or not all(isinstance(size, int) for size in shape):
        raise EdgepruneError(
            "shape-dynamic", f"tensor '{value.name}' has no fixed shape", where=f"tensor '{value.name}'"
        )
    return tuple(size for size in shape if isinstance(size, int))


def dtype_name(value: ir.Value) -> str:
    """The element type of `value` as numpy names it, such as float32.

    Raises EdgepruneError (dtype-unsupported) where the type is unknown.
    """
    if value.dtype is None:
        raise EdgepruneError(
            "dtype-unsupported", f"tensor '{value.name}' has no element type", where=f"tensor '{value.name}'"
        )
    return str(value.dtype.numpy().name)


def input_specs(model: ir.Model) -> list[InputSpec]:
    """Name, shape (with its batch axis) and dtype of every model input, in order."""
    return [InputSpec(str(value.name), static_shape(value), dtype_name(value)) for value in model.graph.inputs]


def output_names(model: ir.Model) -> list[str]:
    """The names of the model's outputs, in order."""
    return [str(value.name) for value in model.graph.outputs]


def load_ir(path: str | PathLike[str]) -> ir.Model:
    """Read a model that `save_ir` wrote, as it is.

    Raises EdgepruneError (model-missing, model-corrupt).
    """
    source = Path(path)
    if not source.is_file():
        raise EdgepruneError("model-missing", f"there is no model file '{source}'", where=str(source))
    try:
        return ir.load(source)
    except Exception as error:
        raise EdgepruneError(
            "model-corrupt", f"'{source.name}' is not a readable ONNX model", where=str(source)
        ) from error


def save_ir(model: ir.Model, path: str | PathLike[str]) -> None:
    """Write `model` as one ONNX file, whole or not at all.

    Raises EdgepruneError (output-unwritable).
    """
    write_bytes(Path(path), ir.to_proto(model).SerializeToString(deterministic=True))
