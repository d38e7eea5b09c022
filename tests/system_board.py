"""An emulated system as a board, and what tests do to it behind the back of the code that they test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeprune.board import Board, load_board
from edgeprune.deploy.emulated_system import start_system
from edgeprune.deploy.transport_ssh import SshTransport
from edgeprune.emulate.system import PROGRAM, Shape
from edgeprune.emulate.system_packages import system_folder, system_packages
from edgeprune.runner.build import build_runner
from edgeprune.target import load_target

_absent = [package.file for package in system_packages() if not (system_folder() / package.file).is_file()]
needs_system = pytest.mark.skipif(
    shutil.which(PROGRAM) is None or bool(_absent),
    reason=f"{PROGRAM} is not installed, or {', '.join(_absent) or 'nothing'} not in {system_folder()}",
)

CACHE = "/root/.cache/edgeprune/board"
_LEFT = f"""
cd /root
find . -type f ! -path "./.ssh/*" | grep -v "^./.cache/edgeprune/board/cache/[0-9a-f]*$"
ls {CACHE}/runs
"""
_FREE = "free=$(df -Pk /root | awk 'END { print $4 }')"
_DROP = """
while ! cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' '\\n' | grep -qFf /tmp/word; do usleep 20000; done
usleep 20000
for p in $(pidof dropbear); do grep -q "^PPid:.1$" /proc/$p/status || kill -9 $p; done
"""
_LIBRARY = """
#define edge_init tiny_init
#include "tiny_model.c"
#undef edge_init
int edge_init(edge_context **context, void *memory, size_t size, int threads) {
    return tiny_init(context, memory && size ? NULL : memory, 0, threads);
}
"""


class SystemBoard:
    """A machine that was started for tests; `shell` is a connection of theirs."""

    def __init__(self, folder: Path, disk_kib: int = 8192) -> None:
        self.system, self._board = start_system(load_board("emulated-arm64-system"), Shape(disk_kib=disk_kib))
        self.files = {"edge-run": build_runner(load_target("aarch64-generic")), "model.so": _tiny_library(folder)}
        self._shell: SshTransport | None = None

    def board(self, **changes: Any) -> Board:
        facts = {"command_seconds": 30.0, "connect_seconds": 30.0, "wait_seconds": 0.0}
        return msgspec.structs.replace(self._board, **{**facts, **changes})

    def shell(self, script: str, *arguments: str) -> str:
        """What `script` prints on the board, by a connection that only tests use."""
        ran = self._opened().run(["sh", "-c", script, "sh", *arguments], 20.0)
        return ran.text.strip()

    def _opened(self) -> SshTransport:
        if self._shell is None:
            self._shell = SshTransport(self.board())
            self._shell.connect()
        return self._shell

    def left(self) -> list[str]:
        self.shell("rm -f /root/filled")
        return self.shell(_LEFT).split()

    def cached_count(self) -> int:
        return int(self.shell(f"ls {CACHE}/cache | wc -l"))

    def damage_largest(self) -> None:
        self.shell(f'cd {CACHE}/cache && echo damaged > "$(ls -S | head -n 1)"')

    def fill_disk(self, spare_kib: int = 64) -> None:
        self.shell(f"{_FREE}; dd if=/dev/zero of=/root/filled bs=4k count=$(((free - $1) / 4))", str(spare_kib))

    def drop_on(self, word: str) -> None:
        """Kill every connection, this one too, a moment after a command with `word` starts."""
        shell = self._opened()
        shell.upload(word.encode(), "/tmp/word", 20.0)
        shell.upload(_DROP.encode(), "/tmp/drop", 20.0)
        self.shell("(sh /tmp/drop > /dev/null 2>&1 < /dev/null &)")
        self.hang_up()

    def running(self) -> bool:
        return f"{CACHE}/runs" in self.shell("cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' '")

    def empty(self) -> None:
        """As it was at the start."""
        self.shell("rm -rf /root/.cache")

    def hang_up(self) -> None:
        """End the tests' own connection; `shell` opens another."""
        if self._shell is not None:
            self._shell.close()
        self._shell = None

    def close(self) -> None:
        self.hang_up()
        self.system.stop()


def _tiny_library(folder: Path) -> bytes:
    """tiny_model.c for the system; it leaves the memory that edge-run offers."""
    source = folder / "tiny_system.c"
    source.write_text(_LIBRARY, encoding="ascii")
    here = Path(__file__).parent
    flags = ["-target", "aarch64-linux-gnu.2.28", "-shared", "-fPIC", "-O1", f"-I{here}"]
    out = folder / "model.so"
    command = [sys.executable, "-m", "ziglang", "cc", *flags, "-o", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return out.read_bytes()
