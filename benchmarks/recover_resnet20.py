"""Accuracy of resnet20 on CIFAR-10 after pruning and recovery: test images, never used to choose anything.

EDGEPRUNE_DATA=... python benchmarks/recover_resnet20.py --pattern 1x16 --sparsity 0.75 --epochs 4 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from edgeprune.data import load_card
from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.weights import weighted_layers
from edgeprune.metric import evaluate
from edgeprune.passes.prune import Prune
from edgeprune.passes.recover import Recover
from edgeprune.pattern import Level, parse_pattern


def main() -> None:
    arguments = read_arguments()
    folder = Path(os.environ["EDGEPRUNE_DATA"])
    model = load(folder / "models" / "cifar_resnet" / "resnet20.onnx")
    card = load_card(folder / "cards" / "cifar10.toml")
    train, validate, test = (card.load(split, input_specs(model)) for split in ("train", "validate", "test"))
    names = [layer.name for layer in weighted_layers(model)][1:-1]
    print(f"dense {top1(model, test):.4f}")
    for pattern_text in arguments.pattern:
        pattern = parse_pattern(pattern_text)
        levels = {name: Level(pattern, pattern.density or 1 - arguments.sparsity) for name in names}
        pruned = Prune(levels)(model)
        print(f"{pattern} {arguments.sparsity:.0%} one shot {top1(pruned, test):.4f}")
        for seed in arguments.seeds:
            began = time.perf_counter()
            recover = Recover(arguments.epochs, card.metric, levels, seed=seed, threads=arguments.threads)
            recovered = recover(pruned, model, train, validate, say)
            seconds = time.perf_counter() - began
            found = f"validate {top1(recovered, validate):.4f} test {top1(recovered, test):.4f}"
            print(f"{pattern} {arguments.sparsity:.0%} seed {seed} {found} {seconds:.0f} s", flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pattern", nargs="+", default=["1x16", "1x1"])
    parser.add_argument("--sparsity", type=float, default=0.75)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def top1(model, samples) -> float:
    return evaluate("top1", Session(model).run_rows(samples), samples.labels).value


def say(label: str, done: int, total: int, note: str) -> None:
    if done % 50 == 0 or done == total:
        print(f"{label} {done}/{total} {note}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
