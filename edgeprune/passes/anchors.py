"""Not every candidate is looked at: errors are read off between levels, and scaled to what a few of them cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.weights import output_positions, read_weight, weighted_layers
from edgeprune.pattern import Level

ANCHORS = 3
"""Of each set of candidates so many are measured; the others go by these."""

MEASURED_ROWS = 256
FEWER_ROWS = 64
MEASURED_WORK = 6e11
"""Candidates are measured on fewer rows, and on FEWER_ROWS one of a set alone, where more multiply-accumulates are."""


@dataclass(frozen=True)
class Measuring:
    """On how many rows candidates are measured, and how many of each set."""

    rows: int
    anchors: int


_SMALLEST = float(np.finfo(np.float32).tiny)
_NEXT_TO_NOTHING = 1e-4
"""Of the next error."""


def anchors_of(errors: np.ndarray, count: int = ANCHORS) -> np.ndarray:
    """Which candidates to measure: at most `count` of those that cost something, spread evenly from the largest on.

    One alone is that in the middle.
    """
    ranked = np.argsort(errors, kind="stable")
    ranked = ranked[errors[ranked] > 0]
    first = len(ranked) - 1 if count > 1 else len(ranked) // 2
    places = np.linspace(first, len(ranked) / (2 * count), count).round().astype(int)
    return ranked[np.unique(places)] if len(ranked) else ranked


def scaled(errors: np.ndarray, anchors: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Estimates scaled so that those of `anchors` (ascending) become their `costs`, made to ascend too.

    In between on a line in logarithms; beyond the ends in proportion. Zero stays zero.
    """
    usable = costs > _SMALLEST
    if not usable.any():
        return errors
    known, level = np.log(anchors[usable]), np.log(np.maximum.accumulate(costs[usable]))
    result = np.zeros(len(errors))
    positive = errors > 0
    logarithms = np.log(errors[positive])
    beyond = logarithms - np.clip(logarithms, known[0], known[-1])
    result[positive] = np.exp(np.interp(logarithms, known, level) + beyond)
    return result


def looked_at(levels: Sequence[Level]) -> list[int]:
    """The levels whose masks are chosen: of each pattern every other density, and the highest and the lowest."""
    found = []
    for pattern in dict.fromkeys(level.pattern for level in levels):
        same = [index for index, level in enumerate(levels) if level.pattern == pattern]
        ranked = sorted(same, key=lambda index: levels[index].density)
        found += sorted({*ranked[::2], *ranked[-2:]})
    return sorted(found)


def filled(levels: Sequence[Level], errors: np.ndarray) -> tuple[float, ...]:
    """The errors of all `levels`, given those of the ones `looked_at`: on a line of their logarithm in between.

    Beside an error of next to nothing, which has no logarithm to speak of, the line is that of the errors themselves.
    """
    known = looked_at(levels)
    result = np.zeros(len(levels))
    result[known] = errors
    for index in sorted({*range(len(levels))} - {*known}):
        same = [each for each in known if levels[each].pattern == levels[index].pattern]
        density = levels[index].density
        below = max((each for each in same if levels[each].density < density), key=lambda each: levels[each].density)
        above = min((each for each in same if levels[each].density > density), key=lambda each: levels[each].density)
        most, least = result[below], result[above]
        share = (density - levels[below].density) / (levels[above].density - levels[below].density)
        logarithmic = least > _NEXT_TO_NOTHING * most
        result[index] = most * (least / most) ** share if logarithmic else most + share * (least - most)
    return tuple(float(error) for error in result)


def measuring_of(model: ir.Model, count: int) -> Measuring:
    """How the candidates of `count` layers are measured; what comes after a layer is half the network."""
    layers = weighted_layers(model)
    work = float(sum(read_weight(layer).size * output_positions(layer) for layer in layers))
    rows = MEASURED_WORK / max(1.0, work * count / 2)
    anchors = ANCHORS if rows >= ANCHORS * FEWER_ROWS else 1
    return Measuring(min(MEASURED_ROWS, max(32, int(rows / anchors))), anchors)
