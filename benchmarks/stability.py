"""How far the result depends on the seed: models x seeds, mean and spread, and whether a seed repeats byte for byte.

EDGEPRUNE_DATA=... python benchmarks/stability.py --models resnet20 squeezenet --seeds 0 1 2 --epochs 1
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeprune import flow
from edgeprune.options import Options


@dataclass(frozen=True)
class Subject:
    model: str
    card: str


SUBJECTS = {
    "resnet20": Subject("cifar_resnet/resnet20.onnx", "cifar10.toml"),
    "squeezenet": Subject("squeezenet_dc/squeezenet1.0_deepcompressed.onnx", "imagenet_squeezenet.toml"),
    "fastestdet": Subject("fastestdet/FastestDet.onnx", "detect_fastestdet.toml"),
    "ultraface": Subject("ultraface/version-RFB-320.onnx", "faces.toml"),
}


def main() -> None:
    arguments = read_arguments()
    columns = ("model", "metric", "before", "after: mean", "spread", "lowest", "highest", "kept", "same bytes")
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join("---" for _ in columns) + " |")
    with tempfile.TemporaryDirectory() as folder:
        for name, paths in subjects(arguments.models, Path(folder)).items():
            print("| " + " | ".join([name, *row(*paths, arguments)]) + " |", flush=True)


def subjects(names: list[str], folder: Path) -> dict[str, tuple[Path, Path]]:
    """The model file and the data card of every name; the digits network is trained here."""
    found = {}
    for name in names:
        if name == "digits":
            from edgeprune.demo import train_digits

            files = train_digits(folder)
            found[name] = (files.model, files.card)
        else:
            data = Path(os.environ["EDGEPRUNE_DATA"])
            found[name] = (data / "models" / SUBJECTS[name].model, data / "cards" / SUBJECTS[name].card)
    return found


def row(model: Path, card: Path, arguments: argparse.Namespace) -> list[str]:
    facts, sums = [], []
    for seed in arguments.seeds:
        inspection, digest = compiled(model, card, seed, arguments)
        facts.append(inspection)
        sums.append(digest)
    repeated = compiled(model, card, arguments.seeds[0], arguments)[1] == sums[0] if arguments.again else None
    accuracy = facts[0]["accuracy"]
    after = [each["accuracy"]["after"] for each in facts]
    kept = statistics.fmean(each["nonzero_weights"] / each["weights"] for each in facts)
    return [
        accuracy["metric"],
        f"{accuracy['before']:.4f}",
        f"{statistics.fmean(after):.4f}",
        f"{statistics.stdev(after):.4f}" if len(after) > 1 else "",
        f"{min(after):.4f}",
        f"{max(after):.4f}",
        f"{kept:.1%}",
        {True: "yes", False: "no", None: ""}[repeated],
    ]


def compiled(model: Path, card: Path, seed: int, arguments: argparse.Namespace) -> tuple[dict, str]:
    """What is in the package, and the sha256 of its file."""
    options = Options(
        sparsity=arguments.sparsity,
        pattern=arguments.pattern,
        epochs=arguments.epochs,
        seed=seed,
        threads=arguments.threads,
        best_effort=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.edge"
        result = flow.compile(model, data=card, output=path, options=options)
        return result.inspection, hashlib.sha256(path.read_bytes()).hexdigest()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["digits", "resnet20"], choices=["digits", *SUBJECTS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sparsity", type=float, default=0.75)
    parser.add_argument("--pattern", default="1x16")
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="compile the first seed twice and compare the bytes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
