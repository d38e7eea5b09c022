"""Instructions, memory and flash of one inference on emulated microcontrollers, beside what the best peer takes.

    python benchmarks/microcontrollers.py DATA [--models ic kws vww] [--boards emulated-m4 qemu-mps3-an547] [--layers]
                                               [--pruned] [--sparsity F --pattern P] [--epochs N] [--minutes M]

emulated-m4 needs nothing but pip, qemu-mps3-an547 qemu-system-arm. A row is a model on a board: million instructions
between the firmware's marks, which repeat exactly; bytes of the arena, and of flash with all of the firmware; each as a
share of the peer's, with the share that it should not exceed. Outputs on the board equal this machine's bit by bit, or
the run ends. Dense first; with `--pruned` also what the command's own search makes of it within one point of accuracy,
or what `--sparsity` and `--pattern` say, with the accuracy before and after on the test rows.

ROWS has what TFLite Micro with CMSIS-NN took (-O2; on the M55 clang -O3), counted in the same way in its leanest build.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.board import load_board
from edgeprune.flow import bench, compile, flash, verify
from edgeprune.options import Options

BOARDS = ("emulated-m4", "qemu-mps3-an547")
ARENA, FLASH_DENSE, FLASH_PRUNED = 0.8, 0.6, 0.4


@dataclass(frozen=True)
class Row:
    """A model with its data card; what the peer takes (M instructions by board, bytes), and the shares wanted."""

    model: str
    card: str
    instructions: tuple[float, float]
    arena: int
    flash: int
    dense: tuple[float, float]
    pruned: tuple[float, float]


ROWS = {
    "ic": Row("ic_resnet8_int8", "cifar10_raw", (29.86, 4.42), 54_996, 150_016, (0.65, 0.9), (0.33, 0.6)),
    "kws": Row("kws_dscnn_int8", "kws", (7.70, 1.70), 22_820, 107_712, (0.65, 0.9), (0.45, 0.7)),
    "vww": Row("vww_mbv1_025_int8", "vww", (24.10, 6.04), 100_708, 387_064, (0.4, 0.55), (0.25, 0.4)),
}


def main() -> None:
    """Print the table."""
    asked = _arguments()
    heads = ("M instr.", "of peer", "wanted", "arena", "of peer", "wanted", "flash", "of peer", "wanted")
    print(f"{'model':<6}{'board':<17}{'':<8}" + "".join(f"{head:>9}" for head in heads) + f"{'accuracy':>17}")
    for name in asked.models:
        for board in asked.boards:
            for pruned in (False, True) if asked.pruned else (False,):
                print(_line(name, board, pruned, asked), flush=True)


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


def _line(name: str, board: str, pruned: bool, asked: argparse.Namespace) -> str:
    row, place = ROWS[name], BOARDS.index(board)
    with tempfile.TemporaryDirectory() as folder:
        told = _measured(row, board, pruned, asked, Path(folder))
    wanted = (row.pruned if pruned else row.dense)[place]
    figures = (
        (told["instructions"] / 1e6, row.instructions[place], wanted, "9.3f"),
        (told["arena"], row.arena, ARENA, "9d"),
        (told["flash"], row.flash, FLASH_PRUNED if pruned else FLASH_DENSE, "9d"),
    )
    cells = "".join(f"{value:{form}}{value / peer:>9.3f}{limit:>9.2f}" for value, peer, limit, form in figures)
    accuracy = "{:.4f} {:.4f}".format(*told["accuracy"])
    lines = [f"{name:<6}{board:<17}{'pruned' if pruned else 'dense':<8}{cells}{accuracy:>17}"]
    for layer in told["layers"] if asked.layers else ():
        lines.append(f"    {layer['name'][:60]:<62}{layer['instructions']:>10}")
    return "\n".join(lines)


def _measured(row: Row, board: str, pruned: bool, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compile `row` for `board`, compare its outputs there with this machine's, and count."""
    options = Options(dense=True)
    if pruned:
        options = Options(
            sparsity=asked.sparsity, pattern=asked.pattern, epochs=asked.epochs, minutes=asked.minutes,
            max_drop=1.0, best_effort=True,
        )  # fmt: skip
    source = asked.data / "models" / "mlperf_tiny" / f"{row.model}.tflite"
    card = asked.data / "cards" / f"{row.card}.toml"
    target = load_board(board).target
    output = folder / "model.edge"
    result = compile(source, target=target, data=card, output=output, options=options)
    verify(output, board=board, samples=4, data=card)
    written, counted = flash(output, board=board), bench(output, board=board)
    accuracy = result.inspection["accuracy"]
    return {
        "instructions": counted["instructions"],
        "layers": counted["layers"],
        "arena": result.inspection["ram_bytes"],
        "flash": written["flash_bytes"],
        "accuracy": (accuracy["before"], accuracy["after"]),
    }


if __name__ == "__main__":
    main()
