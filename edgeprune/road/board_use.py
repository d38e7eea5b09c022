"""A package in use on a board, whatever the board is: run there, and measured there."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Protocol

import msgspec
import numpy as np

from edgeprune.board import Board
from edgeprune.chip import Chip
from edgeprune.compiled import Package
from edgeprune.data.samples import Samples
from edgeprune.deploy.edge_run import BenchTold
from edgeprune.deploy.session import Session
from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent
from edgeprune.road.inspecting import is_package
from edgeprune.search.instructions import Prediction, instruction_facts, predict_energy, predict_latency


class Runs(Protocol):
    """What runs a model on a board."""

    def run_rows(
        self, inputs: dict[str, np.ndarray], progress: Progress = silent, reset_every: int = 0
    ) -> dict[str, np.ndarray]:
        """One inference a row: arrays (count, *shape) by input name, to the same by output name.

        What the model remembers is reset before the first row, and before each `reset_every`-th.
        """

    def bench(self, seconds: float) -> BenchTold:
        """One inference after another for about `seconds`, then one by steps."""


@dataclass(frozen=True)
class OnBoard:
    """A package on a board, ready to run there; `session` only where an operating system answers.

    `facts` are what is known of the firmware of a microcontroller, `chip` that microcontroller.
    """

    package: Package
    board: Board
    kind: str
    runner: Runs
    threads: int = 1
    session: Session | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    chip: Chip | None = None

    def run_rows(self, samples: Samples, progress: Progress = silent) -> dict[str, np.ndarray]:
        """One inference a row; outputs by name, stacked along a new first axis in place of a batch axis of 1."""
        shaped = {
            spec.name: samples.inputs[spec.name].reshape(samples.count, *spec.shape) for spec in self.package.inputs
        }
        outputs = self.runner.run_rows(shaped, progress, samples.reset_every)
        return {name: rows[:, 0] if rows.shape[1:2] == (1,) else rows for name, rows in outputs.items()}

    def bench(self, seconds: float, progress: Progress = silent) -> dict[str, Any]:
        """The JSON of `bench --board`: what was measured there, and how the board was doing before and after."""
        before = None if self.session is None else self.session.conditions()
        progress("measuring on the board", 0, 1, "")
        told = self.runner.bench(seconds)
        progress("measuring on the board", 1, 1, "")
        report = {
            "board": self.board.name,
            "kind": self.kind,
            "precision": self.package.manifest.precision,
            "threads": self.threads,
            "latency_ms": _latency(told),
            "instructions": told.instructions,
            **(_predicted(told) if self.chip is None else self._predicted(self.chip, told)),
            "peers": [],
            "peers_model": None,
            "layers": _layers(told),
        }
        if self.session is None or before is None:
            return report
        facts, after = self.session.facts, self.session.conditions()
        machine = {"model": facts.model, "system": facts.system, "cores": facts.cores, "used_cores": told.cores}
        report["machine"] = machine
        if self.kind == "measured":
            report["peak_rss_bytes"] = told.peak_rss_bytes
            report["conditions"] = {"before": before.as_dict(), "after": after.as_dict()}
        return report

    def _predicted(self, chip: Chip, told: BenchTold) -> dict[str, Any]:
        """Milliseconds and millijoules that the counted instructions should take on `chip`, where that is known."""
        if told.instructions is None:
            return {}
        try:
            facts = instruction_facts(self.package.manifest.target, chip)
        except EdgepruneError as error:
            return {"predicted_ms": None, "unpredicted": error.what}
        time = predict_latency(told.instructions, facts, chip.clock_mhz)
        energy = predict_energy(told.instructions, facts)
        return {"predicted_ms": _as_told(time), "predicted_mj": _as_told(energy)}


def _as_told(prediction: Prediction) -> dict[str, Any]:
    return {"value": prediction.value, "low": prediction.low, "high": prediction.high, "basis": prediction.source}


def require_package(path: str | PathLike[str], board: Board) -> None:
    """Raises EdgepruneError (package-wanted, usage) where a model is given."""
    if not is_package(path):
        hint = f"compile it first: edgeprune compile {path} --target {board.target}"
        what = f"{path} is a model, and a board runs packages (.edge)"
        raise EdgepruneError("package-wanted", what, where=str(path), hint=hint, exit_code=2)


def _latency(told: BenchTold) -> dict[str, float | int] | None:
    if told.latency_ns is None:
        return None
    times = told.latency_ns
    return {"median": times.median / 1e6, "min": times.min / 1e6, "p90": times.p90 / 1e6, "runs": times.runs}


def _predicted(told: BenchTold) -> dict[str, Any]:
    """The predicted milliseconds, or why there are none; nothing where times were measured."""
    if told.instructions is None:
        return {}
    if told.predicted_ms is None:
        return {"predicted_ms": None, "unpredicted": told.unpredicted}
    return {"predicted_ms": msgspec.to_builtins(told.predicted_ms)}


def _layers(told: BenchTold) -> list[dict[str, Any]]:
    """One figure a layer, in the order they run: the steps of one layer added up."""
    layers: dict[str, dict[str, Any]] = {}
    for step in told.layers:
        layer = layers.setdefault(step.name, {"name": step.name})
        if step.time_ns is not None:
            layer["time_us"] = layer.get("time_us", 0.0) + step.time_ns / 1000
        if step.instructions is not None:
            layer["instructions"] = layer.get("instructions", 0) + step.instructions
        if step.predicted_us is not None:
            layer["predicted_us"] = layer.get("predicted_us", 0.0) + step.predicted_us
    return list(layers.values())
