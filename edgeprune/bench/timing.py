"""Latency of several runtimes in one run: they take turns, so that what the machine does meanwhile hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from edgeprune.progress import Progress, silent

Inference = Callable[[], object]

_MIN_ROUNDS = 5


@dataclass(frozen=True)
class Turns:
    """How a turn is made: `settle` seconds of unmeasured inferences (at least one), then `measure` seconds of measured
    ones (at least one). Settling warms caches and outlasts worker threads of the runtime before that still spin."""

    settle: float = 0.003
    measure: float = 0.015


@dataclass(frozen=True)
class Latency:
    """Milliseconds an inference, by round: `rounds` holds one array of latencies for every turn."""

    rounds: tuple[np.ndarray, ...]

    @property
    def all(self) -> np.ndarray:
        """Every measured inference, in milliseconds."""
        return np.concatenate(self.rounds)

    def as_dict(self) -> dict[str, float | int]:
        """Median, minimum and 90th percentile over all measured inferences, and their number."""
        values = self.all
        return {
            "median": float(np.median(values)),
            "min": float(values.min()),
            "p90": float(np.percentile(values, 90)),
            "runs": len(values),
        }


def speedup(ours: Latency, theirs: Latency) -> float:
    """How many times faster `ours` is: the median over rounds of the ratio of the two medians of that round."""
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    return float(np.median([np.median(their) / np.median(our) for our, their in pairs]))


def measure_in_turns(
    runners: Mapping[str, Inference],
    seconds: float,
    *,
    turns: Turns | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
    progress: Progress = silent,
) -> dict[str, Latency]:
    """Latency of every runner, in alternating rounds for about `seconds` in all (at least five rounds).

    In each round every runner has one turn; who begins rotates. `clock` gives nanoseconds.
    """
    turns = turns or Turns()
    names = list(runners)
    rounds: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with _no_collection():
        start = clock()
        number = 0
        while number < _MIN_ROUNDS or (clock() - start) / 1e9 < seconds:
            first = number % len(names)
            for name in names[first:] + names[:first]:
                rounds[name].append(_turn(runners[name], turns, clock))
            number += 1
            spent = min(int((clock() - start) / 1e6), int(seconds * 1000) - 1)
            progress("measuring", max(spent, 0), int(seconds * 1000), "")
    progress("measuring", int(seconds * 1000), int(seconds * 1000), "")
    return {name: Latency(tuple(turns_of)) for name, turns_of in rounds.items()}


def _turn(run: Inference, turns: Turns, clock: Callable[[], int]) -> np.ndarray:
    _repeat(run, turns.settle, clock)
    return np.array(_repeat(run, turns.measure, clock)) / 1e6


def _repeat(run: Inference, seconds: float, clock: Callable[[], int]) -> list[int]:
    times: list[int] = []
    end = clock() + int(seconds * 1e9)
    before = clock()
    while True:
        run()
        after = clock()
        times.append(after - before)
        if after >= end:
            return times
        before = clock()


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
