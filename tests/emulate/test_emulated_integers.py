"""A whole int8 model on emulated boards, with and without dot products, against this machine's package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeprune.board import load_board
from edgeprune.flow import compile, verify
from edgeprune.options import Options

MODEL = "models/mlperf_tiny/kws_dscnn_int8.tflite"


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
@pytest.mark.parametrize("board", ["emulated-rpi4", "emulated-rpi5"])
def test_outputs_are_those_of_this_machine(board: str, data_dir: Path, tmp_path: Path) -> None:
    options = Options(dense=True, random_calibration=True)
    output = tmp_path / "model.edge"
    result = compile(data_dir / MODEL, target=load_board(board).target, output=output, options=options)
    assert result.package is not None
    result.package.close()
    told = verify(output, board=board, samples=4)
    assert told["equal"] and told["exact"] and told["max_difference"] == 0
