from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from system_board import needs_system

from edgeprune.cache import Cache
from edgeprune.emulate.system import Shape, System, require_program
from edgeprune.emulate.system_image import Keys, SystemImage, introduction, read_image
from edgeprune.emulate.system_packages import system_folder
from edgeprune.errors import EdgepruneError

KEYS = Keys(bytes(32), bytes(range(32)), b"ssh-ed25519 AAAA")


def test_a_missing_emulator_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(EdgepruneError) as caught:
        require_program()
    assert (caught.value.code, caught.value.hint) == ("emulator-missing", "apt-get install qemu-system-arm")
    assert caught.value.what == "qemu-system-aarch64 is not installed"


def test_what_a_machine_is_told() -> None:
    """The host key is dropbear's: a string with the type, a string with both halves."""
    now, disk, host_key, *authorized = introduction(KEYS, 4096, 12.7).decode().split()
    assert (now, disk, authorized) == ("12", "4096", ["ssh-ed25519", "AAAA"])
    inside = base64.b64decode(host_key)
    assert inside[:15] == b"\0\0\0\x0bssh-ed25519"
    assert inside[15:] == b"\0\0\0\x40" + KEYS.host_private + KEYS.host_public


@needs_system
def test_a_kernel_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    system = System(folder, Shape())
    start = time.monotonic()
    with pytest.raises(EdgepruneError) as caught:
        system.start(SystemImage(bytes(4096), b"", "none"), KEYS, 1.0, Cache())
    system.stop()
    assert time.monotonic() - start < 30
    assert (caught.value.code, folder.exists()) == ("emulator-failed", False)
    assert caught.value.what == "the emulated system failed: it did not start within 1 s: "
    assert "command_seconds" in caught.value.hint


@needs_system
def test_an_emulator_that_ends_says_why(tmp_path: Path) -> None:
    system = System(tmp_path, Shape("cortex-m4"))
    with pytest.raises(EdgepruneError) as caught:
        system.start(SystemImage(bytes(4096), b"", "none"), KEYS, 20.0, Cache())
    system.stop()
    assert caught.value.code == "emulator-failed"
    assert "cortex-m4" in caught.value.what
    with pytest.raises(EdgepruneError, match="the emulated system failed: "):
        system.tell("query-status")


ABANDONED = """
import sys, time
from pathlib import Path
from edgeprune.cache import Cache
from edgeprune.emulate.system import Shape, System
from edgeprune.emulate.system_image import Keys, SystemImage
system = System(Path(sys.argv[1]), Shape())
system.start(SystemImage(bytes(4096), b"", "none"), Keys(b"", b"", b""), 60.0, Cache())
"""


@needs_system
def test_nothing_runs_on_when_its_user_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    user = subprocess.Popen([sys.executable, "-c", ABANDONED, str(folder)])
    wait(lambda: emulators(folder))
    user.send_signal(signal.SIGKILL)
    user.wait()
    wait(lambda: not emulators(folder) and not folder.exists())


def emulators(folder: Path) -> list[str]:
    """The processes that work in `folder`."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(place).startswith(str(folder)):
                found.append(place.parent.name)
        except OSError:
            continue
    return found


def wait(done: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@needs_system
def test_the_image_comes_from_the_cache(tmp_path: Path) -> None:
    image = read_image(system_folder())
    assert image.kernel[56:60] == b"ARMd"
    assert image.archive.startswith(b"070701")
    assert read_image(tmp_path / "nowhere") == image
