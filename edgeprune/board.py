"""Facts about a board, read from boards/NAME.toml."""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

from edgeprune.errors import EdgepruneError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One board: the target it is compiled for and the transport that reaches it ("local": this machine)."""

    name: str
    description: str
    target: str
    transport: str


def board_names() -> list[str]:
    """Every name that `load_board` takes."""
    entries = resources.files("edgeprune.boards").iterdir()
    return sorted(Path(entry.name).stem for entry in entries if entry.name.endswith(".toml"))


@cache
def _facts(name: str) -> Board:
    text = (resources.files("edgeprune.boards") / f"{name}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Board)


def load_board(name: str) -> Board:
    """The facts of board `name`.

    Raises EdgepruneError (board-unknown, usage) with the nearest names.
    """
    if name not in board_names():
        raise EdgepruneError(
            "board-unknown",
            f"there is no board '{name}'",
            where="--board",
            hint=nearest(name, board_names()),
            exit_code=2,
        )
    return _facts(name)
