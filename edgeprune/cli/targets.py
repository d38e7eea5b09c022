"""`edgeprune targets`: what it can compile for."""

from __future__ import annotations

import msgspec

from edgeprune.cli.arguments import Json, Quiet, TargetArgument, check_target
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table, name_table
from edgeprune.errors import EdgepruneError
from edgeprune.target import detect_host, load_target, target_names


def targets_verb(name: TargetArgument = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """List the targets, or show the facts of one.

    \b
    Examples:
      edgeprune targets
      edgeprune targets x86-64-v3
      edgeprune targets host
    """
    console = Console(as_json, quiet)
    if name is not None:
        facts = msgspec.to_builtins(check_target(name))
        console.result(facts, fact_table(f"Target {facts['name']}", facts))
        return
    host = _host_name()
    targets = [msgspec.to_builtins(load_target(known)) for known in target_names() if known != "host"]
    rows = [(facts["name"], facts["description"], " ".join(facts["patterns"])) for facts in targets]
    rows.append(("host", f"this machine: {host or 'no target describes it'}", ""))
    console.result({"targets": targets, "host": host}, name_table(("target", "what it is", "patterns"), rows))


def _host_name() -> str | None:
    try:
        return detect_host().name
    except EdgepruneError:
        return None
