"""The road: model -> IR -> pruned IR -> program -> package -> measurement."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.options import Options
from edgeprune.progress import Progress, silent
from edgeprune.road.budgets import accuracy_shortfall, shortfalls
from edgeprune.road.loading import Source, load_model
from edgeprune.verbs import advise, bench, deploy, evaluate, export, flash, inspect, report, run, verify

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.compiled import Package

__all__ = [
    "CompileResult",
    "PruneResult",
    "advise",
    "bench",
    "compile",
    "deploy",
    "evaluate",
    "export",
    "flash",
    "inspect",
    "load_model",
    "prune",
    "report",
    "run",
    "verify",
]


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
    from edgeprune.ir.scores import without_scores
    from edgeprune.road.beginning import begin
    from edgeprune.road.inspecting import inspect_model
    from edgeprune.road.pruning import prune_for

    options = options or Options()
    start = begin(model, target, data, output, options)
    drafter = next(start.drafters(progress))
    judge = drafter.judge
    pruned = prune_for(judge, drafter, options, progress)
    score = judge.score(pruned.model)
    shortfall = accuracy_shortfall(options, judge.drop(score), pruned.by_hand)
    written = without_scores(judge.write(pruned.model))
    if output is not None and (not shortfall or options.best_effort):
        save_ir(written, output)
    judge.resume.finish()
    inspection = inspect_model(written, target=drafter.target.name, before=judge.before, after=score)
    return PruneResult(without_scores(pruned.model), inspection | start.told | pruned.told, not shortfall, shortfall)


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

    For a microcontroller's `board` the package has its firmware too. A temporary file lasts as long as the process.
    """
    from edgeprune.compiled import Package
    from edgeprune.package.manifest import inspection
    from edgeprune.road.assembly import measure
    from edgeprune.road.bare_board import draft_for_board
    from edgeprune.road.beginning import begin
    from edgeprune.road.pruning import prune_for

    options = options or Options()
    start = begin(model, target, data, output, options)
    for drafter in start.drafters(progress):
        judge = drafter.judge
        pruned = prune_for(judge, drafter, options, progress)
        draft = drafter.draft(pruned.model, progress)
        score = measure(draft, judge, pruned.model, progress)
        draft = draft.with_accuracy(judge.before, score)
        figures = drafter.figures(draft, pruned.model, progress, pruned.predicted_us)
        shortfall = shortfalls(options, judge.drop(score), pruned.by_hand, figures)
        if not shortfall:
            break
    facts = inspection(draft.manifest) | start.told | pruned.told
    start.judge.resume.finish()
    if shortfall and not options.best_effort:
        return CompileResult(None, None, facts, False, shortfall)
    if board is not None:
        draft = draft_for_board(draft, board)
    path = Path(output) if output is not None else _temporary_folder() / "model.edge"
    manifest = draft.write(path)
    return CompileResult(Package.open(path), path, facts | inspection(manifest), not shortfall, shortfall)


def _temporary_folder() -> Path:
    """A folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="edgeprune-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
