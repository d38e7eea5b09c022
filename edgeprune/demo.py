"""The whole road on scikit-learn's handwritten digits: train, prune, compile, measure."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.board import load_board
from edgeprune.errors import EdgepruneError
from edgeprune.options import Options
from edgeprune.progress import Progress, silent
from edgeprune.target import load_target

if TYPE_CHECKING:
    import torch

TRAIN_ROWS, VALIDATE_ROWS = 1097, 200
SPARSITY = 0.75
BOARD = "emulated-m4"

_BATCH = 64
_CARD = """\
# scikit-learn's digits: 8 x 8 images, 16 grey levels, ten classes.
metric = "top1"
[train]
file = "digits.npz"
rows = "0:{train}"
[validate]
file = "digits.npz"
rows = "{train}:{known}"
[calibrate]
file = "digits.npz"
rows = "0:{train}"
[test]
file = "digits.npz"
rows = "{known}:"
"""


@dataclass(frozen=True)
class DemoFiles:
    """The trained network (ONNX) and the data card that goes with it."""

    model: Path
    card: Path


def run_demo(*, progress: Progress = silent, epochs: int = 6, seconds: float = 2.0) -> dict[str, Any]:
    """Train, prune, compile and measure, here and on an emulated microcontroller; the figures as `title` and `rows`.

    Each row has `name`, `accuracy` (share right of the test rows), `weights_bytes`, `latency_ms` (median, one
    thread) and `speedup` over the original in ONNX Runtime; on the emulated board `instructions` in place of these.
    `epochs` and `seconds` bound training and each measurement. Raises EdgepruneError (package-missing) without
    scikit-learn.
    """
    pattern = load_target("host").patterns[-1]
    with tempfile.TemporaryDirectory(prefix="edgeprune-demo-") as name:
        files = train_digits(Path(name), epochs=epochs, progress=progress)
        dense = _road(files, Options(dense=True), Path(name) / "dense.edge", seconds, progress)
        choice = Options(sparsity=SPARSITY, pattern=pattern, epochs=3, best_effort=True)
        pruned = _road(files, choice, Path(name) / "pruned.edge", seconds, progress)
        board = _board_row(files, Path(name) / "board.edge", progress)
    rows = [
        _original_row(dense),
        _row("compiled by edgeprune, not pruned", dense),
        _row(f"{SPARSITY:.0%} pruned ({pattern}) and compiled", pruned),
        board,
    ]
    title = f"Handwritten digits on this machine ({dense['target']}), one thread, {rows[0]['samples']} test images"
    return {"title": title, "rows": rows}


def train_digits(folder: Path, *, epochs: int = 6, seed: int = 0, progress: Progress = silent) -> DemoFiles:
    """Train a convolutional network on the digits and write it to `folder` with its data and card."""
    images, labels = _digits(seed)
    network = _train(images[:TRAIN_ROWS], labels[:TRAIN_ROWS], epochs, seed, progress)
    np.savez(folder / "digits.npz", x=images, y=labels)
    card = folder / "digits.toml"
    card.write_text(_CARD.format(train=TRAIN_ROWS, known=TRAIN_ROWS + VALIDATE_ROWS), encoding="utf-8")
    model = folder / "digits.onnx"
    _export(network, images[:1], model)
    return DemoFiles(model, card)


def _digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise EdgepruneError(
            "package-missing",
            "the demo takes its images from scikit-learn, which is not installed",
            hint='pip install "edgeprune[demo]"',
        ) from None
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = digits.images[order].astype(np.float32)[:, None] / 16
    return images, digits.target[order].astype(np.int64)


def _train(images: np.ndarray, labels: np.ndarray, epochs: int, seed: int, progress: Progress) -> torch.nn.Module:
    import torch

    rows, answers = torch.from_numpy(images), torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network()
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
        steps = epochs * (len(rows) // _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        network.train()
        for epoch in range(epochs):
            progress("train a network", epoch, epochs, "")
            for batch in torch.randperm(len(rows))[: len(rows) // _BATCH * _BATCH].split(_BATCH):
                loss = torch.nn.functional.cross_entropy(network(rows[batch]), answers[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        progress("train a network", epochs, epochs, f"loss {loss.item():.3f}")
    return network.eval()


def _network() -> torch.nn.Module:
    from torch import nn

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    body = [*block(1, 32), *block(32, 64), nn.MaxPool2d(2), *block(64, 128), *block(128, 128)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def _export(network: torch.nn.Module, example: np.ndarray, path: Path) -> None:
    import torch

    arguments = (torch.from_numpy(example),)
    program = torch.onnx.export(
        network, arguments, input_names=["image"], output_names=["scores"], dynamo=True, verbose=False
    )
    assert program is not None
    program.save(str(path))


def _road(files: DemoFiles, options: Options, output: Path, seconds: float, progress: Progress) -> dict[str, Any]:
    """What `inspect` says of the package, with its `bench` beside it."""
    from edgeprune import flow

    result = flow.compile(files.model, data=files.card, output=output, options=options, progress=progress)
    bench = flow.bench(
        output, vs=("onnxruntime",), model=str(files.model), threads=1, seconds=seconds, progress=progress
    )
    return {**result.inspection, "bench": bench}


def _board_row(files: DemoFiles, output: Path, progress: Progress) -> dict[str, Any]:
    """The network in int8 on an emulated Cortex-M4, whose outputs are compared with this machine's."""
    from edgeprune import flow

    target = load_board(BOARD).target
    options = Options(precision="int8", dense=True, best_effort=True)
    result = flow.compile(
        files.model, target=target, data=files.card, output=output, options=options, progress=progress
    )
    flow.verify(output, board=BOARD, samples=4, data=files.card, progress=progress)
    bench = flow.bench(output, board=BOARD, progress=progress)
    return {
        "name": f"int8 on an emulated {target}",
        "accuracy": result.inspection["accuracy"]["after"],
        "samples": result.inspection["accuracy"]["samples"],
        "weights_bytes": result.inspection["weights_bytes"],
        "latency_ms": None,
        "speedup": None,
        "instructions": bench["instructions"],
    }


def _row(name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "accuracy": figures["accuracy"]["after"],
        "samples": figures["accuracy"]["samples"],
        "weights_bytes": figures["weights_bytes"],
        "latency_ms": figures["bench"]["latency_ms"]["median"],
        "speedup": figures["bench"]["peers"][0]["speedup"],
    }


def _original_row(figures: Mapping[str, Any]) -> dict[str, Any]:
    peer = figures["bench"]["peers"][0]
    return {
        "name": "original in ONNX Runtime",
        "accuracy": figures["accuracy"]["before"],
        "samples": figures["accuracy"]["samples"],
        "weights_bytes": 4 * figures["weights"],
        "latency_ms": peer["latency_ms"],
        "speedup": 1.0,
    }
