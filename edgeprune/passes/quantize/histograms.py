"""What values a network computes on the calibration rows: their extent, and how often each occurs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.passes.finite import require_finite
from edgeprune.passes.quantize.placement import Placement
from edgeprune.progress import Progress, silent

BINS = 2048
COUNTED = 1 << 16
"""Of one value of one row at most about so many elements are counted; the extent is that of all."""


@dataclass(frozen=True)
class Histogram:
    """How often the values of one grid lie in each of BINS equal parts of `low` to `high`, both of them met.

    `given` says that a model input is among them: it comes from outside, and all of it counts.
    """

    low: float
    high: float
    counts: np.ndarray
    given: bool = False

    @property
    def edges(self) -> np.ndarray:
        """The ends of the parts, one more than there are parts."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centres(self) -> np.ndarray:
        """The middle of each part."""
        edges = self.edges
        return np.asarray((edges[1:] + edges[:-1]) / 2)


def histograms(
    model: ir.Model, placement: Placement, samples: Samples, threads: int = 1, progress: Progress = silent
) -> list[Histogram]:
    """One histogram for every grid number of `placement`, over all rows of `samples`.

    The rows run twice, one at a time: for the extents, then for the counts; memory does not grow with them. Raises
    EdgepruneError (not-finite) where a value is NaN or infinite.
    """
    numbers = [point.grid for point in placement.points]
    if not numbers:
        return []
    low, high = np.full(max(numbers) + 1, np.inf), np.full(max(numbers) + 1, -np.inf)
    run = _Run(model, [point.value for point in placement.points], samples, threads)
    for row, arrays in run.rows():
        progress("calibrating", row, 2 * samples.count, "extents")
        for number, point, array in zip(numbers, placement.points, arrays, strict=True):
            least, most = float(array.min(initial=0)), float(array.max(initial=0))
            if not np.isfinite(least + most):
                require_finite(array, f"tensor '{point.value.name}'", f"tensor '{point.value.name}'")
            low[number], high[number] = min(low[number], least), max(high[number], most)
    counts = np.zeros((len(low), BINS))
    for row, arrays in run.rows():
        progress("calibrating", samples.count + row, 2 * samples.count, "counts")
        for number, array in zip(numbers, arrays, strict=True):
            counts[number] += _counted(array, low[number], high[number])
    progress("calibrating", 2 * samples.count, 2 * samples.count, "")
    given = {point.grid for point in placement.points if point.value.is_graph_input()}
    return [Histogram(float(low[n]), float(high[n]), counts[n], n in given) for n in range(len(low))]


def _counted(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """How many elements of `array`, or of some spread evenly over it, lie in each of BINS parts of `low` to `high`."""
    flat = array.reshape(-1)
    flat = flat[:: max(1, flat.size // COUNTED) | 1]
    extent = high - low
    if extent <= 0:
        return np.bincount([0], [float(flat.size)], BINS)
    places = ((flat.astype(np.float64) - low) * (BINS / extent)).astype(np.int64)
    return np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)


class _Run:
    """Runs a model for values inside it, row by row."""

    def __init__(self, model: ir.Model, values: Sequence[ir.Value], samples: Samples, threads: int) -> None:
        self._inputs = [str(value.name) for value in model.graph.inputs]
        self._names = [str(value.name) for value in values]
        inner = [name for name in self._names if name not in self._inputs]
        self._session: Session | None = None
        if inner:
            graph = ir.convenience.extract(model.graph, self._inputs, list(dict.fromkeys(inner)))
            self._session = Session(ir.Model(graph, ir_version=model.ir_version), threads)
        self._samples = replace(samples, specs=tuple(input_specs(model)))

    def rows(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The number of each row, and its values in order."""
        for index in range(self._samples.count):
            row = self._samples.row(index)
            if self._session is not None:
                row = {**row, **self._session.run({spec.name: row[spec.name] for spec in self._session.specs})}
            yield index, [row[name] for name in self._names]
