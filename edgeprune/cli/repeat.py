"""`--repeat` of `compile` and `prune`: several seeds, their mean and spread, and the one that is written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.cli.road import RoadRequest, finish
from edgeprune.cli.tables import spread_table
from edgeprune.errors import EdgepruneError
from edgeprune.files import write_bytes
from edgeprune.progress import Progress

if TYPE_CHECKING:
    from edgeprune.road.repeating import Repeats

_LATENCY_SECONDS = 1.0


def run_seeds(request: RoadRequest, verb: Callable[..., Any], title: str) -> None:
    """Run `verb` of the flow with every seed, write the best and show how far the seeds lie apart."""
    from edgeprune.road.repeating import repeat_road

    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder, request.console.work() as progress:

        def run(path: Path, options: Any) -> Any:
            done = options.seed - request.options.seed
            progress("seeds", done, request.repeat, f"seed {options.seed}")
            named = {"target": request.target, "data": request.data, "output": path, "options": options}
            return verb(request.model, progress=progress, **named)

        repeats = repeat_road(
            run,
            request.options,
            request.repeat,
            Path(folder),
            validate=lambda path: _validate_score(request, path),
            latency=lambda path: _latency(request, path, progress),
            metric=_metric(request),
        )
        progress("seeds", request.repeat, request.repeat, "")
        if repeats.kept.path.exists():
            write_bytes(request.output, repeats.kept.path.read_bytes())
    finish(request, repeats.kept.result, title, extra=_report(repeats), tables=[spread_table(_report(repeats))])


def _report(repeats: Repeats) -> dict[str, Any]:
    rows = [
        {"seed": each.seed, "met": each.result.met, "shortfall": each.result.shortfall, **each.figures}
        for each in repeats.all
    ]
    return {"seed": repeats.kept.seed, "repeats": rows, "mean": repeats.mean, "spread": repeats.spread}


def _metric(request: RoadRequest) -> str:
    from edgeprune.data import load_card

    return "fidelity" if request.data is None else load_card(request.data).metric


def _validate_score(request: RoadRequest, path: Path) -> float | None:
    """The score of the pruned model on the validate rows; None where the card has none."""
    if request.data is None:
        return None
    from edgeprune import flow
    from edgeprune.metric import needs_labels

    reference = None if needs_labels(_metric(request)) else request.model
    model = path.with_suffix(".onnx")
    model.write_bytes(_model_in(path))
    try:
        score = flow.evaluate(model, data=request.data, split="validate", reference=reference)
    except EdgepruneError as error:
        if error.code == "card-invalid":
            return None
        raise
    return score.value


def _model_in(path: Path) -> bytes:
    from edgeprune.compiled import Package
    from edgeprune.package.format import MODEL
    from edgeprune.road.inspecting import is_package

    if not is_package(path):
        return path.read_bytes()
    with Package.open(path) as package:
        return package.member(MODEL)


def _latency(request: RoadRequest, path: Path, progress: Progress) -> float | None:
    """The median latency in ms; None for a plain model, and where this machine cannot run the package."""
    from edgeprune import flow
    from edgeprune.road.inspecting import is_package

    if not is_package(path):
        return None
    threads = request.options.threads
    try:
        report = flow.bench(path, threads=threads, seconds=_LATENCY_SECONDS, progress=progress)
    except EdgepruneError as error:
        if error.code == "cpu-missing-features":
            return None
        raise
    return float(report["latency_ms"]["median"])
