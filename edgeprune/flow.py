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
from edgeprune.road.budgets import accuracy_shortfall, check_supported
from edgeprune.target import load_target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.compiled import Package

Source = str | PathLike[str]

HERE = "local"
"""The board that is this machine."""


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


def source_of(model: Source | ir.Model) -> Source | None:
    """Where a model comes from; None for one that is an IR already."""
    return model if isinstance(model, (str, PathLike)) else None


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
    from edgeprune.ir.stored_weights import with_real_weights
    from edgeprune.road.arriving import arrive
    from edgeprune.road.drafting import Drafter
    from edgeprune.road.inspecting import inspect_model
    from edgeprune.road.judging import judge_of
    from edgeprune.road.precision import in_precision, precisions
    from edgeprune.road.pruning import prune_for
    from edgeprune.road.resuming import resume_for

    options = options or Options()
    check_supported(options)
    facts = load_target(target)
    arrived, removed = arrive(load_model(model))
    judge = judge_of(with_real_weights(arrived), data, options.seed, resume_for(output))
    judge = in_precision(judge, arrived, precisions(arrived, options)[0], facts, options, progress)
    facts = facts.for_precision(judge.write.precision)
    pruned = prune_for(judge, Drafter(source_of(model), judge, facts, options), options, progress)
    score = judge.score(pruned.model)
    shortfall = accuracy_shortfall(options, judge.drop(score), pruned.by_hand)
    if output is not None and (not shortfall or options.best_effort):
        save_ir(judge.write(pruned.model), output)
    judge.resume.finish()
    inspection = inspect_model(judge.write(pruned.model), target=facts.name, before=judge.before, after=score)
    inspection |= removed if pruned.search is None else removed | {"search": pruned.search}
    return PruneResult(pruned.model, inspection, not shortfall, shortfall)


def compile(
    model: Source | ir.Model,
    *,
    target: str = "host",
    data: Source | None = None,
    output: Source | None = None,
    options: Options | None = None,
    board: str | None = None,
    progress: Progress = silent,
) -> CompileResult:
    """The whole road up to a package, written to `output` (else to a temporary file) unless a limit is missed.

    For a microcontroller's `board` the package has its firmware too.
    """
    from edgeprune.compiled import Package
    from edgeprune.ir.stored_weights import with_real_weights
    from edgeprune.package.manifest import inspection
    from edgeprune.road.arriving import arrive
    from edgeprune.road.assembly import measure
    from edgeprune.road.bare_board import draft_for_board
    from edgeprune.road.budgets import shortfalls
    from edgeprune.road.drafting import Drafter
    from edgeprune.road.judging import judge_of
    from edgeprune.road.precision import in_precision, precisions
    from edgeprune.road.pruning import prune_for
    from edgeprune.road.resuming import resume_for

    options = options or Options()
    check_supported(options)
    facts = load_target(target)
    arrived, removed = arrive(load_model(model))
    judge = judge_of(with_real_weights(arrived), data, options.seed, resume_for(output))
    for precision in precisions(arrived, options):
        chosen = in_precision(judge, arrived, precision, facts, options, progress)
        drafter = Drafter(source_of(model), chosen, facts.for_precision(chosen.write.precision), options)
        pruned = prune_for(chosen, drafter, options, progress)
        draft = drafter.draft(pruned.model, progress)
        score = measure(draft, chosen, pruned.model, progress)
        draft = draft.with_accuracy(judge.before, score)
        figures = drafter.figures(draft, pruned.model, progress, pruned.predicted_us)
        shortfall = shortfalls(options, judge.drop(score), pruned.by_hand, figures)
        if not shortfall:
            break
    facts_of = inspection(draft.manifest) | removed | ({} if pruned.search is None else {"search": pruned.search})
    judge.resume.finish()
    if shortfall and not options.best_effort:
        return CompileResult(None, None, facts_of, False, shortfall)
    if board is not None:
        draft = draft_for_board(draft, board)
    path = Path(output) if output is not None else Path(tempfile.mkdtemp(prefix="edgeprune-")) / "model.edge"
    manifest = draft.write(path)
    return CompileResult(Package.open(path), path, facts_of | inspection(manifest), not shortfall, shortfall)


