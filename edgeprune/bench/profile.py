"""Where an inference spends its time: one figure a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Profiled(Protocol):
    """A compiled model that can time its steps."""

    @property
    def steps(self) -> list[str]:
        """The model node behind each step, in order."""

    def profile(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Nanoseconds of each step of one inference."""


def layer_times(model: Profiled, inputs: Mapping[str, np.ndarray], runs: int = 50) -> list[dict[str, Any]]:
    """Median time of each layer over `runs` inferences, in microseconds, in the order the layers run.

    Steps of one layer are added up before the median is taken.
    """
    model.profile(inputs)
    times = np.stack([model.profile(inputs) for _ in range(runs)])
    steps: dict[str, list[int]] = {}
    for index, name in enumerate(model.steps):
        steps.setdefault(name, []).append(index)
    return [
        {"name": name, "time_us": float(np.median(times[:, indices].sum(axis=1))) / 1000.0}
        for name, indices in steps.items()
    ]
