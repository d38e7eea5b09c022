"""From the readings of probes to a cost table: rows by layer and pattern, what is fixed, what a change costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeprune.pattern import Pattern
from edgeprune.road.probes import FULL, Probe, Reading
from edgeprune.search.costs import Change, LayerCost, LayoutCosts, layouts_of, mixed
from edgeprune.target import Target

Readings = Sequence[tuple[Probe, Reading]]


@dataclass(frozen=True)
class Structure:
    """What a table must know of a model: prunable layers, those without a layout, images and who reads which.

    `reads` are (source, reader, elements).
    """

    layers: tuple[str, ...]
    flat: frozenset[str]
    images: tuple[str, ...]
    reads: tuple[tuple[str, str, int], ...]

    @property
    def convolves(self) -> bool:
        """Whether some prunable layer reads images."""
        return len(self.flat) < len(self.layers)


def layout_views(target: Target, readings: Readings, structure: Structure) -> tuple[LayoutCosts, ...]:
    """The views of a table, channels-last first."""
    names = [name for name in structure.layers if all(name in reading.times_us for _, reading in readings)]
    views = []
    probed = {probe.layout for probe, _ in readings if isinstance(probe.layout, str)}
    for layout, patterns in layouts_of(target.patterns).items():
        if layout not in probed:
            continue
        pairs = [(probe.level, reading) for probe, reading in readings if probe.layout == layout]
        whole = _dense(readings, layout)
        rows: dict[str, dict[str, LayerCost]] = {name: {} for name in names}
        for pattern in patterns:
            points = [(level.density, reading) for level, reading in pairs if level.pattern == pattern]
            points = [point for point in points if point[0] < 1] + [(1.0, whole)]
            for name in names:
                rows[name][str(pattern)] = _row(name, pattern, points)
        fixed = float(np.median([_beside(reading, names) for _, reading in pairs]))
        dense = {name: _row(name, Pattern(), [(1.0, whole)]) for name in names}
        fixed_bytes = max(0, whole.weights_bytes - sum(whole.bytes[name] for name in names))
        code = max(reading.code_bytes for _, reading in pairs)
        views.append(LayoutCosts(layout, rows, dense, fixed, fixed_bytes, code))
    return _with_blocks(tuple(views), structure.flat)


def with_mixed(views: tuple[LayoutCosts, ...], changes: tuple[Change, ...]) -> tuple[LayoutCosts, ...]:
    """`views` and, where there are two, the one that mixes them."""
    return (*views, mixed(views[0], views[1], changes)) if len(views) == 2 else views


def other_steps(readings: Readings, structure: Structure) -> dict[str, tuple[float, float]]:
    """Microseconds of the images that no layer makes, (channels-last, planar)."""
    if not any(probe.layout == "pixels" for probe, _ in readings):
        return {}
    channels, pixels = (_dense(readings, layout).times_us for layout in ("channels", "pixels"))
    names = (name for name in structure.images if name not in structure.layers)
    return {name: (channels.get(name, 0.0), pixels.get(name, 0.0)) for name in names}


def changes_between(readings: Readings, structure: Structure) -> tuple[Change, ...]:
    """What every change of layout costs, from the probe that alternates: its copies, by the elements they bring."""
    turned = [(probe.layout, reading) for probe, reading in readings if not isinstance(probe.layout, str)]
    if not turned:
        return ()
    layout, reading = turned[0]
    usual = {name: _dense(readings, name).copies_us for name in ("channels", "pixels")}
    spent = {"channels": [0.0, 0.0], "pixels": [0.0, 0.0]}
    for source, reader, elements in structure.reads:
        if layout[source] != layout[reader]:
            extra = reading.copies_us.get(reader, 0.0) - usual[layout[reader]].get(reader, 0.0)
            spent[layout[reader]][0] += max(0.0, extra)
            spent[layout[reader]][1] += elements
    each = {name: time / elements if elements else 0.0 for name, (time, elements) in spent.items()}
    return tuple(
        Change(source, reader, each["pixels"] * elements, each["channels"] * elements)
        for source, reader, elements in structure.reads
    )


def _dense(readings: Readings, layout: str) -> Reading:
    return next(
        reading for probe, reading in readings if probe == Probe("pixels" if layout == "pixels" else "channels", FULL)
    )


def _beside(reading: Reading, names: Sequence[str]) -> float:
    return max(0.0, reading.whole_us - sum(reading.times_us[name] for name in names))


def _row(layer: str, pattern: Pattern, points: Sequence[tuple[float, Reading]]) -> LayerCost:
    return LayerCost(
        layer,
        str(pattern),
        tuple(density for density, _ in points),
        _ascending([reading.times_us[layer] for _, reading in points]),
        tuple(reading.bytes[layer] for _, reading in points),
    )


def _ascending(times: Sequence[float]) -> tuple[float, ...]:
    """The nearest times that do not fall (pool adjacent violators, Ayer et al. 1955)."""
    pools: list[list[float]] = []
    for time in times:
        pools.append([time])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    return tuple(float(np.mean(pool)) for pool in pools for _ in pool)


def _with_blocks(views: tuple[LayoutCosts, ...], flat: frozenset[str]) -> tuple[LayoutCosts, ...]:
    """Rows of blocks for the planar layout, where only the number of weights counts: they cost what single ones do.

    Linear layers, `flat`, have no layout, and cost what they do elsewhere.
    """
    return (views[0], *(replace(view, layers=_filled(view.layers, views[0].layers, flat)) for view in views[1:]))


def _filled(
    rows: Mapping[str, Mapping[str, LayerCost]], blocks: Mapping[str, Mapping[str, LayerCost]], flat: frozenset[str]
) -> dict[str, dict[str, LayerCost]]:
    found = {}
    for name, row in rows.items():
        more = {}
        if name in flat:
            more = dict(blocks[name])
        elif "1x1" in row:
            more = {pattern: replace(row["1x1"], pattern=pattern) for pattern in blocks[name]}
        found[name] = {**more, **row}
    return found
