"""This machine as a board: commands in processes of their own, files copied beside the user's other caches."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgeprune.board import Board
from edgeprune.deploy.transport import Ran, download_failed, timed_out, upload_failed


class LocalTransport:
    """Runs commands on this machine, in `home`; `launcher` starts what was put there (an emulator, or nothing)."""

    def __init__(
        self, board: Board, *, home: Path | None = None, launcher: tuple[str, ...] = (), kind: str = "measured"
    ) -> None:
        self.board = board
        self.launcher = launcher
        self.kind = kind
        self._home = home or Path.home()

    def connect(self) -> None:
        """Nothing to do: this machine is here."""

    def run(self, argv: Sequence[str], seconds: float, stdin: bytes = b"") -> Ran:
        """Run `argv` in a process group of its own, which ends with the call whatever happens.

        Raises EdgepruneError (board-timeout).
        """
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=self._home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            return Ran(code, b"", f"{argv[0]}: {error.strerror}".encode())
        try:
            stdout, stderr = process.communicate(stdin, timeout=seconds)
            return Ran(_exit_code(process.returncode), stdout, stderr)
        except subprocess.TimeoutExpired as error:
            raise timed_out(self.board, "this machine", argv[0], seconds) from error
        finally:
            _end(process)

    def upload(self, content: bytes, path: str, seconds: float) -> None:
        """Write a file. Raises EdgepruneError (board-disk-full, board-upload-failed)."""
        try:
            (self._home / path).write_bytes(content)
        except OSError as error:
            raise upload_failed(self.board, path, error.strerror or str(error)) from error

    def download(self, path: str, seconds: float) -> bytes:
        """Read a file. Raises EdgepruneError (board-download-failed)."""
        try:
            return (self._home / path).read_bytes()
        except OSError as error:
            raise download_failed(self.board, path, error.strerror or str(error)) from error

    def close(self) -> None:
        """Nothing to do."""


def _exit_code(code: int) -> int:
    """As a shell counts: 128 and more where a signal ended it."""
    return 128 - code if code < 0 else code


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
