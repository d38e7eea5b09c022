"""Accuracy of every road on the CIFAR-10 networks: a line each, over seeds, on the card's 500 test rows.

    python benchmarks/accuracy.py --data ../shared/data [--only criteria epochs limit ...] [--seeds 0 1 2]

Sections: criteria (one shot, each criterion), order (channels reordered or not), epochs (a few of recovery training),
label-free (the original as only teacher), restore (3 points lost and won back), channels (half the work of resnet32),
limit (`compile --max-drop 1` alone, timed by bench), budgets (latency budgets, as measured in the package).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune import flow
from edgeprune.options import CRITERIA, Options

RESNET20 = "models/cifar_resnet/resnet20.onnx"
RESNET32 = "models/cifar_resnet/resnet32-d509ac18.th"
CARD = "cards/cifar10.toml"
ARCHITECTURE = Path(__file__).parents[1] / "tests" / "frontend" / "cifar_networks.py"
UNLABELLED = """
metric = "top1"
[train]
file = "train.npz"
[validate]
file = "validate.npz"
[test]
file = "test.npz"
[preprocess]
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
layout = "NCHW"
"""


@dataclass(frozen=True)
class Place:
    """Where models and cards lie, and which seeds are run."""

    data: Path
    seeds: tuple[int, ...]
    budgets: int = 10

    def prune(self, seed: int, card: Path | None = None, **choices: Any) -> dict[str, Any]:
        """What `edgeprune prune` says of resnet20."""
        options = Options(seed=seed, best_effort=True, **choices)
        return flow.prune(self.data / RESNET20, data=card or self.data / CARD, options=options).inspection

    def line(self, name: str, once: Callable[[int], dict[str, Any]]) -> None:
        """Print one line: mean and spread over the seeds."""
        started = time.perf_counter()
        found = [once(seed) for seed in self.seeds]
        values = [facts["accuracy"]["after"] for facts in found]
        spread = max(values) - min(values)
        kept = statistics.mean(facts["nonzero_weights"] / facts["weights"] for facts in found)
        minutes = (time.perf_counter() - started) / 60 / len(found)
        print(f"| {name} | {statistics.mean(values):.4f} | {spread:.4f} | {kept:.3f} | {minutes:.1f} |", flush=True)


def criteria(place: Place) -> None:
    """Each criterion in one shot."""
    for pattern, choices in (("2:4", {}), ("1x16", {"sparsity": 0.75}), ("1x1", {"sparsity": 0.75})):
        for name in CRITERIA:
            if name != "batchnorm":
                place.line(
                    f"one shot {pattern}, {name}",
                    lambda seed, n=name, p=pattern, c=choices: place.prune(seed, epochs=0, pattern=p, criterion=n, **c),
                )


def order(place: Place) -> None:
    """What it buys to reorder channels."""
    for pattern, sparsity in (("1x8", 0.75), ("1x16", 0.75), ("4x16", 0.5), ("2:4", None)):
        for permute in (False, True):
            place.line(
                f"one shot {pattern} {sparsity or ''}, {'reordered' if permute else 'as it is'}",
                lambda seed, p=pattern, s=sparsity, r=permute: place.prune(
                    seed, epochs=0, pattern=p, sparsity=s, permute=r
                ),
            )


def epochs(place: Place) -> None:
    """A few epochs of recovery training."""
    for pattern in ("1x16", "1x1"):
        place.line(
            f"75 % {pattern}, 4 epochs", lambda seed, p=pattern: place.prune(seed, epochs=4, pattern=p, sparsity=0.75)
        )


def label_free(place: Place) -> None:
    """The original as the only teacher: training and validate rows have no labels."""
    with tempfile.TemporaryDirectory() as folder:
        card = unlabelled(place.data, Path(folder))
        for pattern in ("1x16", "1x1"):
            place.line(
                f"75 % {pattern}, 4 epochs without labels",
                lambda seed, p=pattern: place.prune(seed, card, epochs=4, pattern=p, sparsity=0.75),
            )


def unlabelled(data: Path, folder: Path) -> Path:
    """A card with the same rows, labelled only for the test."""
    rows = np.load(data / "sets" / "cifar10_train_00000-11999.npz")["x"]
    np.savez(folder / "train.npz", x=rows[:11000])
    np.savez(folder / "validate.npz", x=rows[11000:])
    (folder / "test.npz").symlink_to(data / "sets" / "cifar10_test_0000-0499.npz")
    (folder / "card.toml").write_text(UNLABELLED)
    return folder / "card.toml"


def restore(place: Place) -> None:
    """40 % smaller at 4x16, which costs points in one shot, and one and two epochs later."""
    for count in (0, 1, 2):
        place.line(
            f"40 % in 4x16, {count} epochs",
            lambda seed, c=count: place.prune(seed, epochs=c, pattern="4x16", sparsity=0.5),
        )


def channels(place: Place) -> None:
    """resnet32 with half the work, and how much faster its package is."""
    source = flow.load_model(place.data / RESNET32, arch=f"{ARCHITECTURE}:resnet32")
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense.edge"
        flow.compile(source, output=dense, options=Options(dense=True))
        for seed in place.seeds:
            path = Path(folder) / f"{seed}.edge"
            options = Options(seed=seed, pattern="channel", sparsity=0.5, epochs=4, best_effort=True)
            facts = flow.compile(source, data=place.data / CARD, output=path, options=options).inspection
            times = [flow.bench(each)["latency_ms"]["median"] for each in (dense, path)]
            accuracy = facts["accuracy"]
            print(
                f"| resnet32, channels, seed {seed} | {accuracy['before']:.4f} -> {accuracy['after']:.4f} "
                f"| {facts['dense_macs'] / 1e6:.1f} M multiply-accumulates | {times[0] / times[1]:.2f}x dense |",
                flush=True,
            )


def limit(place: Place) -> None:
    """`compile --max-drop 1` alone, beside ONNX Runtime on the dense model."""
    with tempfile.TemporaryDirectory() as folder:
        for seed in place.seeds:
            path, started = Path(folder) / f"{seed}.edge", time.perf_counter()
            result = flow.compile(
                place.data / RESNET20, data=place.data / CARD, output=path, options=Options(seed=seed, best_effort=True)
            )
            minutes = (time.perf_counter() - started) / 60
            report = flow.bench(path, vs=("onnxruntime",), model=place.data / RESNET20)
            accuracy = result.inspection["accuracy"]
            print(
                f"| --max-drop 1, seed {seed} | {accuracy['before']:.4f} -> {accuracy['after']:.4f} "
                f"| {report['peers'][0]['speedup']:.2f}x ONNX Runtime | {minutes:.1f} min |",
                flush=True,
            )


def budgets(place: Place) -> None:
    """Ten latency budgets from near the dense latency down; the package is timed anew."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.edge"
        flow.compile(place.data / RESNET20, output=path, options=Options(dense=True))
        dense = flow.bench(path)["latency_ms"]["median"]
        for share in np.linspace(0.9, 0.2, place.budgets):
            options = Options(latency=float(share * dense), epochs=0, max_drop=100.0, best_effort=True)
            result = flow.compile(place.data / RESNET20, data=place.data / CARD, output=path, options=options)
            measured = flow.bench(path)["latency_ms"]["median"]
            found = result.inspection["search"]
            print(
                f"| budget {share * dense:.3f} ms | predicted {found['predicted']['latency'] / 1000:.3f} "
                f"| measured {measured:.3f} | {'met' if measured <= share * dense else 'missed'} "
                f"| top1 {result.inspection['accuracy']['after']:.4f} |",
                flush=True,
            )


SECTIONS = {
    "criteria": criteria,
    "order": order,
    "epochs": epochs,
    "label-free": label_free,
    "restore": restore,
    "channels": channels,
    "limit": limit,
    "budgets": budgets,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", type=int, default=10, help="how many latency budgets are tried")
    arguments = parser.parse_args()
    place = Place(arguments.data, tuple(arguments.seeds), arguments.budgets)
    for name in arguments.only:
        print(f"\n{name}: top-1 mean, spread over seeds {arguments.seeds}, kept, minutes each\n", flush=True)
        SECTIONS[name](place)


if __name__ == "__main__":
    main()
