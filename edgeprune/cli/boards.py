"""`edgeprune boards`: what it can run on, and what is there now."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from edgeprune.board import Board, board_names
from edgeprune.chip import checked_board, load_chip
from edgeprune.cli.arguments import BoardArgument, Json, Quiet, check_board
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table, name_table
from edgeprune.errors import EdgepruneError
from edgeprune.quantity import bytes_text

_MEMORY = ("flash_bytes", "ram_bytes", "clock_mhz")


def boards_verb(
    name: BoardArgument = None,
    detect: Annotated[bool, typer.Option("--detect", help="Look which boards are there now.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the boards, or show the facts of one.

    Your own boards are files in ~/.config/edgeprune/boards, such as kitchen.toml with two lines:
    like = "raspberry-pi-4" and host = "192.168.1.7".

    \b
    Examples:
      edgeprune boards
      edgeprune boards --detect
      edgeprune boards raspberry-pi-4@192.168.1.7 --detect --json
    """
    console = Console(as_json, quiet)
    boards, broken = ([check_board(name)], []) if name is not None else _all_boards()
    facts = [_facts(board) for board in boards]
    devices: list[dict[str, str]] = []
    plugged: dict[str, Any] = {}
    if detect:
        with console.work():
            found, devices, plugged = _look(boards)
        facts = [known | seen for known, seen in zip(facts, found, strict=True)]
    if name is not None:
        console.result(facts[0], fact_table(f"Board {name}", _shown(facts[0])))
        return
    tables = [_table(facts, detect), *([_device_table(devices)] if devices else [])]
    tables += [_plugged_table(plugged["plugged_in"])] if plugged.get("plugged_in") else []
    for line in broken:
        console.note(line)
    console.result({"boards": facts, **({"adb_devices": devices} | plugged if detect else {})}, *tables)


def _facts(board: Board) -> dict[str, Any]:
    """The facts of a board; a microcontroller has those of its chip's memory."""
    facts: dict[str, Any] = msgspec.to_builtins(board)
    if not board.chip:
        return facts
    chip = load_chip(board.chip)
    memory = {"flash_bytes": chip.flash_bytes, "ram_bytes": chip.ram_bytes, "clock_mhz": chip.clock_mhz}
    return facts | memory | {"regions": msgspec.to_builtins(chip.regions)}


def _all_boards() -> tuple[list[Board], list[str]]:
    """Every board, and what is wrong with the files that are none."""
    boards, broken = [], []
    for name in board_names():
        try:
            boards.append(checked_board(name)[0])
        except EdgepruneError as error:
            broken.append(f"warning: board '{name}' is left out: {error.what} [{error.code}]")
    return boards, broken


def _look(boards: list[Board]) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    from edgeprune.road.detecting import adb_devices, detect, plugged_in

    seen, problems = plugged_in(boards)
    return detect(boards), adb_devices(), {"plugged_in": seen, "not_looked_for": problems}


def _plugged_table(seen: list[dict[str, Any]]) -> Any:
    rows = [(one["kind"], one["address"], one["description"], ", ".join(one["boards"])) for one in seen]
    return name_table(("plugged in", "address", "what it says", "could be"), rows)


def _table(facts: list[dict[str, Any]], detected: bool) -> Any:
    columns = ("board", "what it is", "target", "reached by", *(["there now", ""] if detected else ["flash + RAM"]))
    keys = ("name", "description", "target", "transport", *(["detected", "problem"] if detected else ["memory"]))
    rows = [{**board, "memory": _memory(board)} for board in facts]
    return name_table(columns, [tuple(_cell(row[key]) for key in keys) for row in rows])


def _memory(facts: dict[str, Any]) -> str:
    """Flash and working memory of a microcontroller."""
    if "flash_bytes" not in facts:
        return ""
    return f"{_round(facts['flash_bytes'])} + {_round(facts['ram_bytes'])}"


def _round(count: int) -> str:
    return bytes_text(count).replace(".00 MB", " MB").replace(".0 kB", " kB")


def _device_table(devices: list[dict[str, str]]) -> Any:
    return name_table(("adb device", "state"), [(device["serial"], device["state"]) for device in devices])


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts that say something."""
    machine = facts.get("machine") or {}
    told = {name: value for name, value in machine.items() if name in ("machine", "system", "model", "cores")}
    plain = {name: value for name, value in facts.items() if name not in ("machine", "regions", *_MEMORY)}
    plain["flashers"] = ", ".join(facts["flashers"])
    shown = {name: _cell(value) for name, value in (plain | told).items() if value not in ("", None, 0)}
    return shown | _memory_rows(facts)


def _memory_rows(facts: dict[str, Any]) -> dict[str, str]:
    """Flash, working memory and clock of a microcontroller, and where each piece of memory lies."""
    if "flash_bytes" not in facts:
        return {}
    rows = {"flash": _round(facts["flash_bytes"]), "working memory": _round(facts["ram_bytes"])}
    rows["clock"] = f"{facts['clock_mhz']:g} MHz"
    for region in facts["regions"]:
        rows[f"memory {region['name']}"] = f"{region['kind']}, {_round(region['bytes'])} at {region['start']:#010x}"
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
