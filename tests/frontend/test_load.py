from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from test_onnx_files import small_model

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load


def failure(spec: str | Path) -> EdgepruneError:
    with pytest.raises(EdgepruneError) as caught:
        load(spec)
    return caught.value


def test_onnx_by_suffix(tmp_path: Path):
    onnx.save(small_model(), tmp_path / "MODEL.ONNX")
    assert next(iter(load(tmp_path / "MODEL.ONNX").graph)).op_type == "Conv"


def test_tflite_by_suffix():
    assert str(failure("missing/MODEL.tflite")) == (
        "there is no model file 'missing/MODEL.tflite' [model-missing]\n"
        "  where: missing/MODEL.tflite\n"
        "  hint:  check the path"
    )


def test_anything_else_names_the_formats():
    error = failure("model.h5")
    assert error.exit_code == 2
    assert str(error) == (
        "'model.h5' is not a model that can be read [format-unsupported]\n"
        "  where: MODEL\n"
        "  hint:  give an .onnx or .tflite file, a .pt2 file (torch.export), module.py:callable, "
        "or a .pt, .pth, .th checkpoint with --arch"
    )


def test_loading_onnx_does_not_import_torch_or_tvm(tmp_path: Path):
    onnx.save(small_model(), tmp_path / "model.onnx")
    script = (
        "import sys; from edgeprune.frontend.load import load; load(sys.argv[1]); "
        "print(sorted({'torch', 'tvm'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model.onnx")], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
    assert result.stderr == ""
