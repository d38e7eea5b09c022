"""Models of fewer channels that a search may cut weights from, beside the whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.ir.cost import model_cost
from edgeprune.ir.dependency import find_groups
from edgeprune.ir.ports import static_shape
from edgeprune.options import Options
from edgeprune.pattern import Pattern
from edgeprune.progress import Progress
from edgeprune.road.judging import Judge
from edgeprune.road.structures import Structures, structures_of
from edgeprune.search.candidates import LayoutTable
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

DENSITIES = (0.92, 0.85, 0.78, 0.7, 0.62, 0.55, 0.48, 0.41, 0.34, 0.28)
"""The shares of work and weights that are left with fewer channels, from which weights are then cut."""

_CHANNELS = Pattern(structure="channel")


@dataclass
class Thinner:
    """The starts of one search: start 0 is the judge's own model, start n has `DENSITIES[n - 1]` of its channels' work.

    Nothing is computed before it is asked for.
    """

    judge: Judge
    target: Target
    options: Options
    progress: Progress
    _judges: dict[int, Judge] = field(default_factory=dict)
    _units: dict[int, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def tables(self, whole: Sequence[LayoutTable]) -> list[LayoutTable]:
        """The tables of the other starts, from those of the whole model; none where no channel can be taken out.

        A layer's costs shrink as its weights do, those of what is not in the table as its results do; what a layer
        loses with its weights adds to what was lost with channels.
        """
        if not any(group.kind == _CHANNELS.structure for group in find_groups(self.judge.original).groups):
            return []
        found = []
        for start in range(1, len(DENSITIES) + 1):
            kept = self._kept(start)
            if kept:
                model, lost = self._structures.taken_out(kept), self._structures.lost(kept)
                shares = _shares(self.judge.original, model)
                for table in whole:
                    rest = _results(model, table.choices) / max(1, _results(self.judge.original, table.choices))
                    found.append(table.thinned(start, shares, rest, lost))
        return found

    def judge_of(self, start: int) -> Judge:
        """The judge of the model of that start, refitted but not trained; its teacher is the whole one."""
        if start == 0:
            return self.judge
        if start not in self._judges:
            model = self._structures.refitted(self._kept(start), self.progress)
            self._judges[start] = replace(self.judge, original=model, teacher=self.judge.master)
        return self._judges[start]

    @cached_property
    def _structures(self) -> Structures:
        return structures_of(self.judge, self.target, _CHANNELS, self.options, self.progress)

    def _kept(self, start: int) -> Mapping[str, np.ndarray]:
        if start not in self._units:
            self._units[start] = self._structures.keep(channels_left(start))
        return self._units[start]


def channels_left(start: int) -> float:
    """The share of work and weights that the model of that start has, 1.0 for the whole one."""
    return 1.0 if start == 0 else DENSITIES[start - 1]


def _shares(whole: ir.Model, model: ir.Model) -> dict[str, float]:
    """The share of each layer's multiply-accumulates that is left, by its name."""
    before = {layer.name: layer.dense_macs for layer in model_cost(whole).layers}
    after = {layer.name: layer.dense_macs for layer in model_cost(model).layers}
    return {name: after.get(name, macs) / max(1, macs) for name, macs in before.items()}


def _results(model: ir.Model, names: Mapping[str, object]) -> int:
    """The elements of what the nodes make that are not in `names`."""
    values = [node.outputs[0] for node in model.graph if node.name not in names and node.outputs]
    return sum(int(np.prod(static_shape(value))) for value in values)
