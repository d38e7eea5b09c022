"""Whether a board computes what this machine does, for the same rows."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from edgeprune.compiled import Package
from edgeprune.data import load_card, random_samples
from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent
from edgeprune.road.judging import run_rows
from edgeprune.road.twin import model_of, open_twin, twin_target
from edgeprune.target import Target, host_cpu_flags

TOLERANCE = 1e-4
"""How far a float output may be from the host's, absolutely or as a share of it: sums are added in another order."""

HALF_TOLERANCE = 0.03
"""How far an output of half precision may be from one in float32, as a share of the largest of its row, or of 1."""


@dataclass(frozen=True)
class Verdict:
    """Outputs of a board that equal the host's: bit by bit, or within `tolerance`."""

    samples: int
    exact: bool
    max_difference: float
    tolerance: float
    reference: str

    def as_dict(self) -> dict[str, Any]:
        """The fields that `verify` prints."""
        return {
            "equal": True,
            "exact": self.exact,
            "max_difference": self.max_difference,
            "tolerance": self.tolerance,
            "reference": self.reference,
        }


def verify_rows(package: Package, count: int, data: str | PathLike[str] | None) -> Samples:
    """The first `count` test rows of the card `data`, or seeded noise that the model takes."""
    if data is not None:
        return load_card(data).load("test", package.inputs, count)
    from edgeprune.ir.indices import index_limits

    return random_samples(package.inputs, count, 0, index_limits(model_of(package)))


def host_outputs(package: Package, rows: Samples, progress: Progress = silent) -> tuple[dict[str, np.ndarray], str]:
    """What this machine computes for `rows`, and by what: the package itself where it runs here, else its model,
    compiled for this machine where every bit counts and on ONNX Runtime where not.
    """
    manifest = package.manifest
    if _runs_here(manifest.target):
        with package.runner() as runner:
            return run_rows(runner.run, rows, runner.reset), "the same library on this machine"
    if manifest.precision in ("fp32", "fp16"):
        from edgeprune.ir.stream import Stream

        stream = Stream(model_of(package))
        how = "the package's model on ONNX Runtime" + ", in float32" * (manifest.precision == "fp16")
        return run_rows(stream.run, rows, stream.reset), how
    with open_twin(package, progress) as twin:
        how = f"the package's model compiled for {twin_target(manifest.target).name}"
        return run_rows(twin.run, rows, twin.reset), how


def compare(
    ours: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    precision: str,
    reference: str,
    board: str,
    real: Collection[str] = (),
) -> Verdict:
    """The verdict on outputs by name, rows along the first axis; those in `real` are computed in float32.

    Integers are equal, real numbers within TOLERANCE of each, or HALF_TOLERANCE of a row where `precision` is fp16.

    Raises EdgepruneError (board-outputs-differ) that names the row and the output that are furthest off.
    """
    furthest = widest = 0.0
    for name, ours_of in ours.items():
        tolerance = TOLERANCE if precision != "int8" or name in real else 0.0
        tolerance = HALF_TOLERANCE if precision == "fp16" else tolerance
        widest = max(widest, tolerance)
        wanted, given = ours_of.astype(np.float64), theirs[name].astype(np.float64)
        same = (wanted == given) | (np.isnan(wanted) & np.isnan(given))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(given - wanted))
        size = np.abs(wanted)
        if precision == "fp16":
            finite = np.where(np.isfinite(size), size, 0.0).reshape(len(size), -1)
            size = finite.max(axis=1).reshape(-1, *[1] * (size.ndim - 1))
        wrong = ~same & ~(difference <= tolerance * np.maximum(1.0, size))
        if wrong.any():
            row = int(np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))[0])
            worst = difference[row].max()
            what = f"outputs of board {board} are not the host's: row {row} of '{name}' is off by {worst:.3g}"
            hint = f"compared with {reference}, {tolerance:g} allowed; compile the package anew, or report it"
            raise EdgepruneError("board-outputs-differ", what, where=f"output '{name}'", hint=hint)
        furthest = max(furthest, float(difference.max(initial=0.0)))
    samples = len(next(iter(ours.values())))
    return Verdict(samples, furthest == 0.0, furthest, widest, reference)


def real_outputs(package: Package) -> set[str]:
    """The outputs that a microcontroller computes in float32, though its other layers may be of integers."""
    ports = package.manifest.outputs
    return {port.name for port in ports if port.stored is not None and port.stored.dtype == "float32"}


def _runs_here(target: Target) -> bool:
    here = platform.machine().lower()
    return here == target.machine and host_cpu_flags().issuperset(target.cpu_flags)
