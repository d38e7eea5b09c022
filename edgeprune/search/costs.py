"""What a layer costs on a target at every level of pruning: tables that add up to the cost of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.pattern import Level, Pattern, parse_pattern

Kind = Literal["measured", "predicted"]
"""Timed on the machine that the table is for, or computed from the kernels' cycle models."""

DENSE = Level(Pattern(), 1.0)


@dataclass(frozen=True)
class LayerCost:
    """One layer in one pattern: microseconds and packed bytes at each of `densities` (ascending, the last is 1)."""

    layer: str
    pattern: str
    densities: tuple[float, ...]
    times_us: tuple[float, ...]
    bytes: tuple[int, ...]

    def at(self, density: float) -> float:
        """Microseconds at `density`, linear between the entries and on the line of the first two below them."""
        return max(0.0, self._between(density, self.times_us))

    def bytes_at(self, density: float) -> int:
        """Bytes of packed constants at `density`."""
        return max(0, round(self._between(density, self.bytes)))

    def _between(self, density: float, values: tuple[float, ...]) -> float:
        first, value = self.densities[0], values[0]
        if density < first and len(values) > 1:
            return value - (first - density) * (values[1] - value) / (self.densities[1] - first)
        return float(np.interp(density, self.densities, values))


@dataclass(frozen=True)
class LayoutCosts:
    """All layers with images in one layout, "channels" (channels-last, for blocks) or "pixels" (planar, for 1x1).

    `layers` has, by layer and pattern, what each candidate costs; `dense` what each layer costs untouched. Costs add
    up: `fixed_us` and `fixed_bytes` are those of everything else, `code_bytes` of the program without its constants.
    A pattern that is missing saves nothing in this layout.
    """

    layout: str
    layers: Mapping[str, Mapping[str, LayerCost]]
    dense: Mapping[str, LayerCost]
    fixed_us: float
    fixed_bytes: int
    code_bytes: int

    def time_us(self, layer: str, level: Level = DENSE) -> float:
        """Microseconds of `layer` at `level`. Raises EdgepruneError (layer-unknown)."""
        return self._row(layer, level).at(level.density)

    def bytes(self, layer: str, level: Level = DENSE) -> int:
        """Packed bytes of `layer` at `level`. Raises EdgepruneError (layer-unknown)."""
        return self._row(layer, level).bytes_at(level.density)

    def total(self, assignment: Mapping[str, Level]) -> float:
        """Microseconds of one inference; layers that `assignment` does not name are dense."""
        _check_names(assignment, self.dense)
        return self.fixed_us + sum(self.time_us(name, assignment.get(name, DENSE)) for name in self.dense)

    def size(self, assignment: Mapping[str, Level]) -> int:
        """Bytes of the library: code and packed constants."""
        _check_names(assignment, self.dense)
        packed = sum(self.bytes(name, assignment.get(name, DENSE)) for name in self.dense)
        return self.code_bytes + self.fixed_bytes + packed

    def _row(self, layer: str, level: Level) -> LayerCost:
        _check_names((layer,), self.dense)
        return self.layers.get(layer, {}).get(str(level.pattern), self.dense[layer])


@dataclass(frozen=True)
class CostTable:
    """The costs of a model on a target with `threads` threads; `clock_mhz` is 0 where it was not needed.

    Every candidate is compiled in the layout that is faster for it, so that a search looks at each of `layouts` by
    itself and takes the better result.
    """

    target: str
    kind: Kind
    threads: int
    layouts: tuple[LayoutCosts, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that can be pruned, in the order they run."""
        return tuple(self.layouts[0].dense)

    @property
    def dense_us(self) -> float:
        """Microseconds of the model as it is."""
        return self.total({})

    @property
    def fixed_us(self) -> float:
        """Microseconds that no candidate changes, in the first layout."""
        return self.layouts[0].fixed_us

    def best(self, assignment: Mapping[str, Level]) -> LayoutCosts:
        """The layout in which `assignment` takes least time."""
        return min(self.layouts, key=lambda costs: costs.total(assignment))

    def total(self, assignment: Mapping[str, Level]) -> float:
        """Microseconds of one inference. Raises EdgepruneError (layer-unknown)."""
        return self.best(assignment).total(assignment)

    def size(self, assignment: Mapping[str, Level]) -> int:
        """Bytes of the library in the layout in which `assignment` takes least time."""
        return self.best(assignment).size(assignment)

    def candidates(self, layer: str) -> tuple[LayerCost, ...]:
        """Every row of `layer`, over all layouts."""
        _check_names((layer,), self.layers)
        return tuple(cost for costs in self.layouts for cost in costs.layers.get(layer, {}).values())


def layout_of(pattern: Pattern) -> str:
    """The layout whose kernels turn `pattern` into time: blocks of output channels are vectors of their own."""
    return "channels" if pattern.block_n > 1 else "pixels"


def layouts_of(patterns: tuple[str, ...]) -> dict[str, tuple[Pattern, ...]]:
    """The patterns of a target by the layout they need; channels-last is always there."""
    found: dict[str, tuple[Pattern, ...]] = {"channels": ()}
    for text in patterns:
        pattern = parse_pattern(text)
        if pattern.structure == "block":
            name = layout_of(pattern)
            found[name] = (*found.get(name, ()), pattern)
    return found


def _check_names(
    names: Mapping[str, Level] | tuple[str, ...], known: Mapping[str, LayerCost] | tuple[str, ...]
) -> None:
    for name in names:
        if name not in known:
            what = f"the cost table has no layer '{name}'"
            raise EdgepruneError("layer-unknown", what, where=name, hint=nearest(name, list(known)))
