"""A microcontroller board under qemu-system-arm: firmware runs there, a plugin counts its instructions."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from edgeprune.cache import Cache
from edgeprune.chip import Chip
from edgeprune.deploy.gdb_stub import GdbStub
from edgeprune.elf import read_elf
from edgeprune.emulate.counter import build_counter, read_regions
from edgeprune.errors import EdgepruneError

_PROGRAM = "qemu-system-arm"
_START_SECONDS = 20.0
_END_SECONDS = 10.0


class QemuBoard:
    """QEMU's machine of `chip` with the firmware `elf`; a `Memory` that also counts instructions.

    It starts with the first request, and again after the counts were taken, which ends it. `close` ends it for good.
    """

    def __init__(self, elf: bytes, chip: Chip, cache: Cache | None = None) -> None:
        """Raises EdgepruneError: emulator-missing, emulator-unsupported, elf-invalid, link-failed."""
        if not chip.machine:
            hint = "its file names the machine: machine = ..."
            raise EdgepruneError(
                "emulator-unsupported", f"QEMU has no chip {chip.name}", where=f"chip {chip.name}", hint=hint
            )
        program = shutil.which(_PROGRAM)
        if program is None:
            hint = "apt-get install qemu-system-arm; boards on unicorn, such as emulated-m4, need no QEMU"
            raise EdgepruneError("emulator-missing", f"{_PROGRAM} is not installed", where="--board", hint=hint)
        self._program, self._machine = program, chip.machine
        self._idle = read_elf(elf).symbol("edge_idle")
        self._folder = Path(tempfile.mkdtemp(prefix="edgeprune-qemu-"))
        (self._folder / "count.so").write_bytes(build_counter(cache))
        (self._folder / "firmware.elf").write_bytes(elf)
        self._process: subprocess.Popen[bytes] | None = None
        self._stub: GdbStub | None = None

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes. Raises EdgepruneError (emulator-failed)."""
        return self._started().read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`. Raises EdgepruneError (emulator-failed)."""
        self._started().write(address, data)

    def wait(self, seconds: float) -> None:
        """Go on until the firmware waits for the next request, for at most `seconds`."""
        self._started().go(seconds)

    def take_regions(self) -> list[int]:
        """Instructions of each marked region, in order, since it started; nothing where it did not.

        Raises EdgepruneError (emulator-failed).
        """
        if self._process is None:
            return []
        self._end()
        return read_regions(self._folder / "counts.txt")

    def close(self) -> None:
        """End QEMU and remove its files."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self) -> GdbStub:
        if self._stub is None:
            (self._folder / "counts.txt").unlink(missing_ok=True)
            self._process = self._launched()
            self._stub = GdbStub(self._connected(self._process))
            self._stub.stop_at(self._idle)
            self._stub.go(_START_SECONDS)
        return self._stub

    def _launched(self) -> subprocess.Popen[bytes]:
        line = f"socket,path={self._folder / 'gdb'},server=on,wait=off,id=gdb"
        plugin = f"{self._folder / 'count.so'},out={self._folder / 'counts.txt'},marks=thumb"
        command = [self._program, "-M", self._machine, "-display", "none", "-monitor", "none", "-serial", "none"]
        command += ["-chardev", line, "-gdb", "chardev:gdb", "-S", "-plugin", plugin]
        command += ["-kernel", str(self._folder / "firmware.elf")]
        with (self._folder / "said.txt").open("wb") as said:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def _connected(self, process: subprocess.Popen[bytes]) -> socket.socket:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self._folder / "gdb"))
                return connection
            except OSError:
                connection.close()
                time.sleep(0.02)
        said = (self._folder / "said.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        self._end()
        what = f"QEMU did not start the machine {self._machine}: {' '.join(said[-2:]) or 'it said nothing'}"
        raise EdgepruneError("emulator-failed", what, where="--board", hint="QEMU 7.2 or newer has it, with plugins")

    def _end(self) -> None:
        """Have QEMU end, so that its plugin writes what it counted."""
        process, self._process, self._stub = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
