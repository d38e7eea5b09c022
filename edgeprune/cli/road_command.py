"""`compile` and `prune` as commands: their shared options are read, checked and gathered into one request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from edgeprune.cli import road_options as given
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
    model_file,
    usage_error,
)
from edgeprune.cli.console import Console
from edgeprune.cli.road import RoadRequest
from edgeprune.options import Options, parse_bytes
from edgeprune.profile import with_profile
from edgeprune.road.budgets import check_supported
from edgeprune.target import load_target


def road_command(verb: Callable[[RoadRequest], None]) -> Callable[..., None]:
    """The command that reads the shared options, checks them and calls `verb`."""

    def command(
        ctx: typer.Context,
        model: ModelSource,
        output: given.Output,
        target: TargetName = "",
        board: given.ForBoard = None,
        data: DataCard = None,
        random_calibration: RandomCalibration = False,
        profile: given.Profile = None,
        sparsity: given.Sparsity = None,
        pattern: given.PatternText = None,
        criterion: given.Criterion = "auto",
        dense: given.Dense = False,
        precision: given.Precision = "auto",
        max_drop: given.MaxDrop = None,
        latency: given.Latency = None,
        size: given.Size = None,
        ram: given.Ram = None,
        energy: given.Energy = None,
        epochs: given.Epochs = None,
        minutes: given.Minutes = None,
        permute: given.Permute = True,
        state: given.States = None,
        backend: given.Backend = "tvm",
        seed: given.Seed = 0,
        repeat: given.Repeat = 1,
        threads: Threads = 1,
        best_effort: given.BestEffort = False,
        arch: Architecture = None,
        dimension: Dimensions = None,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        choices: dict[str, Any] = {"sparsity": sparsity, "pattern": pattern, "dense": dense, "precision": precision}
        choices |= {"criterion": criterion, "permute": permute, "epochs": epochs, "minutes": minutes}
        choices |= {"latency": latency, "energy": energy, "best_effort": best_effort, "backend": backend}
        choices |= {"seed": seed, "threads": threads, "random_calibration": random_calibration}
        choices |= {"states": tuple(state or ())}
        choices |= {"size": _bytes(size, "--size"), "ram": _bytes(ram, "--ram")}
        choices |= {} if max_drop is None else {"max_drop": max_drop, "max_drop_given": True}
        options = replace(Options(**choices), **_presets(profile, ctx, data is not None))
        wanted = _target(target, board)
        check_supported(options, load_target(wanted))
        check_output(output)
        check_data(data, random_calibration)
        source = model_file(model, arch, dimension)
        _refuse_overwriting(output, source)
        verb(RoadRequest(source, wanted, board, data, output, options, Console(as_json, quiet), repeat))

    command.__doc__ = verb.__doc__
    return command


def _bytes(text: str | None, where: str) -> int | None:
    return None if text is None else parse_bytes(text, where=where)


def _refuse_overwriting(output: Path, model: Any) -> None:
    """Raises EdgepruneError (option-conflict, usage) where the model is what would be written."""
    if output.exists() and Path(model).exists() and output.samefile(model):
        raise usage_error("option-conflict", "--output would overwrite the model", str(output), "name another")


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
