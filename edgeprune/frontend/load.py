"""Any model a user can name, to the canonical IR."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgeprune.errors import EdgepruneError

_FORMATS = "an .onnx file, a .pt2 file (torch.export), module.py:callable, or a .pt, .pth, .th checkpoint with --arch"
_CHECKPOINTS = (".pt", ".pth", ".th")


def load(spec: str | Path, arch: str | None = None) -> ir.Model:
    """The canonical IR of the model that `spec` names: a file, or `module.py:callable`.

    `arch` is the `module.py:callable` that builds the network of a checkpoint. Raises EdgepruneError
    (format-unsupported, model-missing, and those of the format's own reader).
    """
    text = str(spec)
    suffix = Path(text).suffix.lower()
    if suffix == ".onnx":
        from edgeprune.frontend.onnx import load_onnx

        return load_onnx(text)
    if ".py:" in text or suffix == ".pt2" or suffix in _CHECKPOINTS:
        return _load_torch(text, suffix, arch)
    if suffix == ".tflite":
        raise EdgepruneError(
            "format-unsupported",
            "TFLite import is not built yet",
            where=text,
            hint="convert the model to ONNX first, for example with tf2onnx --tflite",
        )
    raise EdgepruneError(
        "format-unsupported",
        f"'{text}' is not a model that can be read",
        where="MODEL",
        hint=f"give {_FORMATS}",
        exit_code=2,
    )


def _load_torch(text: str, suffix: str, arch: str | None) -> ir.Model:
    from edgeprune.frontend import torch as torch_frontend

    if ".py:" in text:
        return torch_frontend.load_callable(text)
    if suffix == ".pt2":
        return torch_frontend.load_exported(text)
    return torch_frontend.load_checkpoint(text, arch)
