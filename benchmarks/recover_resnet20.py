"""Accuracy of resnet20 on CIFAR-10 after pruning and recovery: test images, never used to choose anything.

EDGEPRUNE_DATA=... python benchmarks/recover_resnet20.py --pattern 1x16 --sparsity 0.75 --epochs 4 --seeds 0 1 2

Without --labels the original alone teaches. --way rounds cuts in three rounds, each trained for its share of the
epochs; --way gradual trains from the dense weights while masks tighten; the default trains the refitted one-shot
result.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgeprune.data import Samples, load_card
from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.metric import evaluate
from edgeprune.passes.correct_statistics import CorrectStatistics
from edgeprune.passes.iterate import Iterate
from edgeprune.passes.prune import Prune
from edgeprune.passes.recover import Recover
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level, parse_pattern
from edgeprune.search.levels import global_levels

CALIBRATION_ROWS = 512
ROUNDS = (2 / 3, 0.87, 1.0)
"""The shares of the sparsity that are reached in turn."""


@dataclass(frozen=True)
class Rows:
    """The rows of the card."""

    calibrate: Samples
    train: Samples
    validate: Samples
    test: Samples


def main() -> None:
    arguments = read_arguments()
    folder = Path(os.environ["EDGEPRUNE_DATA"])
    model = load(folder / "models" / "cifar_resnet" / "resnet20.onnx")
    card = load_card(folder / "cards" / "cifar10.toml")
    rows = Rows(*(card.load(split, input_specs(model)) for split in ("calibrate", "train", "validate", "test")))
    if not arguments.labels:
        rows = replace(rows, train=replace(rows.train, labels=None))
    print(f"dense {top1(model, rows.test):.4f}")
    for pattern in arguments.pattern:
        for name, found, seconds in results(model, pattern, rows, card.metric, arguments):
            accuracy = f"validate {top1(found, rows.validate):.4f} test {top1(found, rows.test):.4f}"
            print(f"{pattern} {arguments.sparsity:.0%} {name}: {accuracy} {seconds:.0f} s", flush=True)


def results(
    model: ir.Model, pattern: str, rows: Rows, metric: str, arguments: argparse.Namespace
) -> Iterator[tuple[str, ir.Model, float]]:
    """What is measured, by name, with the seconds that it took."""
    wanted = levels(model, pattern, arguments.sparsity)
    calibrate = rows.calibrate.slice(0, CALIBRATION_ROWS)
    cut = Prune(wanted)(model)
    yield "by size", cut, 0.0
    yield "by size, statistics corrected", *timed(lambda: CorrectStatistics(calibrate)(cut, model))
    refit = Refit(wanted, samples=CALIBRATION_ROWS)
    fitted, seconds = timed(lambda: refit(model, calibrate))
    yield "refitted", fitted, seconds
    yield "refitted, statistics corrected", *timed(lambda: CorrectStatistics(calibrate)(fitted, model))
    validate = rows.validate if arguments.labels else replace(rows.validate, labels=None)
    for seed in arguments.seeds:
        judged = metric if arguments.labels else "fidelity"
        recover = Recover(arguments.epochs, judged, seed=seed, threads=arguments.threads)
        if arguments.batch is not None:
            recover = replace(recover, largest_batch=arguments.batch)
        name = f"{arguments.way} {arguments.epochs} epochs, seed {seed}"
        if arguments.way == "rounds":
            rounds = [levels(model, pattern, arguments.sparsity * share) for share in ROUNDS]
            run = Iterate(rounds, recover, refit)
            yield name, *timed(lambda run=run: run(model, calibrate, rows.train, validate, say))
        else:
            run = replace(recover, levels=wanted) if arguments.way == "gradual" else recover
            yield name, *timed(lambda run=run: run(fitted, model, rows.train, validate, say))


def levels(model: ir.Model, pattern: str, sparsity: float) -> Mapping[str, Level]:
    return global_levels(model, parse_pattern(pattern), sparsity)


def timed(work) -> tuple[ir.Model, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pattern", nargs="+", default=["1x16", "1x1"])
    parser.add_argument("--sparsity", type=float, default=0.75)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--way", choices=["oneshot", "gradual", "rounds"], default="oneshot")
    return parser.parse_args()


def top1(model: ir.Model, samples: Samples) -> float:
    return evaluate("top1", Session(model).run_rows(samples), samples.labels).value


def say(label: str, done: int, total: int, note: str) -> None:
    if done % 50 == 0 or done == total:
        print(f"{label} {done}/{total} {note}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
