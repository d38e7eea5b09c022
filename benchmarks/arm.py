"""Instructions of one inference on emulated Raspberry Pis, beside what the best peer takes: `benchmarks/arm.py DATA`.

    python benchmarks/arm.py DATA [--models resnet20 vww ...] [--boards emulated-rpi4 ...] [--layers]
                                  [--pruned] [--sparsity F --pattern P] [--epochs N] [--minutes M]

Needs qemu-user (apt-get install qemu-user). A row is a model on a board: million instructions between edge-run's marks
on one thread, which repeat exactly, as a share of the peer's; `wanted` is the share that it should not exceed. The
outputs on the board are compared with this machine's on the rows of the card. Million cycles by LLVM's model of the
core follow, as a share of the peer's where those were predicted too; they should not exceed the share that is wanted
of the instructions by more than 20 %. Dense first; with `--pruned` also what the command's own search makes of it
within one point of accuracy, or what `--sparsity` and `--pattern` say, with the accuracy before and after on the test
rows. `--layers` adds a line a layer.

ROWS has what the peers took, counted once in the same way: one thread, under qemu-user with the board's CPU model and
the faked /proc/cpuinfo that they probe. benchmarks/arm_peers.py repeats it, with their cycles.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predict import cycles

from edgeprune.board import load_board
from edgeprune.compiled import Package
from edgeprune.deploy.emulated import EmulatedTransport
from edgeprune.flow import compile, prune, verify
from edgeprune.options import Options
from edgeprune.runner.build import build_runner
from edgeprune.target import load_target

BOARDS = ("emulated-rpi4", "emulated-rpi3", "emulated-rpi5")


@dataclass(frozen=True)
class Row:
    """A model with its data card; what the best peer takes in millions, and the shares of it that are wanted.

    `cycles` are 0 where the peer was counted without.
    """

    model: str
    card: str
    precision: str
    peer: str
    instructions: tuple[float, float, float]
    dense: float
    pruned: float
    cycles: tuple[float, float, float] = (0, 0, 0)


ROWS = {
    "resnet20-fp32": Row("cifar_resnet/resnet20.onnx", "cifar10", "fp32", "ncnn", (8.57, 11.4, 8.58), 1.1, 0.4),
    "resnet20": Row("cifar_resnet/resnet20.onnx", "cifar10", "int8", "onnxruntime", (16.3, 16.3, 7.56), 0.5, 0.2),
    "ic": Row("mlperf_tiny/ic_resnet8_int8.tflite", "cifar10_raw", "int8", "litert", (4.31, 4.91, 1.49), 1.0, 0.5,
              (2.34, 5.82, 0.663)),
    "vww": Row("mlperf_tiny/vww_mbv1_025_int8.tflite", "vww", "int8", "litert", (3.62, 3.95, 1.93), 1.0, 0.65,
               (1.87, 4.91, 0.863)),
    "kws": Row("mlperf_tiny/kws_dscnn_int8.tflite", "kws", "int8", "litert", (1.40, 1.32, 0.72), 1.0, 0.65,
               (0, 0, 0.317)),
}  # fmt: skip


def main() -> None:
    """Print the table."""
    asked = _arguments()
    heads = f"{'M instr.':>10}{'of peer':>9}{'wanted':>8}{'M cycles':>10}{'of peer':>9}{'accuracy':>18}"
    print(f"{'model':<15}{'board':<15}{'':<8}{heads}")
    for name in asked.models:
        for pruned in (False, True) if asked.pruned else (False,):
            _row(name, pruned, asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with models/ and cards/")
    parser.add_argument("--models", nargs="*", choices=ROWS, default=[*ROWS])
    parser.add_argument("--boards", nargs="*", choices=BOARDS, default=BOARDS)
    parser.add_argument("--pruned", action="store_true")
    parser.add_argument("--sparsity", type=float)
    parser.add_argument("--pattern")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--layers", action="store_true")
    return parser.parse_args()


def _row(name: str, pruned: bool, asked: argparse.Namespace) -> None:
    """Prune once, for the first board, then compile for every one and count."""
    row = ROWS[name]
    kind = "pruned" if pruned else "dense"
    with tempfile.TemporaryDirectory() as folder:
        model, accuracy = _model(row, pruned, asked, Path(folder))
        for board in asked.boards:
            told = measure(model, asked.data / "cards" / f"{row.card}.toml", board, Path(folder))
            count, peer = told["instructions"] / 1e6, row.instructions[BOARDS.index(board)]
            wanted = row.pruned if pruned else row.dense
            line = f"{name:<15}{board:<15}{kind:<8}{count:>10.3f}{count / peer:>9.3f}{wanted:>8.2f}"
            print(f"{line}{_cycles(row, board, told)}{accuracy:>18}", flush=True)
            for layer in told["layers"] if asked.layers else ():
                print(f"    {layer['name'][:60]:<62}{layer['instructions']:>10}")


def _cycles(row: Row, board: str, told: dict[str, Any]) -> str:
    """The columns of predicted cycles, as far as they are known."""
    if "predicted_ms" not in told:
        return f"{'-':>10}{'-':>9}"
    own, peer = cycles(told, board) / 1e6, row.cycles[BOARDS.index(board)]
    return f"{own:>10.3f}" + (f"{own / peer:>9.3f}" if peer else f"{'-':>9}")


def _model(row: Row, pruned: bool, asked: argparse.Namespace, folder: Path) -> tuple[Path, str]:
    """The model as a file, with its accuracy before and after on the test rows."""
    path = asked.data / "models" / row.model
    options = Options(dense=True, precision=row.precision, epochs=0)
    if pruned:
        options = Options(
            precision=row.precision, sparsity=asked.sparsity, pattern=asked.pattern, epochs=asked.epochs,
            minutes=asked.minutes, max_drop=1.0, best_effort=True,
        )  # fmt: skip
    output = folder / "model.onnx"
    card = asked.data / "cards" / f"{row.card}.toml"
    result = prune(path, target=load_board(asked.boards[0]).target, data=card, output=output, options=options)
    accuracy = result.inspection["accuracy"]
    return output, f"{accuracy['before']:.4f} {accuracy['after']:.4f}"


def measure(model: Path, card: Path, board: str, folder: Path) -> dict[str, Any]:
    """What edge-run counts of `model` compiled for `board`: its outputs there are compared with the host's first."""
    target = load_board(board).target
    options = Options(dense=True, random_calibration=True)
    result = compile(model, target=target, output=folder / "model.edge", options=options)
    assert result.package is not None and result.path is not None
    with result.package as package:
        verify(result.path, board=board, samples=4, data=card)
        return _counted(package, EmulatedTransport(load_board(board)))


def _counted(package: Package, transport: EmulatedTransport) -> dict[str, Any]:
    transport.connect()
    try:
        transport.upload(build_runner(load_target(transport.board.target)), "edge-run", 10)
        transport.upload(package.member("model.so"), "model.so", 10)
        transport.run(["chmod", "+x", "edge-run"], 10)
        ran = transport.run([*transport.launcher, "./edge-run", "bench", "--library", "model.so"], 600)
        assert ran.code == 0, ran.said
        told: dict[str, Any] = json.loads(ran.stdout)
        return told
    finally:
        transport.close()


if __name__ == "__main__":
    main()
