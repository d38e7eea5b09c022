"""Instructions of one inference on emulated Raspberry Pis, beside what peers take: `benchmarks/arm.py MODEL.onnx`.

Needs qemu-user (apt-get install qemu-user). Prints a row a board and sparsity: instructions counted between edge-run's
marks, one thread, and the largest difference of the outputs from ONNX Runtime's on the same pruned model. Weights are
cut by magnitude without training: which ones are kept does not change the count, and accuracy is not the subject here.

Peers, counted the same way (million instructions on A72 / A53 / A76): resnet20 fp32, ncnn 8.57 / 11.4 / 8.58.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from edgeprune.board import load_board
from edgeprune.compiled import Package
from edgeprune.data import random_samples
from edgeprune.deploy.emulated import EmulatedTransport
from edgeprune.flow import compile, load_model, prune
from edgeprune.ir.execute import Session
from edgeprune.options import Options
from edgeprune.runner.build import build_runner
from edgeprune.target import load_target

BOARDS = ("emulated-rpi4", "emulated-rpi3", "emulated-rpi5")
PEERS = {"emulated-rpi4": 8.57, "emulated-rpi3": 11.4, "emulated-rpi5": 8.58}
ROWS = 4


def pruned(path: str, sparsity: float, pattern: str, target: str, folder: Path) -> Path:
    """The model at `path`, cut by magnitude, as a file."""
    if not sparsity:
        return Path(path)
    output = folder / f"{Path(path).stem}-{pattern}-{sparsity:g}-{target}.onnx"
    options = Options(sparsity=sparsity, pattern=pattern, criterion="magnitude", epochs=0, random_calibration=True)
    prune(path, target=target, output=output, options=options)
    return output


def measure(model: Path, board: str, folder: Path) -> tuple[float, float]:
    """Million instructions of an inference of `model` on `board`, and the largest difference of its outputs."""
    facts = load_board(board)
    result = compile(model, target=facts.target, output=folder / "model.edge", options=Options(dense=True))
    assert result.package is not None
    with result.package as package:
        return _on_board(package, model, EmulatedTransport(facts))


def _on_board(package: Package, model: Path, transport: EmulatedTransport) -> tuple[float, float]:
    samples = random_samples(package.inputs, ROWS, seed=0)
    name = package.inputs[0].name
    rows = np.concatenate([samples.row(index)[name] for index in range(ROWS)])
    session = Session(load_model(model), 1)
    expected = np.concatenate([next(iter(session.run(samples.row(index)).values())) for index in range(ROWS)])
    transport.connect()
    try:
        transport.upload(build_runner(load_target(transport.board.target)), "edge-run", 10)
        transport.upload(package.member("model.so"), "model.so", 10)
        transport.upload(rows.tobytes(), "inputs.bin", 10)
        transport.run(["chmod", "+x", "edge-run"], 10)
        start = [*transport.launcher, "./edge-run"]
        files = ["--inputs", "inputs.bin", "--outputs", "outputs.bin"]
        ran = transport.run([*start, "run", "--library", "model.so", *files], 300)
        assert ran.code == 0, ran.said
        found = np.frombuffer(transport.download("outputs.bin", 10), np.float32).reshape(expected.shape)
        told = json.loads(transport.run([*start, "bench", "--library", "model.so"], 600).stdout)
    finally:
        transport.close()
    return told["instructions"] / 1e6, float(np.abs(found - expected).max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--boards", nargs="*", default=BOARDS)
    parser.add_argument("--levels", nargs="*", default=["0:1x1", "0.75:1x16", "0.75:1x8", "0.75:1x4", "0.75:1x1"])
    asked = parser.parse_args()
    print(f"{'board':<16}{'sparsity':>10}{'pattern':>9}{'M instr.':>10}{'of ncnn':>9}{'difference':>12}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for board in asked.boards:
            for level in asked.levels:
                sparsity, pattern = level.split(":")
                target = load_board(board).target
                model = pruned(asked.model, float(sparsity), pattern, target, folder)
                count, difference = measure(model, board, folder)
                share = count / PEERS[board] if board in PEERS else float("nan")
                print(
                    f"{board:<16}{sparsity:>10}{pattern:>9}{count:>10.2f}{share:>9.2f}{difference:>12.1e}", flush=True
                )


if __name__ == "__main__":
    main()
