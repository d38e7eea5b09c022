"""Every exception that can reach the command line, as the one error it is shown as."""

from __future__ import annotations

import errno
import tempfile
from typing import Any

import typer

from edgeprune.errors import EdgepruneError, nearest

_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]


def is_usage(error: Exception) -> bool:
    """Whether the command line itself was not understood."""
    return isinstance(error, _CLICK_ERROR)


def usage_failure(error: Any) -> EdgepruneError:
    """A command line that was not understood, in our own style."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "edgeprune"
    hint = f"`{command} --help` shows what it takes"
    what = error.format_message()
    if possible := getattr(error, "possibilities", None):
        what = error.message
        hint = "did you mean " + " or ".join(sorted(possible)) + "?"
    return EdgepruneError("usage", what.split("\n")[0], where=command, hint=hint, exit_code=2)


def unknown_verb(name: str, verbs: list[str]) -> EdgepruneError:
    """A verb that does not exist."""
    what = f"there is no verb '{name}'"
    return EdgepruneError("verb-unknown", what, where="edgeprune", hint=nearest(name, verbs), exit_code=2)


def failure(error: Exception) -> EdgepruneError:
    """What any other exception means for the user."""
    if isinstance(error, EdgepruneError):
        return error
    if is_usage(error):
        return usage_failure(error)
    if isinstance(error, OSError) and error.errno is not None:
        return _system_failure(error)
    if isinstance(error, MemoryError):
        return EdgepruneError(
            "memory-exhausted",
            "there is not enough memory",
            where="this machine",
            hint="close other programs, or use less data",
        )
    what = f"internal error: {type(error).__name__}: {error}".split("\n")[0]
    return EdgepruneError("internal", what, hint="run again with EDGEPRUNE_DEBUG=1 to see where, and report it")


def _system_failure(error: OSError) -> EdgepruneError:
    where = str(error.filename or f"standard output or temporary files in {tempfile.gettempdir()}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, or write elsewhere (TMPDIR names the folder for temporary files)"
        return EdgepruneError("disk-full", "the disk is full", where=where, hint=hint)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EdgepruneError("path-denied", "access is denied", where=where, hint="check the rights of this path")
    if error.errno == errno.ENOENT:
        return EdgepruneError("file-missing", "there is no such file", where=where, hint="check the path")
    return EdgepruneError("io-failed", str(error.strerror or error), where=where, hint="check the path and the disk")
