"""`edgeprune boards`: what it can run on, and what is there now."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from edgeprune.board import Board, board_names, load_board
from edgeprune.cli.arguments import BoardArgument, Json, Quiet
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table, name_table
from edgeprune.errors import EdgepruneError
from edgeprune.target import load_target


def boards_verb(
    name: BoardArgument = None,
    detect: Annotated[bool, typer.Option("--detect", help="Look which boards are there now.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the boards, or show the facts of one.

    \b
    Examples:
      edgeprune boards
      edgeprune boards --detect
      edgeprune boards local --json
    """
    console = Console(as_json, quiet)
    boards = [_facts(load_board(known), detect) for known in ([name] if name is not None else board_names())]
    if name is not None:
        console.result(boards[0], fact_table(f"Board {name}", boards[0]))
        return
    columns = ("board", "what it is", "target", "reached by", *(["there now"] if detect else []))
    keys = ("name", "description", "target", "transport", *(["detected"] if detect else []))
    rows = [tuple(_cell(board[key]) for key in keys) for board in boards]
    console.result({"boards": boards}, name_table(columns, rows))


def _facts(board: Board, detect: bool) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(board)
    if detect:
        facts["detected"], facts["detected_target"] = _detect(board)
    return facts


def _detect(board: Board) -> tuple[bool, str | None]:
    if board.transport != "local":
        return False, None
    try:
        return True, load_target(board.target).name
    except EdgepruneError:
        return False, None


def _cell(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
