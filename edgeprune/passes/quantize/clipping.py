"""Which part of the values of a histogram a grid of eight bits covers: all, or less but in finer steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeprune.ir.quantization import Grid, grid_between
from edgeprune.passes.quantize.histograms import Histogram

METHODS = ("minmax", "percentile", "mse", "entropy")
"""Ways to choose the extent of a grid."""

STEPS = 64
LEVELS = 256
SHORTEST = 0.05
"""No extent is cut to less than this share."""


def grid_for(histogram: Histogram, method: str, percent: float = 99.99) -> Grid:
    """The grid for the values of `histogram` by one of METHODS; `percent` is kept with "percentile"."""
    if method == "percentile" and not histogram.given:
        return grid_between(*percentile(histogram, percent))
    return _TABLE[method](histogram) if method in _TABLE and not histogram.given else all_of(histogram)


def all_of(histogram: Histogram) -> Grid:
    """From the smallest value to the largest."""
    return grid_between(histogram.low, histogram.high)


def percentile(histogram: Histogram, percent: float) -> tuple[float, float]:
    """The ends of the middle `percent` of the values; ends where the values are all zero or of one sign stay."""
    total = float(histogram.counts.sum())
    if total == 0 or histogram.high <= histogram.low:
        return histogram.low, histogram.high
    rising = np.concatenate([[0.0], np.cumsum(histogram.counts)]) / total
    tail = (1 - percent / 100) / (2 if histogram.low < 0 < histogram.high else 1)
    edges = histogram.edges
    low = edges[max(0, int(np.searchsorted(rising, tail, side="right")) - 1)] if histogram.low < 0 else histogram.low
    reached = int(np.searchsorted(rising, 1 - tail, side="left"))
    high = edges[min(len(edges) - 1, reached)] if histogram.high > 0 else histogram.high
    return float(low), float(high)


def least_squares(histogram: Histogram) -> Grid:
    """The grid with the least mean squared error: both ends are drawn in together, then each alone."""
    low, high = histogram.low, histogram.high
    if high <= low:
        return all_of(histogram)
    shares = np.linspace(1.0, SHORTEST, STEPS)
    both = min(shares, key=lambda share: _squares(histogram, grid_between(low * share, high * share)))
    low, high = low * both, high * both
    near = np.linspace(1.25, 0.5, STEPS // 2)
    for _ in range(2):
        low *= min([1.0, *near], key=lambda share: _squares(histogram, grid_between(low * share, high)))
        high *= min([1.0, *near], key=lambda share: _squares(histogram, grid_between(low, high * share)))
    return min((all_of(histogram), grid_between(low, high)), key=lambda grid: _squares(histogram, grid))


def least_divergence(histogram: Histogram) -> Grid:
    """The grid whose values are distributed most like the originals, by their divergence (Migacz 2017)."""
    if histogram.high <= histogram.low:
        return all_of(histogram)
    shares = np.linspace(1.0, LEVELS / len(histogram.counts), STEPS * 2)
    best = min(shares, key=lambda share: divergence(histogram, histogram.low * share, histogram.high * share))
    return grid_between(histogram.low * best, histogram.high * best)


def divergence(histogram: Histogram, low: float, high: float) -> float:
    """The Kullback-Leibler divergence of the values, clipped to `low` to `high`, from the same in LEVELS levels.

    What lies outside counts at the ends. Each level's values are spread over those of its parts that are not empty.
    """
    edges, counts = histogram.edges, _without_zeros(histogram)
    first = int(np.searchsorted(edges, low, side="right")) - 1
    last = int(np.searchsorted(edges, high, side="left"))
    first, last = max(0, min(first, len(counts) - 1)), max(first + 1, min(last, len(counts)))
    inside = counts[first:last].astype(np.float64)
    reference = inside.copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last:].sum()
    level = np.arange(len(inside)) * LEVELS // len(inside)
    filled = (inside > 0).astype(np.float64)
    sums, parts = np.bincount(level, inside, LEVELS), np.bincount(level, filled, LEVELS)
    spread = np.divide(sums, parts, out=np.zeros(LEVELS), where=parts > 0)[level] * filled
    return _relative_entropy(reference, spread)


def _without_zeros(histogram: Histogram) -> np.ndarray:
    """The counts, with no more in the part that holds zero than in those beside it: zeros are exact on every grid."""
    counts = np.asarray(histogram.counts, np.float64).copy()
    place = int(np.clip(np.searchsorted(histogram.edges, 0.0, side="right") - 1, 0, len(counts) - 1))
    beside = [counts[index] for index in (place - 1, place + 1) if 0 <= index < len(counts)]
    counts[place] = min(counts[place], max(beside))
    return counts


def _relative_entropy(reference: np.ndarray, other: np.ndarray) -> float:
    """Of counts; what `other` lacks counts as a small share of it."""
    reference = reference / max(reference.sum(), 1e-30)
    other = np.maximum(other / max(other.sum(), 1e-30), 1e-9)
    held = reference > 0
    return float(np.sum(reference[held] * np.log(reference[held] / other[held])))


def _squares(histogram: Histogram, grid: Grid) -> float:
    held = histogram.counts > 0
    centres = histogram.centres[held]
    return float(np.sum(histogram.counts[held] * np.square(grid.rounded(centres) - centres)))


_TABLE: dict[str, Callable[[Histogram], Grid]] = {
    "minmax": all_of,
    "mse": least_squares,
    "entropy": least_divergence,
}
