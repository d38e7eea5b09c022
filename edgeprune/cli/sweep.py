"""`edgeprune sweep`: many models, targets and budgets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from edgeprune.cli.arguments import (
    DataCard,
    Json,
    Quiet,
    RandomCalibration,
    check_data,
    check_file,
    complete_board,
    complete_target,
    usage_error,
)
from edgeprune.cli.console import Console, show_error
from edgeprune.cli.road_options import States
from edgeprune.cli.tables import sweep_table
from edgeprune.errors import EdgepruneError

if TYPE_CHECKING:
    from edgeprune.sweep.grid import Job, Sweep
    from edgeprune.sweep.runner import SweepResult

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_INTERRUPTED = 130


def sweep_verb(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Where results.jsonl and the packages go.", show_default=False
        ),
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="SWEEP.toml", help="What to sweep over; else the options below say it.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model; repeatable.")] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="A target; repeatable.", autocompletion=complete_target)
    ] = None,
    data: DataCard = None,
    random_calibration: RandomCalibration = False,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=A,B", help="Values of an option, such as sparsity=0.5,0.75; all are combined."),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=A,...", help="One set of budgets, such as latency=0.5,max_drop=2; repeatable."),
    ] = None,
    choice: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=A", help="An option of every job, such as epochs=4.")
    ] = None,
    state: States = None,
    board: Annotated[
        str | None,
        typer.Option(help="Where packages are measured; '' measures nothing.", autocompletion=complete_board),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT", help="A dask cluster that sees the same files. [default: this machine]"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Jobs side by side on this machine. [default: cores / threads]")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compile and measure models x targets x budgets, one result a job.

    Finished jobs are not done again, so the same command goes on where it was stopped. Packages are made side by side;
    each board measures one job at a time. On a cluster a board is the worker resource board:NAME. A job that fails is
    a row with its error; exit code 1 tells that there is one.

    \b
    Examples:
      edgeprune sweep sweep.toml -o results
      edgeprune sweep --model a.onnx --model b.onnx -d card.toml --vary sparsity=0.5,0.75 --vary pattern=1x1,1x16 -o out
      edgeprune sweep --model a.onnx -d card.toml --budget latency=0.5 --budget size=64k --set max_drop=2 -o out
      edgeprune sweep --model vad.onnx --state h=hn --state c=cn -d card.toml --vary sparsity=0.5,0.75 -o out
      edgeprune sweep sweep.toml -o /shared/results --scheduler tcp://head:8786
      dask worker tcp://head:8786 --nthreads 1 --resources board:local=1

    \b
    sweep.toml:
      models = ["a.onnx", { path = "b.onnx", data = "b.toml", states = ["h=hn"] }]
      targets = ["host", "x86-64-v3"]
      data = "card.toml"
      budgets = [{ latency = 0.5 }, { size = "64k" }]
      [vary]
      pattern = ["1x1", "1x16"]
      [options]
      epochs = 4
    """
    from edgeprune.sweep.runner import Crew

    check_data(data, random_calibration)
    given = {
        "models": model,
        "targets": target,
        "vary": vary,
        "budgets": budget,
        "options": choice,
        "board": board,
        "state": state,
    }
    console = Console(as_json, quiet)
    jobs = _jobs(file, {**given, "data": data, "random_calibration": random_calibration or None})
    result = _run(jobs, output, Crew(scheduler, workers), console)
    _finish(result, output, console)


def _run(jobs: tuple[Job, ...], output: Path, crew: Any, console: Console) -> SweepResult:
    from edgeprune.sweep.runner import run_sweep

    try:
        with console.work() as progress:
            return run_sweep(jobs, output, crew=crew, progress=progress)
    except KeyboardInterrupt:
        raise EdgepruneError(
            "interrupted",
            "interrupted; what is finished is kept",
            where=str(output),
            hint="the same command goes on from there",
            exit_code=_INTERRUPTED,
        ) from None


def _finish(result: SweepResult, output: Path, console: Console) -> None:
    from edgeprune.sweep.results import pareto_front

    front = pareto_front(result.rows)
    rows = [{**msgspec.to_builtins(row), "pareto": row.key in front} for row in result.rows]
    counts = {status: sum(row["status"] == status for row in rows) for status in ("done", "missed", "failed")}
    report = {"output": str(output), "jobs": len(rows), "earlier": result.earlier, **counts, "rows": rows}
    error = None
    if counts["failed"]:
        hint = "the same command does them again, and only them"
        what = f"{counts['failed']} of {len(rows)} jobs failed"
        error = EdgepruneError("jobs-failed", what, where=str(output), hint=hint)
        report["error"] = error.as_dict()
    console.result(report, sweep_table(report))
    if error is not None:
        if not console.as_json:
            show_error(error, as_json=False)
        raise typer.Exit(error.exit_code)


def _jobs(file: Path | None, given: dict[str, Any]) -> tuple[Job, ...]:
    from edgeprune.sweep.grid import expand, read_sweep

    named = [name for name, value in given.items() if value not in (None, [])]
    if file is not None:
        if named:
            what = f"the sweep is described by {file}, and by options ({', '.join(named)})"
            raise usage_error(
                "option-conflict", what, "edgeprune sweep", "put everything into the file, or leave it out"
            )
        check_file(file, where="SWEEP.toml")
        return expand(read_sweep(file), file.parent)
    if not given["models"]:
        hint = "name a file, or --model and what to --vary; `edgeprune sweep --help` shows both"
        raise usage_error("usage", "there is nothing to sweep over", "edgeprune sweep", hint)
    return expand(_described(given), Path())


def _described(given: dict[str, Any]) -> Sweep:
    from edgeprune.sweep.grid import Sweep

    found: dict[str, Any] = {name: given[name] for name in ("models", "targets", "board") if given[name] is not None}
    found["data"] = None if given["data"] is None else str(given["data"])
    found["vary"] = {name: [_value(part) for part in text.split(",")] for name, text in _pairs(given["vary"], "--vary")}
    found["options"] = {name: _value(text) for name, text in _pairs(given["options"], "--set")}
    if given["random_calibration"]:
        found["options"]["random_calibration"] = True
    if given["state"]:
        found["options"]["states"] = tuple(given["state"])
    if given["budgets"]:
        budgets = [_pairs(text.split(","), "--budget") for text in given["budgets"]]
        found["budgets"] = [{name: _value(text) for name, text in budget} for budget in budgets]
    return msgspec.convert(found, Sweep)


def _pairs(texts: list[str] | None, where: str) -> list[tuple[str, str]]:
    pairs = [tuple(part.strip() for part in text.partition("=")) for text in texts or []]
    for text, (name, equals, value) in zip(texts or [], pairs, strict=True):
        if not (name and equals and value):
            raise usage_error("usage", f"'{text}' gives no option a value", where, "write NAME=VALUE")
    return [(name.replace("-", "_"), value) for name, _, value in pairs]


def _value(text: str) -> Any:
    """A number, true or false as TOML writes them; anything else is text."""
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
    return value if isinstance(value, (bool, int, float, str)) else text.strip()
