"""TFLite files to the canonical IR."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.tflite.convert import convert
from edgeprune.frontend.tflite.read import read_subgraphs
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.canonical_stage import stage


def load_tflite(path: str | Path) -> ir.Model:
    """Read a .tflite file and bring it to canonical form: real-valued inputs and outputs in TFLite's shapes.

    What the file stores in 8 bits is standard QDQ; images are channels first inside. Never runs code from the file.
    Raises EdgepruneError: model-missing, model-corrupt, op-unsupported, dtype-unsupported, quantization-invalid,
    model-nan, model-too-large.
    """
    return canonicalize(import_tflite(path))


def import_tflite(path: str | Path) -> ir.Model:
    """The same before it is brought to canonical form."""
    source = Path(path)
    if not source.is_file():
        raise EdgepruneError(
            "model-missing", f"there is no model file '{source}'", where=str(source), hint="check the path"
        )
    with stage("reading the TFLite graph"):
        return convert(read_subgraphs(source))
