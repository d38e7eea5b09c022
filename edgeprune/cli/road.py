"""What a user asked of `compile` or `prune`, and how the outcome is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from edgeprune.cli.arguments import usage_error
from edgeprune.cli.console import Console, show_error
from edgeprune.cli.tables import summary_table
from edgeprune.errors import EdgepruneError
from edgeprune.model_file import ModelFile
from edgeprune.options import Options
from edgeprune.pattern import parse_pattern

_NOTED_SHORTAGE = 0.05


@dataclass(frozen=True)
class RoadRequest:
    """What a user asked of `compile` or `prune`, checked as far as it can be without the model."""

    model: ModelFile
    target: str
    board: str | None
    data: Path | None
    output: Path
    options: Options
    console: Console
    repeat: int = 1

    def require_suffix(self, suffix: str, *, others: Sequence[str], hint: str) -> None:
        """Refuse an output that is called as something else than what is written.

        Raises EdgepruneError (output-misnamed, usage).
        """
        if self.output.suffix.lower() in others:
            what = f"what is written is no {self.output.suffix} file"
            raise usage_error("output-misnamed", what, str(self.output), f"name it {self.output.stem}{suffix}{hint}")


def limit_error(shortfall: str) -> EdgepruneError:
    """The error of a missed budget or accuracy limit: exit code 3."""
    return EdgepruneError(
        "limit-not-met",
        shortfall,
        where="what was asked of the result",
        hint="allow more (--max-drop, --latency, --size, ...), or take what there is with --best-effort",
        exit_code=3,
    )


def finish(
    request: RoadRequest, result: Any, title: str, *, extra: Mapping[str, Any] | None = None, tables: Sequence[Any] = ()
) -> None:
    """Show the outcome of `compile` or `prune`, with `extra` fields of JSON and `tables` after its own.

    Exit code 3 where a budget or the limit is missed.
    """
    written = result.met or request.options.best_effort
    output = str(request.output) if written else None
    report = {"output": output, "met": result.met, "shortfall": result.shortfall, **result.inspection, **(extra or {})}
    error = None if result.met else limit_error(result.shortfall)
    if error is not None:
        report["error"] = error.as_dict()
    request.console.result(report, summary_table(f"{title} {output or '(not written)'}", report), *tables)
    if report.get("accuracy") is None:
        request.console.note("warning: no accuracy was checked; give labelled data with --data CARD.toml")
    shortage = _sparsity_shortage(request.options, report)
    if shortage:
        request.console.note(shortage)
    if error is not None:
        if not request.console.as_json:
            show_error(error, as_json=False)
        raise typer.Exit(error.exit_code)


def _sparsity_shortage(options: Options, report: dict[str, Any]) -> str:
    """A warning where clearly fewer weights were removed than asked for, or nothing."""
    asked = options.sparsity
    if options.pattern is not None and parse_pattern(options.pattern).structure != "block":
        return ""
    removed = 1 - report["nonzero_weights"] / max(1, report["weights"])
    if asked is None or removed >= asked - _NOTED_SHORTAGE:
        return ""
    return (
        f"warning: {removed:.0%} of all weights were removed, {asked:.0%} of the prunable ones were asked for: "
        "depthwise, transposed and recurrent layers stay dense"
    )