def evaluate(
    model_or_package: Source,
    *,
    data: Source,
    split: str = "test",
    reference: Source | None = None,
    threads: int | None = None,
    board: str = HERE,
    progress: Progress = silent,
) -> Score:
    """The metric of a data card for a model or a package; `reference` is the model that fidelity compares with."""
    compared = None if reference is None else load_model(reference)
    if board != HERE:
        from edgeprune.road.on_board import evaluate_on_board

        return evaluate_on_board(model_or_package, data, split, compared, board, threads, progress)
    from edgeprune.road.judging import evaluate_runner
    from edgeprune.road.opened import open_runner

    with open_runner(model_or_package, threads or 1) as opened:
        return evaluate_runner(opened, data, split, compared, progress)


def run(
    package: Source,
    input: Source,
    output: Source,
    *,
    threads: int | None = None,
    board: str = HERE,
    progress: Progress = silent,
) -> dict[str, Any]:
    """One inference for every row of the .npz file `input`; the outputs by name go to the .npz file `output`."""
    if board != HERE:
        from edgeprune.road.on_board import run_on_board

        return run_on_board(package, Path(input), Path(output), board, threads, progress)
    from edgeprune.road.judging import run_rows
    from edgeprune.road.opened import open_runner
    from edgeprune.road.rows import read_rows, write_rows

    with open_runner(package, threads or 1) as opened:
        rows = read_rows(Path(input), opened.inputs)
        outputs = run_rows(opened.run, rows, progress)
    write_rows(Path(output), outputs)
    return {"output": str(output), "rows": rows.count}


def bench(
    package: Source,
    *,
    vs: Sequence[str] = (),
    model: Source | None = None,
    threads: int | None = None,
    seconds: float = 5.0,
    board: str = HERE,
    mlperf_tiny: bool = False,
    data: Source | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Latency on this machine, in rounds that alternate with the runtimes `vs` on `model`; or on another board.

    With `mlperf_tiny` a microcontroller is measured as a runner of MLPerf Tiny does, and judged on the test rows of
    `data`.
    """
    if mlperf_tiny:
        from edgeprune.road.mlperf import mlperf_on_board

        return mlperf_on_board(package, board, data, progress)
    if board != HERE:
        from edgeprune.road.on_board import bench_on_board

        return bench_on_board(package, board, tuple(vs), threads, seconds, progress)
    from edgeprune.road.measuring import measure_package

    return measure_package(Path(package), tuple(vs), model, threads or 1, seconds, progress)


def deploy(package: Source, *, board: str, progress: Progress = silent) -> dict[str, Any]:
    """Put a package on a board, check there that it computes what it should, and leave it."""
    from edgeprune.road.on_board import deploy_on_board

    return deploy_on_board(package, board, progress)


def flash(package: Source, *, board: str, progress: Progress = silent) -> dict[str, Any]:
    """Write a package into a microcontroller, or deploy it to another board, and check there that it computes right."""
    from edgeprune.road.on_board import flash_on_board

    return flash_on_board(package, board, progress)


def export(package: Source, output: Source, form: str, *, board: str | None = None) -> dict[str, Any]:
    """A package for a microcontroller as a firmware image (elf, bin, hex, uf2; for `board`) or as a library."""
    from edgeprune.road.exporting import export_package

    return export_package(package, Path(output), form, board)


def verify(
    package: Source,
    *,
    board: str = HERE,
    samples: int = 16,
    data: Source | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compare the outputs of a package on a board with this machine's, for test rows of `data` or seeded noise.

    Raises EdgepruneError (board-outputs-differ).
    """
    from edgeprune.road.on_board import verify_on_board

    return verify_on_board(package, board, samples, data, threads, progress)


def advise(
    model: Source | ir.Model, *, target: str = "host", threads: int = 1, progress: Progress = silent
) -> dict[str, Any]:
    """Which layers pruning makes faster on `target`, from which sparsity on, and why others not.

    Raises EdgepruneError: target-unknown; model-wanted (usage) where a package is given.
    """
    from edgeprune.ir.stored_weights import with_real_weights
    from edgeprune.road.advising import advise_model, require_model
    from edgeprune.road.writing import Writer

    facts = load_target(target)
    require_model(model)
    arrived = load_model(model)
    write = Writer.of(arrived)
    facts = facts.for_precision(write.precision)
    return advise_model(with_real_weights(arrived), facts, threads=threads, write=write, progress=progress)


def inspect(model_or_package: Source) -> dict[str, Any]:
    """What is inside a package or a model file."""
    from edgeprune.package.manifest import inspection
    from edgeprune.package.read import read_package
    from edgeprune.road.inspecting import inspect_model, is_package

    if is_package(model_or_package):
        return inspection(read_package(model_or_package).manifest)
    return inspect_model(load_model(model_or_package))
