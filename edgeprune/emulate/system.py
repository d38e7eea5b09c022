"""A whole 64-bit Arm system under qemu-system-aarch64: its kernel, its clock and its ssh server, on this machine.

One instruction takes one nanosecond of its clock (QEMU's -icount shift=0), so that times told there are counts.
A machine that has started is kept in the cache, before it learns who it is; the next one goes on from there.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.cache import Cache, content_key, open_cache
from edgeprune.emulate.system_image import Keys, SystemImage, introduction
from edgeprune.errors import EdgepruneError

PROGRAM = "qemu-system-aarch64"

_KIND = "system"
_WAITING, _PANIC = "edgeprune: waiting", "Kernel panic"
_FORWARDED = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")
_KERNEL_OPTIONS = "console=ttyAMA0 quiet mitigations=off kpti=off nokaslr init_on_alloc=0 lsm= audit=0"
"""Nothing here needs guarding from its own programs, and that takes half of the emulator's time."""

_POLL_SECONDS = 0.02
_LOOK_SECONDS = 0.2
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
        self._serial: socket.socket | None = None
        self._received = b""
        self._console = bytearray()
        self._introduction = b""
        self.port = 0

    def start(self, image: SystemImage, keys: Keys, seconds: float, cache: Cache | None = None) -> None:
        """Start it; afterwards its ssh server answers at 127.0.0.1, `port`.

        Raises EdgepruneError: emulator-missing where QEMU is not installed; emulator-failed where the system does not
        come up within `seconds`.
        """
        cache = open_cache() if cache is None else cache
        program = Path(require_program())
        facts = program.stat()
        key = content_key(image.key, str(program), f"{facts.st_size} {facts.st_mtime_ns}", *self._options(0, 0))
        (self._folder / "kernel").write_bytes(image.kernel)
        (self._folder / "archive").write_bytes(image.archive)
        end = time.monotonic() + seconds
        saved = cache.get(_KIND, key)
        if saved is None:
            self._launch(program)
            self._await(lambda: _WAITING in self.console, end, seconds)
            cache.put(_KIND, key, self._save(end, seconds))
        else:
            (self._folder / "saved").write_bytes(saved)
            self._launch(program, "-incoming", "exec:gzip -dc saved")
            self._await(lambda: self.tell("query-status")["status"] != "inmigrate", end, seconds)
            self.tell("cont")
        self._introduction = introduction(keys, self._shape.disk_kib, time.time())
        self._introduce(end, seconds)

    def restart(self, seconds: float) -> None:
        """Let it start anew, as after a loss of power: nothing in its memory is left. Raises as `start` does."""
        end = time.monotonic() + seconds
        heard = len(self.console)
        self.tell("system_reset")
        self._await(lambda: _WAITING in self.console[heard:], end, seconds)
        self._introduce(end, seconds)

    def tell(self, command: str, **arguments: Any) -> Any:
        """What QEMU's monitor answers to `command` (QMP). Raises EdgepruneError (emulator-failed)."""
        try:
            if self._monitor is None or self._keeper is None:
                raise EOFError("it does not run")
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
        return self._console.decode("utf-8", "replace")

    def stop(self) -> None:
        """Switch it off and remove its files; nothing is raised."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            assert keeper.stdin is not None
            keeper.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                keeper.wait(_ANSWER_SECONDS)
        for connection in (self._monitor, self._serial):
            if connection is not None:
                connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self, program: Path, *further: str) -> None:
        """Start QEMU and reach its monitor."""
        with ExitStack() as theirs:
            pairs = [socket.socketpair() for _ in range(2)]
            (self._monitor, monitor), (self._serial, serial) = pairs
            numbers = [theirs.enter_context(end).fileno() for end in (monitor, serial)]
            errors = theirs.enter_context((self._folder / "errors").open("wb"))
            command = [str(program), *self._options(*numbers), *further]
            self._keeper = subprocess.Popen(
                ["sh", "-c", _KEEPER, "sh", str(self._folder), *command],
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                pass_fds=numbers,
            )
        self._monitor.settimeout(_LOOK_SECONDS)
        threading.Thread(target=self._listen, args=(self._serial,), daemon=True).start()
        self.tell("qmp_capabilities")

    def _options(self, monitor: int, serial: int) -> Sequence[str]:
        shape = self._shape
        options = [
            ("-M", "virt"),
            ("-cpu", shape.processor),
            ("-m", f"{shape.memory_mib}M"),
            ("-display", "none"),
            ("-icount", "shift=0"),
            ("-kernel", "kernel"),
            ("-initrd", "archive"),
            ("-append", _KERNEL_OPTIONS),
            ("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
            ("-device", "virtio-net-device,netdev=net,id=card"),
            ("-chardev", f"socket,id=monitor,fd={monitor}"),
            ("-mon", "chardev=monitor,mode=control"),
            ("-chardev", f"socket,id=serial,fd={serial}"),
            ("-serial", "chardev:serial"),
        ]
        return ["-nodefaults", *(word for pair in options for word in pair)]

    def _listen(self, serial: socket.socket) -> None:
        with suppress(OSError):
            while part := serial.recv(1 << 16):
                self._console += part

    def _save(self, end: float, seconds: float) -> bytes:
        """The machine as it is now; it goes on afterwards."""
        self.tell("stop")
        self.tell("migrate", uri="exec:gzip -1 > saved")
        self._await(lambda: self.tell("query-migrate")["status"] in ("completed", "failed"), end, seconds)
        self.tell("cont")
        return (self._folder / "saved").read_bytes()

    def _introduce(self, end: float, seconds: float) -> None:
        """Tell the machine who it is, and wait for its ssh server's first word."""
        assert self._serial is not None
        self._serial.sendall(self._introduction)
        forwarded = _FORWARDED.search(self.tell("human-monitor-command", **{"command-line": "info usernet"}))
        if forwarded is None:
            raise self._failed("it has no network")
        self.port = int(forwarded.group(1))
        self._await(self._answers, end, seconds)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.settimeout(1.0)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _await(self, done: Callable[[], bool], end: float, seconds: float) -> None:
        assert self._keeper is not None
        while not done():
            if self._keeper.poll() is not None or _PANIC in self.console:
                raise self._failed(self._last_words() or "it ended")
            if time.monotonic() > end:
                raise self._failed(f"it did not start within {seconds:.0f} s: {self._last_words()}")
            time.sleep(_POLL_SECONDS)

    def _line(self) -> bytes:
        """One line of the monitor; EOFError where QEMU has ended, whose keeper still holds the other end."""
        assert self._monitor is not None and self._keeper is not None
        end = time.monotonic() + _ANSWER_SECONDS
        while b"\n" not in self._received:
            with suppress(TimeoutError):
                part = self._monitor.recv(1 << 16)
                if not part:
                    raise EOFError
                self._received += part
                continue
            if self._keeper.poll() is not None:
                raise EOFError
            if time.monotonic() > end:
                raise TimeoutError("its monitor does not answer")
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _last_words(self) -> str:
        """The last line of QEMU's errors, else of the console."""
        said = ""
        with suppress(OSError):
            said = (self._folder / "errors").read_text(errors="replace").strip()
        lines = (said or self.console.strip()).splitlines()
        return "".join(letter for letter in lines[-1] if letter.isprintable())[:200] if lines else ""

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
