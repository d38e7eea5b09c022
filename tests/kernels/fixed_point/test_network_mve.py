"""A keyword network on an emulated Cortex-M55: exactly what this machine computes, in few instructions."""

from __future__ import annotations

from pathlib import Path

from mve_board import needs_qemu

from edgeprune import flow
from edgeprune.options import Options

pytestmark = needs_qemu()
BOARD = "qemu-mps3-an547"


def test_a_pruned_keyword_network(data_dir: Path, tmp_path: Path) -> None:
    options = Options(sparsity=0.6, pattern="16x2", random_calibration=True)
    model = data_dir / "models" / "mlperf_tiny" / "kws_dscnn_int8.tflite"
    result = flow.compile(model, target="cortex-m55", output=tmp_path / "kws.edge", options=options)
    assert result.package is not None
    result.package.close()
    told = flow.verify(tmp_path / "kws.edge", board=BOARD, samples=4)
    assert told["equal"] and told["exact"]
    assert flow.bench(tmp_path / "kws.edge", board=BOARD)["instructions"] < 850_000
