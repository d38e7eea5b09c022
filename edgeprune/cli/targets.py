"""`edgeprune targets`: what it can compile for."""

from __future__ import annotations

from typing import Any

import msgspec

from edgeprune.board import board_names, load_board
from edgeprune.cli.arguments import Json, Quiet, TargetArgument, check_target
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table, name_table
from edgeprune.errors import EdgepruneError
from edgeprune.target import Target, detect_host, host_cpu_flags, load_target, target_names

_EMULATED = ("emulated", "system", "unicorn", "qemu")


def targets_verb(name: TargetArgument = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """List the targets, or show the facts of one.

    `time` says how time is known without the device at hand: measured (this machine runs it), emulated (a board that
    is emulated here counts instructions), predicted (from such counts, else from the kernels' cycle models). A board
    at hand is measured. `int8 product` is the instruction that integer kernels multiply with.

    \b
    Examples:
      edgeprune targets
      edgeprune targets x86-64-v3
      edgeprune targets host
    """
    console = Console(as_json, quiet)
    emulated = _emulated_targets()
    if name is not None:
        facts = _facts(check_target(name), emulated)
        console.result(facts, fact_table(f"Target {facts['name']}", _shown(facts)))
        return
    host = _host_name()
    targets = [_facts(load_target(known), emulated) for known in target_names() if known != "host"]
    rows = [
        (
            facts["name"],
            facts["description"],
            " ".join(facts["patterns"]),
            " ".join(facts["patterns_int8"] or facts["patterns"]),
            facts["dot"],
            " ".join(facts["time"]),
        )
        for facts in targets
    ]
    rows.append(("host", f"this machine: {host or 'no target describes it'}", *("",) * 4))
    columns = ("target", "what it is", "patterns fp32", "patterns int8", "int8 product", "time")
    console.result({"targets": targets, "host": host}, name_table(columns, rows))


def _facts(target: Target, emulated: set[str]) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(target)
    return facts | {"time": _time_known(target, emulated)}


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts that say something, groups of them on one line."""
    said = {name: value for name, value in facts.items() if value not in (None, "", (), [])}
    return {
        name: ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
        for name, value in said.items()
    }


def _time_known(target: Target, emulated: set[str]) -> list[str]:
    """How time is known where the device is not at hand."""
    if not target.bare and host_cpu_flags().issuperset(target.cpu_flags):
        return ["measured"]
    return [*(["emulated"] if target.name in emulated else []), "predicted"]


def _emulated_targets() -> set[str]:
    """The targets of boards that are emulated here; broken files are left out."""
    found = set()
    for name in board_names():
        try:
            board = load_board(name)
        except EdgepruneError:
            continue
        if board.transport in _EMULATED:
            found.add(board.target)
    return found


def _host_name() -> str | None:
    try:
        return detect_host().name
    except EdgepruneError:
        return None
