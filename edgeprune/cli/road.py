"""The options that `compile` and `prune` share, gathered into one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.arguments import (
    Architecture,
    DataCard,
    Dimensions,
    Json,
    ModelSource,
    Quiet,
    RandomCalibration,
    TargetName,
    Threads,
    check_board,
    check_data,
    check_output,
    check_target,
    complete_board,
    model_file,
    usage_error,
)
from edgeprune.cli.console import Console, show_error
from edgeprune.cli.profiles import complete_profile
from edgeprune.cli.tables import summary_table
from edgeprune.errors import EdgepruneError
from edgeprune.model_file import ModelFile
from edgeprune.options import CRITERIA, Options, parse_bytes
from edgeprune.pattern import parse_pattern
from edgeprune.profile import with_profile
from edgeprune.road.budgets import check_supported
from edgeprune.target import load_target

_NOTED_SHORTAGE = 0.05


def _complete_criterion(incomplete: str) -> list[str]:
    return [name for name in CRITERIA if name.startswith(incomplete)]


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


def road_command(verb: Callable[[RoadRequest], None]) -> Callable[..., None]:
    """The command that reads the shared options, checks them and calls `verb`."""

    def command(
        ctx: typer.Context,
        model: ModelSource,
        output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
        target: TargetName = "",
        board: Annotated[
            str | None,
            typer.Option(
                "--board",
                "-b",
                metavar="BOARD",
                help="What it is for; a microcontroller gets its firmware too.",
                autocompletion=complete_board,
            ),
        ] = None,
        data: DataCard = None,
        random_calibration: RandomCalibration = False,
        profile: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help="Presets of a field; `edgeprune profiles` lists. Other options win.",
                autocompletion=complete_profile,
            ),
        ] = None,
        sparsity: Annotated[float | None, typer.Option(help="Share of the weights to remove, 0 <= F < 1.")] = None,
        pattern: Annotated[
            str | None, typer.Option(help="What is removed together: 1x1, 1x16, 2:4, 2:4/1x16, channel.")
        ] = None,
        criterion: Annotated[
            str, typer.Option(help="What judges what may go.", autocompletion=_complete_criterion)
        ] = "auto",
        dense: Annotated[bool, typer.Option("--dense", help="Remove nothing.")] = False,
        precision: Annotated[str, typer.Option(help="auto, fp32 or int8. (fp16: no target has it yet.)")] = "auto",
        max_drop: Annotated[
            float | None, typer.Option(metavar="POINTS", help="Accuracy it may cost. [default: 1.0]")
        ] = None,
        latency: Annotated[float | None, typer.Option(metavar="MS", help="Budget: milliseconds an inference.")] = None,
        size: Annotated[str | None, typer.Option(metavar="BYTES", help="Budget: weights and code, as 64k.")] = None,
        ram: Annotated[str | None, typer.Option(metavar="BYTES", help="Budget: working memory, as 1.5M.")] = None,
        energy: Annotated[float | None, typer.Option(metavar="MJ", help="Budget: millijoules an inference.")] = None,
        epochs: Annotated[int | None, typer.Option(help="Recovery training; 0 = none, one shot.")] = None,
        minutes: Annotated[float | None, typer.Option(help="Wall clock that recovery training may take.")] = None,
        permute: Annotated[
            bool,
            typer.Option("--permute/--no-permute", help="Let channels change their order so that blocks lose less."),
        ] = True,
        backend: Annotated[str, typer.Option(help="tvm. (tflite is refused: it lowers nothing yet.)")] = "tvm",
        seed: Annotated[int, typer.Option(help="Makes a run repeatable.")] = 0,
        repeat: Annotated[
            int,
            typer.Option(
                min=1,
                metavar="N",
                help="Run N seeds from --seed on; show mean and spread, write the best on the validate rows.",
            ),
        ] = 1,
        threads: Threads = 1,
        best_effort: Annotated[
            bool, typer.Option("--best-effort", help="Write the result even if a budget or the limit is missed.")
        ] = False,
        arch: Architecture = None,
        dimension: Dimensions = None,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        options = Options(
            sparsity=sparsity,
            pattern=pattern,
            dense=dense,
            precision=precision,
            max_drop=1.0 if max_drop is None else max_drop,
            max_drop_given=max_drop is not None,
            latency=latency,
            size=None if size is None else parse_bytes(size, where="--size"),
            ram=None if ram is None else parse_bytes(ram, where="--ram"),
            energy=energy,
            epochs=epochs,
            backend=backend,
            seed=seed,
            threads=threads,
            random_calibration=random_calibration,
            best_effort=best_effort,
            criterion=criterion,
            minutes=minutes,
            permute=permute,
        )
        options = replace(options, **_presets(profile, ctx, data is not None))
        check_supported(options)
        target = _target(target, board)
        check_output(output)
        check_data(data, random_calibration)
        source = model_file(model, arch, dimension)
        if output.exists() and Path(source).exists() and output.samefile(source):
            raise usage_error("option-conflict", "--output would overwrite the model", str(output), "name another")
        verb(RoadRequest(source, target, board, data, output, options, Console(as_json, quiet), repeat))

    command.__doc__ = verb.__doc__
    return command


def _target(name: str, board: str | None) -> str:
    """The target that was asked for, or the board's, or this machine.

    Raises EdgepruneError (usage): target-unknown, board-unknown; option-conflict where the board is another target.
    """
    wanted = None if board is None else check_board(board).target
    if name and wanted is not None and check_target(name).name != load_target(wanted).name:
        hint = "leave --target out: the board says it"
        raise usage_error("option-conflict", f"board {board} is a {wanted}, not a {name}", "--board", hint)
    chosen = name or wanted or "host"
    check_target(chosen)
    return chosen


def _presets(profile: str | None, ctx: typer.Context, has_data: bool) -> dict[str, Any]:
    """What the profile sets and the user did not."""
    presets = with_profile(profile, {}, has_data=has_data)
    sources = {name: ctx.get_parameter_source(name) for name in presets}
    given = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
    return {name: value for name, value in presets.items() if name not in given}


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
