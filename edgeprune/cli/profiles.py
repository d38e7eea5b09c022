"""`edgeprune profiles`: presets of the fields where networks are used."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from edgeprune.cli.arguments import Json, Quiet
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table, name_table
from edgeprune.profile import load_profile, profile_names


def complete_profile(incomplete: str) -> list[str]:
    """The profiles that the shell offers."""
    return [name for name in profile_names() if name.startswith(incomplete)]


def profiles_verb(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one.", autocompletion=complete_profile)
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the profiles that --profile takes, or show what one presets.

    \b
    Examples:
      edgeprune profiles
      edgeprune profiles wearable
      edgeprune compile model.onnx --data card.toml --profile wearable -o model.edge
    """
    console = Console(as_json, quiet)
    if name is not None:
        facts = msgspec.to_builtins(load_profile(name))
        known = {key: value for key, value in facts.items() if value is not None}
        console.result(facts, fact_table(f"Profile {name}", known))
        return
    profiles = [msgspec.to_builtins(load_profile(known)) for known in profile_names()]
    rows = [(facts["name"], facts["description"], facts["objective"], f"{facts['max_drop']:g}") for facts in profiles]
    columns = ("profile", "for", "makes best", "points it may cost")
    console.result({"profiles": profiles}, name_table(columns, rows))
