"""Cost tables: every layer in every pattern at several densities, measured here or predicted for elsewhere."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.bench.rounds import Probed, step_times
from edgeprune.cache import Cache, open_cache
from edgeprune.data import random_samples
from edgeprune.deploy.local import LocalRunner
from edgeprune.errors import EdgepruneError
from edgeprune.ir.copy import copy_model
from edgeprune.ir.ports import input_specs
from edgeprune.lowering.band_choice import with_bands
from edgeprune.lowering.build import build
from edgeprune.lowering.lower import lower
from edgeprune.lowering.modes import LAYOUT_KEY, image_changes
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent
from edgeprune.road.cost_rows import Readings, Structure, changes_between, layout_views, other_steps, with_mixed
from edgeprune.road.cost_store import kept_costs
from edgeprune.road.emulating import basis_of, emulated_readings, unpredicted
from edgeprune.road.predicting import predicted_readings
from edgeprune.road.probes import Probe, Reading, by_step, masked, packed_bytes, probes_of, prunable
from edgeprune.road.writing import Writer
from edgeprune.search.costs import CostTable, Kind
from edgeprune.target import Target, host_cpu_flags

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.lowering.build import Built
    from edgeprune.lowering.plan import Plan

CYCLE_MODELS = "the cycle models of the kernels"
"""What predictions rest on where nothing is emulated."""

_SECONDS = 8.0
_PLAIN = Writer()


def costs_for(
    model: ir.Model,
    target: Target,
    *,
    threads: int = 1,
    seed: int = 0,
    cache: Cache | None = None,
    write: Writer = _PLAIN,
    progress: Progress = silent,
) -> CostTable:
    """The cost table of `model` as `write` makes it: measured where this machine can run `target`, else predicted.

    Predictions are of emulated boards where the target's time is known from those and they can be had here, else of
    the cycle models.
    """
    if host_cpu_flags().issuperset(target.cpu_flags):
        return measured_costs(model, target, threads=threads, seed=seed, cache=cache, write=write, progress=progress)
    try:
        return emulated_costs(model, target, threads=threads, seed=seed, cache=cache, write=write, progress=progress)
    except EdgepruneError as error:
        basis = f"{CYCLE_MODELS}; {unpredicted(error)}"
    return predicted_costs(model, target, threads=threads, seed=seed, write=write, basis=basis, progress=progress)


def emulated_costs(
    model: ir.Model,
    target: Target,
    *,
    threads: int = 1,
    seed: int = 0,
    cache: Cache | None = None,
    write: Writer = _PLAIN,
    progress: Progress = silent,
) -> CostTable:
    """The cost table of `model`: each probe compiled, run once on an emulated board, its time predicted.

    One that was made before is taken again. Raises EdgepruneError (emulator-missing, emulator-unsupported,
    mca-missing, prediction-unsupported, mca-failed), else as `lower` does.
    """
    cache = open_cache() if cache is None else cache
    basis = basis_of(target, cache)

    def make() -> CostTable:
        structure = structure_of(model)
        probes = probes_of(target, structure.images, convolves=structure.convolves)
        readings = emulated_readings(model, target, probes, structure, threads, seed, cache, write, progress)
        return replace(_table(target, "predicted", threads, readings, structure), basis=basis)

    return kept_costs(model, target, threads, cache, make, basis=f"{basis}, {write.precision}")


def predicted_costs(
    model: ir.Model,
    target: Target,
    *,
    threads: int = 1,
    seed: int = 0,
    write: Writer = _PLAIN,
    basis: str = CYCLE_MODELS,
    progress: Progress = silent,
) -> CostTable:
    """The cost table of `model` from the kernels' cycle models and the clock that `target` states; code is a guess.

    `basis` says so, and why. Raises EdgepruneError as `lower` does.
    """
    structure = structure_of(model)
    probes = probes_of(target, structure.images, convolves=structure.convolves)
    readings = predicted_readings(model, target, probes, structure, threads, seed, write, progress)
    return replace(_table(target, "predicted", threads, readings, structure), basis=basis)


def measured_costs(
    model: ir.Model,
    target: Target,
    *,
    threads: int = 1,
    seed: int = 0,
    seconds: float = _SECONDS,
    cache: Cache | None = None,
    write: Writer = _PLAIN,
    progress: Progress = silent,
) -> CostTable:
    """The cost table of `model`, timed on this machine for about `seconds`; one that was made before is taken again.

    Weights are masked at random: which ones are kept does not change the time. Raises EdgepruneError
    (cpu-missing-features) where this machine cannot run `target`, else as `lower` does.
    """
    cache = open_cache() if cache is None else cache

    def make() -> CostTable:
        structure = structure_of(model)
        probes = probes_of(target, structure.images, convolves=structure.convolves)
        readings = _measured(model, target, probes, structure, threads, seed, seconds, cache, write, progress)
        return _table(target, "measured", threads, readings, structure)

    return kept_costs(model, target, threads, cache, make)


def structure_of(model: ir.Model) -> Structure:
    """The layers and images of `model`, and who reads which."""
    layers = prunable(model)
    images, reads = image_changes(model)
    flat = frozenset(layer.name for layer in layers if layer.kind == "linear")
    return Structure(tuple(layer.name for layer in layers), flat, tuple(images), tuple(reads))


def with_layouts(model: ir.Model, table: CostTable, levels: Mapping[str, Level]) -> ir.Model:
    """A copy of `model`, pruned to `levels`, that notes on its nodes the layouts in which `table` finds it fastest."""
    noted = copy_model(model)
    planar = table.planar(levels)
    names = {*table.layers, *table.others}
    for node in noted.graph:
        if planar and node.name in names:
            node.metadata_props[LAYOUT_KEY] = "pixels" if node.name in planar else "channels"
    return noted


def ram_bytes(model: ir.Model, target: Target, budget: float = math.inf) -> int:
    """The working memory that the compiled `model` needs: the static plan exactly, without compiling.

    In bands of rows where it must be, and can be, within `budget` bytes.
    """
    return with_bands(model, target, budget, closest=False).ram_bytes


def _table(target: Target, kind: Kind, threads: int, readings: Readings, structure: Structure) -> CostTable:
    changes = changes_between(readings, structure)
    views = with_mixed(layout_views(target, readings, structure), changes)
    return CostTable(target.name, kind, threads, views, other_steps(readings, structure), changes)


@dataclass(frozen=True)
class _Compiled:
    path: Path
    plan: Plan
    built: Built


@dataclass(frozen=True)
class _Facts:
    """What a runner must know beside the library."""

    target: Target


def _measured(
    model: ir.Model,
    target: Target,
    probes: list[Probe],
    structure: Structure,
    threads: int,
    seed: int,
    seconds: float,
    cache: Cache,
    write: Writer,
    progress: Progress,
) -> Readings:
    known = frozenset((*structure.layers, *structure.images))
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        compiled = []
        for index, probe in enumerate(probes):
            progress("compiling probes", index, len(probes), f"{probe.level.pattern} {probe.level.density:g}")
            path = Path(folder) / f"{index}.so"
            compiled.append(_compiled(model, probe, target, structure, seed, cache, write, path))
        progress("compiling probes", len(probes), len(probes), "")
        runners = [LocalRunner(item.path, _Facts(target), threads) for item in compiled]
        try:
            feeds = random_samples(input_specs(model), 1, seed=0).row(0)
            probed = [Probed(_profile(runner, feeds), runner.bind(feeds).call) for runner in runners]
            timed = step_times(probed, seconds, progress)
        finally:
            for runner in runners:
                runner.close()
    return [
        (probe, _reading(item.plan, item.built, times.steps, times.call, known))
        for probe, item, times in zip(probes, compiled, timed, strict=True)
    ]


def _compiled(
    model: ir.Model,
    probe: Probe,
    target: Target,
    structure: Structure,
    seed: int,
    cache: Cache,
    write: Writer,
    path: Path,
) -> _Compiled:
    levels = dict.fromkeys(structure.layers, probe.level)
    plan = lower(write(masked(model, levels, seed)), target, mode=probe.layout)
    built = build(plan, target, cache=cache)
    path.write_bytes(built.library)
    return _Compiled(path, plan, built)


def _profile(runner: LocalRunner, feeds: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    return lambda: runner.profile(feeds)


def _reading(plan: Plan, built: Built, steps: Sequence[float], call: float, known: frozenset[str]) -> Reading:
    times, copies = by_step(plan, steps, known)
    return Reading(times, copies, call, packed_bytes(plan), built.weights_bytes, built.code_bytes)
