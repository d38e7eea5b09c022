"""What the command line writes: results on standard output, errors, notes and progress on standard error."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import msgspec

from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent


@dataclass(frozen=True)
class Console:
    """How one command speaks: `as_json` for scripts; `quiet` leaves out progress and notes."""

    as_json: bool = False
    quiet: bool = False

    def result(self, value: Any, *tables: Any) -> None:
        """Write the result: `value` as one JSON object, or the rich `tables` for people."""
        if self.as_json:
            sys.stdout.write(_json(value) + "\n")
            sys.stdout.flush()
            return
        from rich.console import Console as RichConsole

        console = RichConsole(width=None if sys.stdout.isatty() else 120, highlight=False)
        for table in tables:
            console.print(table)

    def note(self, text: str) -> None:
        """Tell a person something on standard error, unless quiet."""
        if not self.quiet:
            sys.stderr.write(text + "\n")

    @contextmanager
    def work(self) -> Iterator[Progress]:
        """A Progress that draws bars on a terminal; meanwhile nothing can write to standard output."""
        with redirect_stdout(sys.stderr), _compiled_code_unheard():
            if self.quiet or not sys.stderr.isatty():
                yield silent
            else:
                with _bars() as progress:
                    yield progress


@contextmanager
def _compiled_code_unheard() -> Iterator[None]:
    """What libraries print below Python on standard output is for nobody, their buffers included."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def show_error(error: EdgepruneError, *, as_json: bool) -> None:
    """Write an error in the one style there is."""
    if as_json:
        sys.stdout.write(_json({"error": error.as_dict()}) + "\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(f"error: {error}\n")


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=_plain).decode()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    tasks: dict[str, Any] = {}
    with RichProgress(*columns, console=RichConsole(stderr=True)) as bars:

        def progress(label: str, done: int, total: int, note: str = "") -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total or None, note=note)
            bars.update(tasks[label], completed=done, total=total or None, note=note)

        yield progress
