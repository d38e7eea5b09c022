"""Any model a user can name, to the canonical IR."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.quantization import check_quantization
from edgeprune.model_file import ModelFile, callable_parts

_FORMATS = (
    "an .onnx or .tflite file, a .pt2 file (torch.export), module.py:callable, "
    "or a .pt, .pth, .th checkpoint with --arch"
)
_CHECKPOINTS = (".pt", ".pth", ".th")


def load(model: str | PathLike[str], arch: str | None = None, dimensions: Mapping[str, int] | None = None) -> ir.Model:
    """The canonical IR of the model that `model` names: a file, or `module.py:callable`.

    `arch` is the `module.py:callable` that builds the network of a checkpoint; `dimensions` gives sizes to open
    dimensions by name. A ModelFile brings both. Raises EdgepruneError (format-unsupported, model-missing,
    quantization-invalid, and those of the format's own reader).
    """
    file = model if isinstance(model, ModelFile) else ModelFile(str(model), arch, dimensions or {})
    loaded = _load(file)
    check_quantization(loaded)
    return loaded


def _load(file: ModelFile) -> ir.Model:
    suffix = Path(file.spec).suffix.lower()
    if callable_parts(file.spec) or suffix == ".pt2" or suffix in _CHECKPOINTS:
        return _load_torch(file, suffix)
    if suffix == ".onnx":
        from edgeprune.frontend.onnx import load_onnx

        return load_onnx(file.spec, file.dimensions)
    if suffix == ".tflite":
        from edgeprune.frontend.tflite.load import load_tflite

        return load_tflite(file.spec)
    raise EdgepruneError(
        "format-unsupported",
        f"'{file.spec}' is not a model that can be read",
        where="MODEL",
        hint=f"give {_FORMATS}",
        exit_code=2,
    )


def _load_torch(file: ModelFile, suffix: str) -> ir.Model:
    from edgeprune.frontend import torch as torch_frontend

    if callable_parts(file.spec):
        return torch_frontend.load_callable(file.spec, file.dimensions)
    if suffix == ".pt2":
        return torch_frontend.load_exported(file.spec, file.dimensions)
    return torch_frontend.load_checkpoint(file.spec, file.arch, file.dimensions)
