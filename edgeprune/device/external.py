"""Programs of others: started without a shell, heard line by line, ended in time."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.device.failures import flasher_missing, readable, timed_out
from edgeprune.errors import EdgepruneError

_KEPT = 65536
_READ = 4096
_LINES = re.compile(r"[\r\n]+")
_VERSION = re.compile(r"(\d+)\.(\d+)")
_STEERING = re.compile(r"(ESPTOOL|STM32LOADER|OPENOCD|PYTHON(STARTUP|INSPECT|PATH|HOME))")


@dataclass(frozen=True)
class Outcome:
    """How a program ended: its exit code (negative: a signal) and what it printed, both streams together."""

    code: int
    text: str

    def lines(self) -> list[str]:
        """What it printed, without empty lines."""
        return [line.strip() for line in _LINES.split(self.text) if line.strip()]

    def last(self, *marks: str) -> str:
        """The last line with the first of `marks` that any line has, else the last line; short and printable."""
        lines = self.lines()
        for mark in marks:
            marked = [line for line in lines if mark in line.lower()]
            if marked:
                return readable(marked[-1])
        return readable(lines[-1] if lines else f"it ended with {self.code} and said nothing")


def find_program(name: str, hint: str) -> str:
    """The path of a program. Raises EdgepruneError (flasher-missing)."""
    found = shutil.which(name)
    if found is None:
        raise flasher_missing(name, hint)
    return os.path.abspath(found)


def require_version(program: str, least: tuple[int, int], hint: str, folder: Path, ask: str = "--version") -> None:
    """Ask the program for its version. Raises EdgepruneError (flasher-missing) where it is older than `least`."""
    name = Path(program).name
    outcome = run_program([program, ask], 10.0, folder, name)
    match = _VERSION.search(outcome.text)
    if match is None:
        raise flasher_missing(f"{name} (it does not say its version: {outcome.last()})", hint)
    if (int(match[1]), int(match[2])) < least:
        what = f"{name} {least[0]}.{least[1]} or later (this is {match[1]}.{match[2]})"
        raise flasher_missing(what, hint)


def run_program(
    argv: Sequence[str],
    seconds: float,
    folder: Path,
    where: str,
    heard: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run `argv` in `folder`; `heard` gets each line. Its children end with it.

    Raises EdgepruneError: flash-timeout after `seconds`; flasher-missing where it cannot be started.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        name = Path(argv[0]).name
        raise flasher_missing(f"{name} ({error.strerror or error})", f"see that {argv[0]} can be run") from error
    try:
        return _listen(process, time.monotonic() + seconds, heard)
    except TimeoutError as error:
        raise timed_out(where, Path(argv[0]).name, seconds) from error
    finally:
        _end(process)


def _listen(process: subprocess.Popen[bytes], end: float, heard: Callable[[str], None]) -> Outcome:
    assert process.stdout is not None
    kept, line = b"", b""
    with process.stdout as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError
            part = os.read(stream.fileno(), _READ)
            if not part:
                break
            kept = (kept + part)[-_KEPT:]
            *lines, line = re.split(rb"[\r\n]+", line + part)
            line = line[-_READ:]
            for whole in lines:
                heard(whole.decode("utf-8", "replace"))
    try:
        code = process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    return Outcome(code, kept.decode("utf-8", "replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever still runs of it, killed; the process collected."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    """The user's, without what changes how such programs work or talk."""
    kept = {name: value for name, value in os.environ.items() if not _STEERING.match(name)}
    return {**kept, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}


def refused(outcome: Outcome, rules: Sequence[tuple[str, Callable[[str], EdgepruneError]]]) -> EdgepruneError:
    """The error of the first rule whose expression is in what the program printed; the last rule is for the rest."""
    for expression, make in rules[:-1]:
        match = re.search(expression, outcome.text, re.IGNORECASE)
        if match:
            return make(match[1] if match.re.groups else outcome.last("error", "fail", "cannot", "unable"))
    return rules[-1][1](outcome.last("error", "fail", "cannot", "unable"))
