"""The road: model -> IR -> pruned IR -> program -> package -> measurement."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.metric import Score
from edgeprune.options import Options
from edgeprune.progress import Progress, silent
from edgeprune.road.budgets import accuracy_shortfall, check_supported, latency_shortfall, size_shortfall
from edgeprune.target import load_target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.compiled import Package

Source = str | PathLike[str]


@dataclass(frozen=True)
class PruneResult:
    """A pruned model with its facts; `met` is False where a limit was missed, by `shortfall`."""

    model: ir.Model
    inspection: dict[str, Any]
    met: bool
    shortfall: str


@dataclass(frozen=True)
class CompileResult:
    """A package with its facts; `package` is None where a limit was missed and nothing was written."""

    package: Package | None
    path: Path | None
    inspection: dict[str, Any]
    met: bool
    shortfall: str


def load_model(
    model: Source | ir.Model, *, arch: str | None = None, dimensions: Mapping[str, int] | None = None
) -> ir.Model:
    """Import a model file or `module.py:callable` to the IR; an IR model is taken as it is.

    `arch` builds the network of a checkpoint; `dimensions` gives sizes to dimensions that the model leaves open.
    """
    if not isinstance(model, (str, PathLike)):
        return model
    from edgeprune.frontend.load import load

    return load(model, arch, dimensions)


def prune(
    model: Source | ir.Model,
    *,
    target: str = "host",
    data: Source | None = None,
    output: Source | None = None,
    options: Options | None = None,
    progress: Progress = silent,
) -> PruneResult:
    """The road up to the pruned IR, written to `output` as a plain ONNX file unless a limit is missed."""
    from edgeprune.ir.ports import save_ir
    from edgeprune.road.inspecting import inspect_model
    from edgeprune.road.judging import judge_of
    from edgeprune.road.pruning import prune_for

    options = options or Options()
    check_supported(options)
    facts = load_target(target)
    judge = judge_of(load_model(model), data, options.seed)
    pruned = prune_for(judge, facts, options, progress)
    score = judge.score(pruned.model)
    shortfall = accuracy_shortfall(options, judge.drop(score), pruned.by_hand)
    if output is not None and (not shortfall or options.best_effort):
        save_ir(pruned.model, output)
    inspection = inspect_model(pruned.model, target=facts.name, before=judge.before, after=score)
    return PruneResult(pruned.model, inspection, not shortfall, shortfall)


def compile(
    model: Source | ir.Model,
    *,
    target: str = "host",
    data: Source | None = None,
    output: Source | None = None,
    options: Options | None = None,
    progress: Progress = silent,
) -> CompileResult:
    """The whole road up to a package, written to `output` (else to a temporary file) unless a limit is missed."""
    from edgeprune.compiled import Package
    from edgeprune.lowering.build import build
    from edgeprune.lowering.lower import lower
    from edgeprune.package.manifest import inspection
    from edgeprune.road.assembly import assemble, latency_of, measure, provenance_of
    from edgeprune.road.judging import judge_of
    from edgeprune.road.pruning import prune_for

    options = options or Options()
    check_supported(options)
    facts = load_target(target)
    original = load_model(model)
    judge = judge_of(original, data, options.seed)
    pruned = prune_for(judge, facts, options, progress)
    plan = lower(pruned.model, facts, progress=progress)
    built = build(plan, facts, progress=progress)
    source = model if isinstance(model, (str, PathLike)) else None
    provenance = provenance_of(source, original, judge, options.seed)
    name = Path(source).stem if source is not None else pruned.model.graph.name or "model"
    draft = assemble(name, pruned.model, plan, built, facts, provenance, judge)
    score = measure(draft, judge, pruned.model, progress)
    draft = draft.with_accuracy(judge.before, score)
    missed = [
        accuracy_shortfall(options, judge.drop(score), pruned.by_hand),
        size_shortfall(options, draft.manifest.total_bytes, draft.manifest.ram_bytes),
        *([] if options.latency is None else [latency_shortfall(options, latency_of(draft, options, progress))]),
    ]
    shortfall = "; ".join(part for part in missed if part)
    if shortfall and not options.best_effort:
        return CompileResult(None, None, inspection(draft.manifest), False, shortfall)
    path = Path(output) if output is not None else Path(tempfile.mkdtemp(prefix="edgeprune-")) / "model.edge"
    manifest = draft.write(path)
    return CompileResult(Package.open(path), path, inspection(manifest), not shortfall, shortfall)


def evaluate(
    model_or_package: Source,
    *,
    data: Source,
    split: str = "test",
    reference: Source | None = None,
    threads: int = 1,
    progress: Progress = silent,
) -> Score:
    """The metric of a data card for a model or a package; `reference` is the model that fidelity compares with."""
    from edgeprune.road.judging import evaluate_runner
    from edgeprune.road.opened import open_runner

    with open_runner(model_or_package, threads) as opened:
        compared = None if reference is None else load_model(reference)
        return evaluate_runner(opened, data, split, compared, progress)


def run(
    package: Source, input: Source, output: Source, *, threads: int = 1, progress: Progress = silent
) -> dict[str, Any]:
    """One inference for every row of the .npz file `input`; the outputs by name go to the .npz file `output`."""
    from edgeprune.road.judging import run_rows
    from edgeprune.road.opened import open_runner
    from edgeprune.road.rows import read_rows, write_rows

    with open_runner(package, threads) as opened:
        rows = read_rows(Path(input), opened.inputs)
        outputs = run_rows(opened.run, rows, progress)
    write_rows(Path(output), outputs)
    return {"output": str(output), "rows": rows.count}


def bench(
    package: Source,
    *,
    vs: Sequence[str] = (),
    model: Source | None = None,
    threads: int = 1,
    seconds: float = 5.0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Latency on this machine, in rounds that alternate with the runtimes `vs` on `model`."""
    from edgeprune.road.measuring import measure_package

    return measure_package(Path(package), tuple(vs), model, threads, seconds, progress)


def inspect(model_or_package: Source) -> dict[str, Any]:
    """What is inside a package or a model file."""
    from edgeprune.package.manifest import inspection
    from edgeprune.package.read import read_package
    from edgeprune.road.inspecting import inspect_model, is_package

    if is_package(model_or_package):
        return inspection(read_package(model_or_package).manifest)
    return inspect_model(load_model(model_or_package))
