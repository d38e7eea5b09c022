"""Lines that a device under EEMBC's runner of MLPerf Tiny says, as values (mlcommons/tiny, benchmark/api)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from edgeprune.device.failures import readable
from edgeprune.errors import EdgepruneError

Kind = Literal[
    "ready", "init-done", "timestamp-mode", "lap", "name", "profile", "model", "expecting", "load-done", "buffer",
    "warmup-start", "warmup-done", "infer-start", "infer-done", "results", "error",
]  # fmt: skip

OWN_NAME = "edgeprune"
"""What this project's firmware answers when it is asked its name."""

Value = int | str | bytes | tuple[float, ...] | None


class Message(NamedTuple):
    """One line: its kind and what it says."""

    kind: Kind
    value: Value = None


def _reals(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _nothing(_: str) -> None:
    return None


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


_NUMBER = r"([0-9]{1,10})"
_REAL = r"-?(?:[0-9]{1,20}(?:\.[0-9]{1,9})?|inf|nan)"
_LINES: tuple[tuple[str, Kind, Callable[[str], Value]], ...] = (
    (r"m-ready()", "ready", _nothing),
    (r"m-init-done()", "init-done", _nothing),
    (r"m-timestamp-mode-(performance|energy)", "timestamp-mode", str),
    (rf"m-lap-us-{_NUMBER}", "lap", int),
    (r"m-name-(?:[^\[\]]{1,80}-)?\[(.{0,80})\]", "name", str),
    (r"m-profile-\[(.{0,80})\]", "profile", str),
    (r"m-model-\[(.{1,80})\]", "model", str),
    (rf"m-\[Expecting {_NUMBER} bytes\]", "expecting", int),
    (r"m-load-done()", "load-done", _nothing),
    (r"m-buffer-((?:[0-9a-f]{2}-){0,7}[0-9a-f]{2})", "buffer", _bytes),
    (rf"m-warmup-start-{_NUMBER}", "warmup-start", int),
    (r"m-warmup-done()", "warmup-done", _nothing),
    (rf"m-infer-start-{_NUMBER}", "infer-start", int),
    (r"m-infer-done()", "infer-done", _nothing),
    (rf"m-results-\[({_REAL}(?:,{_REAL})*)\]", "results", _reals),
    (r"e-\[(.*)\]", "error", str),
)
_PATTERNS = tuple((re.compile(pattern), kind, convert) for pattern, kind, convert in _LINES)


def parse_line(line: str, where: str) -> Message:
    """What `line`, without its end, says. Raises EdgepruneError (mlperf-line) where no device would say it."""
    for pattern, kind, convert in _PATTERNS:
        found = pattern.fullmatch(line)
        if found:
            return Message(kind, convert(found.group(1)))
    what = f"the board said {readable(line)!r}, which is no answer to a runner of MLPerf Tiny"
    hint = "see that nothing else uses the line and that its baud rate is the firmware's, then retry"
    raise EdgepruneError("mlperf-line", what, where=where, hint=hint)


def load_commands(data: bytes, name: str = "") -> list[str]:
    """The commands, without their ends, that bring `data` to the device called `name`.

    Firmware of others holds 80 letters of a command, this project's 512.
    """
    step = 240 if name == OWN_NAME else 32
    parts = [data[start : start + step].hex() for start in range(0, len(data), step)]
    return [f"db load {len(data)}", *(f"db {part}" for part in parts)]
