"""Cost tables: every layer in every pattern at several densities, timed in the context of the whole model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.bench.rounds import Probed, step_times
from edgeprune.cache import Cache, open_cache
from edgeprune.data import random_samples
from edgeprune.deploy.local import LocalRunner
from edgeprune.ir.copy import copy_model
from edgeprune.ir.ports import input_specs
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers, write_weight
from edgeprune.lowering.build import build
from edgeprune.lowering.lower import lower
from edgeprune.mask import mask_from_scores
from edgeprune.pattern import Level, Pattern
from edgeprune.progress import Progress, silent
from edgeprune.road.cost_store import kept_table
from edgeprune.search.costs import CostTable, LayerCost, LayoutCosts, layouts_of
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.lowering.build import Built
    from edgeprune.lowering.layout import Mode
    from edgeprune.lowering.plan import Plan

DENSITIES = (0.1, 0.25, 0.5)
"""What is measured beside the dense model; times in between lie on lines."""

_SECONDS = 8.0


@dataclass(frozen=True)
class Probe:
    """The model with every layer at one level, in one layout."""

    layout: Mode
    level: Level


@dataclass(frozen=True)
class _Readings:
    """A probe as it was compiled and timed: by layer microseconds and bytes of constants, and what is left."""

    times_us: Mapping[str, float]
    bytes: Mapping[str, int]
    fixed_us: float
    fixed_bytes: int
    code_bytes: int


@dataclass(frozen=True)
class _Facts:
    """What a runner must know beside the library."""

    target: Target


def measured_costs(
    model: ir.Model,
    target: Target,
    *,
    threads: int = 1,
    seed: int = 0,
    seconds: float = _SECONDS,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> CostTable:
    """The cost table of `model`, timed on this machine for about `seconds`; one that was made before is taken again.

    Weights are masked at random: what is kept where does not change the time. Raises EdgepruneError
    (cpu-missing-features) where this machine cannot run `target`, else as `lower` does.
    """
    cache = open_cache() if cache is None else cache

    def make() -> CostTable:
        return _measure(model, target, threads, seed, seconds, cache, progress)

    return kept_table(model, target, threads, cache, make)


def masked(model: ir.Model, levels: Mapping[str, Level], seed: int) -> ir.Model:
    """A copy of `model` whose layers in `levels` keep random blocks; zeros that came with the model are filled."""
    copy = copy_model(model)
    generator = np.random.default_rng(seed)
    for layer in prunable(copy):
        level = levels.get(layer.name)
        weight = read_weight(layer)
        weight[weight == 0] = np.abs(weight).mean() or 1.0
        if level is not None and level.density < 1:
            scores = generator.random(weight.shape)
            density = None if level.pattern.group is not None else level.density
            weight *= mask_from_scores(scores, level.pattern, density)
        write_weight(layer, weight)
    return copy


def prunable(model: ir.Model) -> list[WeightedLayer]:
    """The layers that a table has: all with a weight of their own but depthwise ones."""
    return [layer for layer in weighted_layers(model) if layer.kind != "depthwise"]


def ram_bytes(model: ir.Model, target: Target) -> int:
    """The working memory that the compiled `model` needs: the static plan exactly, without compiling."""
    from edgeprune.lowering.arena import allocate

    return allocate(lower(model, target)).size


def probes_of(target: Target) -> list[Probe]:
    """The probes that `target` needs: every layout dense, and every pattern at each density in the layout it needs.

    Blocks of different height, or balanced ones, have rows of their own; a pattern with its own level has one probe.
    """
    found = []
    for layout, patterns in layouts_of(target.patterns).items():
        found.append(Probe(_mode(layout), Level(Pattern(), 1.0)))
        for pattern in patterns:
            levels = DENSITIES if pattern.density is None else (pattern.density,)
            found += [Probe(_mode(layout), Level(pattern, density)) for density in levels]
    return found


def _mode(layout: str) -> Mode:
    return "pixels" if layout == "pixels" else "channels"


def _measure(
    model: ir.Model, target: Target, threads: int, seed: int, seconds: float, cache: Cache, progress: Progress
) -> CostTable:
    probes = probes_of(target)
    names = [layer.name for layer in prunable(model)]
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        compiled = []
        for index, probe in enumerate(probes):
            progress("compiling probes", index, len(probes), f"{probe.level.pattern} {probe.level.density:g}")
            compiled.append(_compiled(model, probe, target, names, seed, cache, Path(folder) / f"{index}.so"))
        progress("compiling probes", len(probes), len(probes), "")
        readings = _timed(model, compiled, target, threads, seconds, progress)
    flat = frozenset(layer.name for layer in prunable(model) if layer.kind == "linear")
    layouts = _layouts(target, probes, readings, names)
    return CostTable(target.name, "measured", threads, _with_blocks(layouts, flat))


@dataclass(frozen=True)
class _Compiled:
    path: Path
    plan: Plan
    built: Built
    names: frozenset[str]


def _compiled(
    model: ir.Model, probe: Probe, target: Target, names: Iterable[str], seed: int, cache: Cache, path: Path
) -> _Compiled:
    levels = dict.fromkeys(names, probe.level)
    plan = lower(masked(model, levels, seed), target, mode=probe.layout)
    built = build(plan, target, cache=cache)
    path.write_bytes(built.library)
    return _Compiled(path, plan, built, frozenset(levels))


def _timed(
    model: ir.Model, compiled: list[_Compiled], target: Target, threads: int, seconds: float, progress: Progress
) -> list[_Readings]:
    feeds = random_samples(input_specs(model), 1, seed=0).row(0)
    runners = [LocalRunner(item.path, _Facts(target), threads) for item in compiled]
    try:
        probed = [Probed(runner.steps, runner.profile, runner.bind(feeds).call) for runner in runners]
        timed = step_times(probed, feeds, seconds, progress)
    finally:
        for runner in runners:
            runner.close()
    return [_readings(item, times.layers, times.whole) for item, times in zip(compiled, timed, strict=True)]


def _readings(item: _Compiled, times: Mapping[str, float], whole: float) -> _Readings:
    sizes = packed_bytes(item.plan)
    own_times = {name: time for name, time in times.items() if name in item.names}
    own_bytes = {name: sizes.get(name, 0) for name in own_times}
    fixed_bytes = max(0, item.built.weights_bytes - sum(own_bytes.values()))
    fixed = max(0.0, whole - sum(own_times.values()))
    return _Readings(own_times, own_bytes, fixed, fixed_bytes, item.built.code_bytes)


def packed_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of the constants that the steps of each layer read, as they are stored; shared ones count once."""
    from edgeprune.lowering.arena import ALIGNMENT
    from edgeprune.lowering.plan import Call

    sizes = {constant.name: -(-constant.value.nbytes // ALIGNMENT) * ALIGNMENT for constant in plan.constants}
    found: dict[str, int] = {}
    for step in plan.steps:
        if isinstance(step, Call):
            own = sum(sizes.pop(name, 0) for name in dict.fromkeys(step.arguments))
            found[step.layer.name] = found.get(step.layer.name, 0) + own
    return found


def _layouts(
    target: Target, probes: list[Probe], readings: list[_Readings], names: list[str]
) -> tuple[LayoutCosts, ...]:
    """The rows of each layout, channels-last first."""
    timed = set.intersection(*(set(reading.times_us) for reading in readings))
    names = [name for name in names if name in timed]
    found = []
    for layout, patterns in layouts_of(target.patterns).items():
        pairs = [(p.level, r) for p, r in zip(probes, readings, strict=True) if p.layout == layout]
        whole = next(reading for level, reading in pairs if level.density == 1)
        rows: dict[str, dict[str, LayerCost]] = {name: {} for name in names}
        for pattern in patterns:
            points = [(level.density, reading) for level, reading in pairs if level.pattern == pattern]
            points = [point for point in points if point[0] < 1] + [(1.0, whole)]
            for name in names:
                rows[name][str(pattern)] = _row(name, pattern, points)
        dense = {name: _row(name, Pattern(), [(1.0, whole)]) for name in names}
        code = max(reading.code_bytes for _, reading in pairs)
        fixed_us = float(np.median([reading.fixed_us for _, reading in pairs]))
        found.append(LayoutCosts(layout, rows, dense, fixed_us, whole.fixed_bytes, code))
    return tuple(found)


def _row(layer: str, pattern: Pattern, points: list[tuple[float, _Readings]]) -> LayerCost:
    times = np.maximum.accumulate([reading.times_us[layer] for _, reading in points])
    return LayerCost(
        layer,
        str(pattern),
        tuple(density for density, _ in points),
        tuple(float(time) for time in times),
        tuple(reading.bytes[layer] for _, reading in points),
    )


def _with_blocks(layouts: tuple[LayoutCosts, ...], flat: frozenset[str]) -> tuple[LayoutCosts, ...]:
    """Rows of blocks for the planar layout, where only the number of weights counts: they cost what single ones do.

    Linear layers, `flat`, have no layout, and cost what they do elsewhere.
    """
    blocks = layouts[0].layers
    found = [layouts[0]]
    for costs in layouts[1:]:
        rows = {
            name: {
                pattern: blocks[name][pattern] if name in flat else replace(row["1x1"], pattern=pattern)
                for pattern in blocks[name]
                if name in flat or "1x1" in row
            }
            for name, row in costs.layers.items()
        }
        found.append(replace(costs, layers={name: {**rows[name], **row} for name, row in costs.layers.items()}))
    return tuple(found)
