"""Times of several compiled models in one run, step by step, in short rounds that alternate between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.progress import Progress, silent

_TURN_SECONDS = 0.02
_MIN_ROUNDS = 6
_SHARE = 0.25


@dataclass(frozen=True)
class Probed:
    """A compiled model: the layer of each step, one profiled inference (nanoseconds a step), one plain inference."""

    steps: Sequence[str]
    profile: Callable[[Mapping[str, np.ndarray]], np.ndarray]
    call: Callable[[], None]


@dataclass(frozen=True)
class Times:
    """Microseconds: by layer, and of a whole inference."""

    layers: Mapping[str, float]
    whole: float


def step_times(
    models: Sequence[Probed], inputs: Mapping[str, np.ndarray], seconds: float, progress: Progress = silent
) -> list[Times]:
    """The times of every model, from rounds for about `seconds` in all (at least six).

    In a round each model has one short turn of plain and profiled inferences, of which the medians count; over the
    rounds a low quantile does, so that what else the machine does in some rounds is left out.
    """
    plain: list[list[float]] = [[] for _ in models]
    steps: list[list[np.ndarray]] = [[] for _ in models]
    start = time.perf_counter()
    number = 0
    while number < _MIN_ROUNDS or time.perf_counter() - start < seconds:
        for place in range(len(models)):
            index = (place + number) % len(models)
            whole, profiled = _turn(models[index], inputs)
            plain[index].append(whole)
            steps[index].append(profiled)
        number += 1
        spent = min(time.perf_counter() - start, seconds)
        progress("measuring", int(1000 * spent), int(1000 * seconds), "")
    return [
        Times(_by_layer(model.steps, np.quantile(profiled, _SHARE, axis=0)), float(np.quantile(whole, _SHARE)))
        for model, profiled, whole in zip(models, steps, plain, strict=True)
    ]


def _turn(model: Probed, inputs: Mapping[str, np.ndarray]) -> tuple[float, np.ndarray]:
    """Median microseconds of a plain inference, and of each step of a profiled one."""
    model.call()
    plain, profiled = [], []
    end = time.perf_counter() + _TURN_SECONDS
    while not plain or time.perf_counter() < end:
        before = time.perf_counter_ns()
        model.call()
        plain.append(time.perf_counter_ns() - before)
        profiled.append(model.profile(inputs))
    return float(np.median(plain)) / 1000, np.median(profiled, axis=0) / 1000


def _by_layer(steps: Sequence[str], times: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in zip(steps, times, strict=True):
        found[name] = found.get(name, 0.0) + float(value)
    return found
