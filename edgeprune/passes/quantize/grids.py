"""Chooses the grids of a network's values by what they do to its outputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.passes.quantize.clipping import grid_for
from edgeprune.passes.quantize.histograms import histograms
from edgeprune.passes.quantize.judge import OutputJudge
from edgeprune.passes.quantize.placement import place
from edgeprune.passes.quantize.write import GridChoice, quantized
from edgeprune.progress import Progress

_TRIED: tuple[tuple[str, float], ...] = (
    ("minmax", 100.0),
    ("percentile", 99.999),
    ("percentile", 99.99),
    ("percentile", 99.9),
    ("mse", 100.0),
    ("entropy", 100.0),
)


def choose_grids(
    model: ir.Model,
    rows: Samples,
    calibration: str | tuple[str, float],
    keep_float: Collection[str],
    judge: OutputJudge,
    threads: int,
    progress: Progress,
) -> GridChoice:
    """The grids of `model` by the way that `calibration` names; of several, that after which outputs are closest."""
    placement = place(model, keep_float)
    found = histograms(model, placement, rows, threads, progress)
    ways = [way for way in _TRIED if calibration in ("auto", way[0], way)]
    best: GridChoice | None = None
    for index, (method, percent) in enumerate(ways):
        progress("choosing extents", index, len(ways), method)
        grids = tuple(grid_for(histogram, method, percent) for histogram in found)
        choice = GridChoice(model, placement, grids, frozenset(keep_float), (method, percent))
        choice = replace(choice, loss=judge.loss(quantized(choice)))
        best = choice if best is None or choice.loss < best.loss else best
    progress("choosing extents", len(ways), len(ways), "")
    assert best is not None
    return best
