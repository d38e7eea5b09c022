"""Times of several compiled models in one run, step by step, in short rounds that alternate between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.progress import Progress, silent

_TURN_SECONDS = 0.02
_MIN_ROUNDS = 30
_PLAIN = 60
_SHARE = 0.05
_LONGEST_CALL = 20.0
"""Microseconds: what is beyond is noise."""


@dataclass(frozen=True)
class Probed:
    """A compiled model: one profiled inference (nanoseconds of each step), and one plain inference."""

    profile: Callable[[], np.ndarray]
    call: Callable[[], None]


@dataclass(frozen=True)
class Times:
    """Microseconds: of each step, and of an inference beside its steps (the call, waking threads)."""

    steps: tuple[float, ...]
    call: float

    @property
    def whole(self) -> float:
        """Microseconds of an inference."""
        return sum(self.steps) + self.call


def step_times(models: Sequence[Probed], seconds: float, progress: Progress = silent) -> list[Times]:
    """The times of every model, from alternating rounds for about `seconds` in all (at least thirty).

    In a round each model has one short turn of profiled inferences, at first with plain ones between them. Of each
    step a low quantile over all of them counts: steps are short, so that most runs of one are free of what else the
    machine does.
    """
    calls: list[list[float]] = [[] for _ in models]
    steps: list[list[np.ndarray]] = [[] for _ in models]
    start = time.perf_counter()
    number = 0
    while number < _MIN_ROUNDS or time.perf_counter() - start < seconds:
        for place in range(len(models)):
            index = (place + number) % len(models)
            _turn(models[index], calls[index], steps[index])
        number += 1
        spent = min(time.perf_counter() - start, seconds)
        progress("measuring", int(1000 * spent), int(1000 * seconds), "")
    return [_times(*pair) for pair in zip(calls, steps, strict=True)]


def _turn(model: Probed, calls: list[float], steps: list[np.ndarray]) -> None:
    """Add nanoseconds of plain inferences to `calls`, and of each step of profiled ones to `steps`."""
    model.call()
    end = time.perf_counter() + _TURN_SECONDS
    while True:
        if len(calls) < _PLAIN:
            before = time.perf_counter_ns()
            model.call()
            calls.append(time.perf_counter_ns() - before)
        steps.append(model.profile())
        if time.perf_counter() >= end:
            return


def _times(calls: list[float], steps: list[np.ndarray]) -> Times:
    profiled = np.stack(steps)
    beside = float(np.quantile(calls, _SHARE) - np.quantile(profiled[: len(calls)].sum(axis=1), _SHARE))
    each = np.quantile(profiled, _SHARE, axis=0)
    return Times(tuple(float(value) / 1000 for value in each), min(max(beside / 1000, 0.0), _LONGEST_CALL))
