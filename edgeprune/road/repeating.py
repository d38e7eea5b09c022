"""The same road with several seeds: how much the result depends on chance, and which one to keep."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeprune.metric import better
from edgeprune.options import Options

Run = Callable[[Path, Options], Any]
"""One road to a file: gives a result with `met`, `shortfall` and `inspection`; the file may be missing then."""
Figure = Callable[[Path], float | None]
"""A figure of a file, or None where it cannot be known."""


@dataclass(frozen=True)
class Repeat:
    """The road with one seed: its result, its file (which may not be there), and its figures by name."""

    seed: int
    result: Any
    path: Path
    figures: dict[str, float]


@dataclass(frozen=True)
class Repeats:
    """All of them, the one to keep, and the mean and spread of every figure that all of them have.

    The spread is the standard deviation of a sample (n - 1).
    """

    all: tuple[Repeat, ...]
    kept: Repeat
    mean: dict[str, float]
    spread: dict[str, float]


def repeat_road(
    run: Run, options: Options, count: int, folder: Path, *, validate: Figure, latency: Figure, metric: str
) -> Repeats:
    """The road with the seeds from `options.seed` on, each to its own file in `folder`.

    `validate` scores a file by `metric` on rows that are not reported, `latency` measures it in ms. The one to keep
    meets its limits if any does, and is the best on the validate rows; the first where they tell no difference.
    """
    repeats = []
    for seed in range(options.seed, options.seed + count):
        path = folder / f"seed-{seed}"
        result = run(path, replace(options, seed=seed))
        measured = {name: of(path) for name, of in (("validate", validate), ("latency_ms", latency)) if path.exists()}
        known = {**_figures(result.inspection), **measured}
        repeats.append(Repeat(seed, result, path, {name: each for name, each in known.items() if each is not None}))
    shared = [name for name in repeats[0].figures if all(name in repeat.figures for repeat in repeats)]
    columns = {name: [repeat.figures[name] for repeat in repeats] for name in shared}
    return Repeats(
        tuple(repeats),
        best_repeat(repeats, metric),
        {name: statistics.fmean(column) for name, column in columns.items()},
        {name: statistics.stdev(column) if count > 1 else 0.0 for name, column in columns.items()},
    )


def best_repeat(repeats: Sequence[Repeat], metric: str) -> Repeat:
    """The one to keep: limits met before missed, then the best validate score, then the first."""
    sign = -1 if better(metric) == "lower" else 1

    def rank(repeat: Repeat) -> tuple[bool, bool, float]:
        score = repeat.figures.get("validate")
        return repeat.result.met, score is not None, 0.0 if score is None else sign * score

    return max(repeats, key=rank)


def _figures(inspection: dict[str, Any]) -> dict[str, float | None]:
    accuracy = inspection.get("accuracy") or {}
    weights = inspection.get("weights")
    return {
        "accuracy_before": accuracy.get("before"),
        "accuracy_after": accuracy.get("after"),
        "sparsity": 1 - inspection["nonzero_weights"] / weights if weights else None,
        **{name: inspection.get(name) for name in ("macs", "weights_bytes", "total_bytes", "ram_bytes")},
    }
