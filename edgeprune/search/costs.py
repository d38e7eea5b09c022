"""What a layer costs on a target at every level of pruning: tables that add up to the cost of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.minimum_cut import cheapest
from edgeprune.pattern import Level, Pattern, parse_pattern

Kind = Literal["measured", "predicted"]
"""Timed on the machine that the table is for, or computed: `basis` says from what."""

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
    """All layers with images in one layout.

    "channels" is channels-last, for blocks, "pixels" planar, for single weights, and "mixed" each layer in the layout
    that is faster for it, with what it costs to change between them. `layers` has, by layer and pattern, what each
    candidate costs; `dense` what each layer costs untouched. Costs add up: `fixed_us` and `fixed_bytes` are those of
    everything else, `code_bytes` of the program without its constants. A pattern that is missing saves nothing here.
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
class Change:
    """Microseconds for step `reader` to take the images of step `source` in the other layout.

    `to_pixels` where they are channels-last and the reader is planar, `to_channels` the other way round.
    """

    source: str
    reader: str
    to_pixels: float
    to_channels: float


@dataclass(frozen=True)
class CostTable:
    """The costs of a model on a target with `threads` threads; `basis` says what predicted ones rest on.

    `layouts` are the views that a search looks at, each by itself, for the best of their results; "channels" comes
    first. `others` has, by name, what steps that cannot be pruned take in each layout ("channels", "pixels"): they are
    in the fixed costs.
    """

    target: str
    kind: Kind
    threads: int
    layouts: tuple[LayoutCosts, ...]
    others: Mapping[str, tuple[float, float]]
    changes: tuple[Change, ...]
    basis: str = ""

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
        """Microseconds that no candidate changes, channels-last."""
        return self.layouts[0].fixed_us

    def view(self, layout: str) -> LayoutCosts | None:
        """The view of `layout`, where the table has it."""
        return next((costs for costs in self.layouts if costs.layout == layout), None)

    def total(self, assignment: Mapping[str, Level]) -> float:
        """Microseconds of one inference in the best layouts. Raises EdgepruneError (layer-unknown)."""
        planar = self.planar(assignment)
        if not planar:
            return self.layouts[0].total(assignment)
        own = sum(pair[name in planar] for name, pair in self._pairs(assignment).items())
        return self._loose() + own + sum(_paid(each, planar) for each in self.changes)

    def size(self, assignment: Mapping[str, Level]) -> int:
        """Bytes of the library. Raises EdgepruneError (layer-unknown)."""
        planar, pixels, channels = self.planar(assignment), self.view("pixels"), self.layouts[0]
        if pixels is None or not planar:
            return channels.size(assignment)
        views = {name: pixels if name in planar else channels for name in self.layers}
        packed = sum(view.bytes(name, assignment.get(name, DENSE)) for name, view in views.items())
        return max(pixels.code_bytes, channels.code_bytes) + channels.fixed_bytes + packed

    def planar(self, assignment: Mapping[str, Level]) -> set[str]:
        """The steps whose images are planar where `assignment` takes least time; none without scattered zeros."""
        _check_names(assignment, self.layers)
        scattered = any(layout_of(level.pattern) == "pixels" and level.density < 1 for level in assignment.values())
        if not scattered or self.view("pixels") is None:
            return set()
        edges = [(each.source, each.reader, each.to_pixels, each.to_channels) for each in self.changes]
        return cheapest(self._pairs(assignment), edges)

    def candidates(self, layer: str) -> tuple[LayerCost, ...]:
        """Every row of `layer`, over all views."""
        _check_names((layer,), self.layers)
        return tuple(cost for costs in self.layouts for cost in costs.layers.get(layer, {}).values())

    def _pairs(self, assignment: Mapping[str, Level]) -> dict[str, tuple[float, float]]:
        """What every step with images takes in either layout."""
        channels, pixels = self.layouts[0], self.view("pixels") or self.layouts[0]
        found = dict(self.others)
        for name in self.layers:
            level = assignment.get(name, DENSE)
            found[name] = (channels.time_us(name, level), pixels.time_us(name, level))
        return found

    def _loose(self) -> float:
        """Microseconds of what has no layout."""
        channels, pixels = self.layouts[0], self.view("pixels") or self.layouts[0]
        sums = (sum(pair[index] for pair in self.others.values()) for index in (0, 1))
        return max(0.0, min(view.fixed_us - own for view, own in zip((channels, pixels), sums, strict=True)))


def mixed(channels: LayoutCosts, pixels: LayoutCosts, changes: tuple[Change, ...]) -> LayoutCosts:
    """The view in which each layer is in the layout that is faster for it; a planar one pays half of its changes."""
    toll = dict.fromkeys(channels.dense, 0.0)
    for each in changes:
        for name in (each.source, each.reader):
            toll[name] = toll.get(name, 0.0) + (each.to_pixels if name == each.reader else each.to_channels) / 2
    layers = {
        name: {
            **{pattern: _dearer(row, toll[name], dense) for pattern, row in pixels.layers.get(name, {}).items()},
            **channels.layers.get(name, {}),
        }
        for name, dense in channels.dense.items()
    }
    code = max(channels.code_bytes, pixels.code_bytes)
    return replace(channels, layout="mixed", layers=layers, code_bytes=code)


def _paid(change: Change, planar: set[str]) -> float:
    source, reader = change.source in planar, change.reader in planar
    return change.to_pixels * (reader and not source) + change.to_channels * (source and not reader)


def _dearer(row: LayerCost, toll: float, dense: LayerCost) -> LayerCost:
    """`row` with `toll` added, as far as that is better than the `dense` layer where it was."""
    return replace(row, times_us=tuple(min(time + toll, dense.at(1.0)) for time in row.times_us))


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
