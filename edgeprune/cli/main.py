"""The `edgeprune` command: the only place that catches errors and exits."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.errors import EdgepruneError

_USAGE = 2
_SIGNALLED = 128
"""A shell says of a command that a signal ended: 128 and the signal's number."""


def main() -> None:
    """Run the command line of this process and exit with its code."""
    received: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        """The first signal ends the work, the second lets clean-up go on, the third ends that too."""
        received.append(number)
        if len(received) != 2:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if not _debugging():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # training threads that spin stall a machine that is shared
    sys.exit(run_command(sys.argv[1:], received))


def run_command(arguments: Sequence[str], received: Sequence[int] = ()) -> int:
    """Run one command line and return its exit code; every failure becomes one error.

    `received` are the signals that came, as they come.
    """
    as_json = "--json" in arguments
    try:
        from edgeprune.cli.commands import run_app

        code = run_app(arguments or ["--help"])
        return code if arguments else _USAGE
    except KeyboardInterrupt:
        error = _interruption(arguments)
    except Exception as raised:
        _trace(raised)
        error = _failure(raised)
        if received and error.code != "interrupted":
            error = _interruption(arguments)
    _show(error, as_json)
    return _SIGNALLED + (received[0] if received else signal.SIGINT) if error.code == "interrupted" else error.exit_code


def _interruption(arguments: Sequence[str]) -> EdgepruneError:
    from edgeprune.errors import EdgepruneError

    writes = any(argument == "-o" or argument.startswith("--output") for argument in arguments)
    return EdgepruneError("interrupted", "interrupted, nothing was written" if writes else "interrupted")


def _failure(raised: Exception) -> EdgepruneError:
    from edgeprune.cli.failures import failure

    return failure(raised)


def _show(error: EdgepruneError, as_json: bool) -> None:
    from edgeprune.cli.console import show_error

    try:
        show_error(error, as_json=as_json)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        show_error(error, as_json=False)


def _debugging() -> bool:
    return os.environ.get("EDGEPRUNE_DEBUG", "") not in ("", "0")


def _trace(error: Exception) -> None:
    if _debugging():
        import traceback

        traceback.print_exception(error)
