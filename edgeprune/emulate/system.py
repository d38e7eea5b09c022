"""A whole 64-bit Arm system under qemu-system-aarch64: its kernel, its clock and its ssh server, on this machine.

One instruction takes one nanosecond of its clock (QEMU's -icount shift=0), so that times told there are counts.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.emulate.system_image import Keys, SystemImage, own_archive
from edgeprune.errors import EdgepruneError

PROGRAM = "qemu-system-aarch64"

_READY, _PANIC = "edgeprune: ready", "Kernel panic"
_FORWARDED = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")
_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 20.0

_KEEPER = r"""
folder=$1
shift
exec 3<&0
"$@" < /dev/null &
system=$!
{ read -r _ <&3; kill -9 "$system"; rm -rf "$folder"; } 2> /dev/null &
exec 3<&-
wait "$system"
"""
"""Runs the emulator until this process closes the keeper's input or is no more; then its files go too."""


@dataclass(frozen=True)
class Shape:
    """What a machine has: `processor` as QEMU calls it, memory in MiB, a disk (in memory) in KiB."""

    processor: str = "cortex-a53"
    memory_mib: int = 256
    disk_kib: int = 64 * 1024


class System:
    """A machine that runs until `stop`; its files are in `folder`, which goes with it."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._folder = folder
        self._shape = shape
        self._keeper: subprocess.Popen[bytes] | None = None
        self._monitor: socket.socket | None = None
        self._received = b""
        self.port = 0

    def start(self, image: SystemImage, keys: Keys, seconds: float) -> None:
        """Start it; afterwards its ssh server answers at 127.0.0.1, `port`.

        Raises EdgepruneError: emulator-missing where QEMU is not installed; emulator-failed where the system does not
        come up within `seconds`.
        """
        program = require_program()
        (self._folder / "kernel").write_bytes(image.kernel)
        (self._folder / "archive").write_bytes(image.archive + own_archive(keys, self._shape.disk_kib))
        ours, theirs = socket.socketpair()
        with theirs:
            command = ["sh", "-c", _KEEPER, "sh", str(self._folder), program, *self._options(theirs.fileno())]
            self._keeper = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=(self._folder / "errors").open("wb"),
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        self._monitor = ours
        self._await(time.monotonic() + seconds, seconds)

    def tell(self, command: str, **arguments: Any) -> Any:
        """What QEMU's monitor answers to `command` (QMP). Raises EdgepruneError (emulator-failed)."""
        if self._monitor is None:
            raise self._failed("it does not run")
        try:
            self._monitor.settimeout(_ANSWER_SECONDS)
            self._monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
            while True:
                told = json.loads(self._line())
                if "return" in told:
                    return told["return"]
                if "error" in told:
                    raise self._failed(str(told["error"].get("desc")))
        except (OSError, EOFError, json.JSONDecodeError) as error:
            raise self._failed(self._last_words() or str(error)) from error

    @property
    def console(self) -> str:
        """What the system has written so far."""
        try:
            return (self._folder / "console").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def stop(self) -> None:
        """Switch it off and remove its files; nothing is raised."""
        keeper, self._keeper = self._keeper, None
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.close()
        if keeper is not None:
            assert keeper.stdin is not None
            keeper.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                keeper.wait(_ANSWER_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _options(self, monitor: int) -> Sequence[str]:
        shape = self._shape
        options = {
            "-M": "virt",
            "-cpu": shape.processor,
            "-m": f"{shape.memory_mib}M",
            "-display": "none",
            "-icount": "shift=0",
            "-kernel": "kernel",
            "-initrd": "archive",
            "-append": "console=ttyAMA0 quiet",
            "-netdev": "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
            "-device": "virtio-net-device,netdev=net",
            "-chardev": f"socket,id=monitor,fd={monitor}",
            "-mon": "chardev=monitor,mode=control",
            "-serial": "file:console",
        }
        return ["-nodefaults", *(word for pair in options.items() for word in pair)]

    def _await(self, end: float, seconds: float) -> None:
        """Wait for the system to say that it is ready, then for its ssh server's first word."""
        json.loads(self._line())
        self.tell("qmp_capabilities")
        while _READY not in self.console:
            self._check(end, seconds)
            time.sleep(_POLL_SECONDS)
        forwarded = _FORWARDED.search(self.tell("human-monitor-command", **{"command-line": "info usernet"}))
        if forwarded is None:
            raise self._failed("it has no network")
        self.port = int(forwarded.group(1))
        while not self._answers():
            self._check(end, seconds)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.settimeout(1.0)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _check(self, end: float, seconds: float) -> None:
        assert self._keeper is not None
        if self._keeper.poll() is not None or _PANIC in self.console:
            raise self._failed(self._last_words() or "it ended")
        if time.monotonic() > end:
            raise self._failed(f"it did not start within {seconds:.0f} s: {self._last_words()}")

    def _line(self) -> bytes:
        """One line of the monitor."""
        assert self._monitor is not None
        while b"\n" not in self._received:
            part = self._monitor.recv(1 << 16)
            if not part:
                raise EOFError
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _last_words(self) -> str:
        """The last line of QEMU's errors, else of the console."""
        with suppress(OSError):
            lines = (self._folder / "errors").read_text(errors="replace").strip().splitlines()
            lines = lines or self.console.strip().splitlines()
            return "".join(letter for letter in lines[-1] if letter.isprintable())[:200] if lines else ""
        return ""

    def _failed(self, why: str) -> EdgepruneError:
        hint = "QEMU 7.2 and later can; a busy machine needs more time: command_seconds in the board's file"
        return EdgepruneError("emulator-failed", f"the emulated system failed: {why}", where="--board", hint=hint)


def require_program() -> str:
    """Where QEMU is. Raises EdgepruneError (emulator-missing)."""
    program = shutil.which(PROGRAM)
    if program is None:
        what, hint = f"{PROGRAM} is not installed", "apt-get install qemu-system-arm"
        raise EdgepruneError("emulator-missing", what, where="--board", hint=hint)
    return program
