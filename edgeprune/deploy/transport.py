"""What every way to a board can do, and what goes wrong on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeprune.board import Board
from edgeprune.errors import EdgepruneError


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code and what it wrote."""

    code: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def said(self) -> str:
        """The last line of standard error, else of standard output: short, printable, fit for an error."""
        lines = (self.stderr or self.stdout).decode("utf-8", "replace").strip().splitlines()
        return printable(lines[-1] if lines else "")


class Transport(Protocol):
    """A connection to one board. Every call ends within its time; every failure is an EdgepruneError.

    `launcher` is what a program that was put on the board is started by: empty on hardware, an emulator elsewhere.
    `kind` is what times measured there are called.
    """

    board: Board
    launcher: tuple[str, ...]
    kind: str

    def connect(self) -> None:
        """Reach the board; once more after the connection was lost."""

    def run(self, argv: Sequence[str], seconds: float, stdin: bytes = b"") -> Ran:
        """Run a command of the board, no shell between. Raises EdgepruneError: board-timeout, board-lost."""

    def upload(self, content: bytes, path: str, seconds: float) -> None:
        """Write a file. Raises EdgepruneError: board-upload-failed, board-timeout, board-lost."""

    def download(self, path: str, seconds: float) -> bytes:
        """Read a file. Raises EdgepruneError: board-download-failed, board-timeout, board-lost."""

    def close(self) -> None:
        """End the connection; nothing is raised."""


def printable(text: str, limit: int = 200) -> str:
    """What a board said, without control characters and cut to `limit`."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:limit]


def unreachable(board: Board, where: str, why: str, hint: str = "") -> EdgepruneError:
    """The board does not answer."""
    hint = hint or "check that it is switched on, in this network, and that the address is right"
    return EdgepruneError("board-unreachable", f"board {board.name} cannot be reached: {why}", where=where, hint=hint)


def lost(board: Board, where: str, why: str) -> EdgepruneError:
    """The connection broke while it was in use."""
    what = f"the connection to board {board.name} was lost: {why}"
    hint = "it was switched off, rebooted or left the network; what was left on it is removed at the next use"
    return EdgepruneError("board-lost", what, where=where, hint=hint)


def timed_out(board: Board, where: str, what: str, seconds: float) -> EdgepruneError:
    """Something took longer than it may."""
    hint = "the board is overloaded or hangs; command_seconds in its file gives it more time"
    text = f"board {board.name} did not finish within {seconds:.0f} s: {what}"
    return EdgepruneError("board-timeout", text, where=where, hint=hint)


def upload_failed(board: Board, path: str, why: str) -> EdgepruneError:
    """A file could not be written on the board."""
    if any(word in why.lower() for word in ("no space", "quota", "enospc")):
        hint = "free some space there, or name another place: folder in the board's file"
        return EdgepruneError("board-disk-full", f"the disk of board {board.name} is full", where=path, hint=hint)
    hint = "check that the folder can be written; folder in the board's file names another"
    what = f"a file cannot be written on board {board.name}: {printable(why)}"
    return EdgepruneError("board-upload-failed", what, where=path, hint=hint)


def download_failed(board: Board, path: str, why: str) -> EdgepruneError:
    """A file could not be read from the board."""
    what = f"a file cannot be read from board {board.name}: {printable(why)}"
    return EdgepruneError("board-download-failed", what, where=path, hint="run it again; the board removed the file")


def extra_missing(board: Board, extra: str, package: str) -> EdgepruneError:
    """The Python package that a transport needs is not installed."""
    what = f"board {board.name} is reached by {extra}, which needs the package {package}"
    return EdgepruneError("extra-missing", what, where="--board", hint=f"pip install 'edgeprune[{extra}]'")
