"""What counts instructions, built for this machine: QEMU's plugin and its figures, and what unicorn calls."""

from __future__ import annotations

import platform
import tempfile
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from edgeprune.cache import Cache, content_key, open_cache
from edgeprune.errors import EdgepruneError
from edgeprune.toolchain import run_zig

_KIND = "emulator"
_FLAGS = ("-O2", "-std=gnu11", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-sanitize=all", "-s", "-g0")
_SOURCES = ("count.c", "qemu_plugin.h")
_BLOCK_SOURCES = ("count_blocks.c",)


def build_counter(cache: Cache | None = None) -> bytes:
    """The plugin as a shared library of this machine, from `cache` where it was built before.

    Raises EdgepruneError (link-failed).
    """
    return _kept(_SOURCES, cache)


def build_block_counter(cache: Cache | None = None) -> bytes:
    """The function that counts blocks of unicorn's, as a shared library of this machine. Raises as `build_counter`."""
    return _kept(_BLOCK_SOURCES, cache)


def _kept(sources: tuple[str, ...], cache: Cache | None) -> bytes:
    """The library of `sources`, of which the first is compiled."""
    cache = open_cache() if cache is None else cache
    folder = resources.files("edgeprune.emulate")
    files = {name: (folder / name).read_text(encoding="utf-8") for name in sources}
    triple = f"{platform.machine()}-linux-gnu.2.28"
    key = content_key(version("ziglang"), triple, *_FLAGS, *files.values())
    return cache.made(_KIND, key, lambda: _built(files, triple))


def _built(files: dict[str, str], triple: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        run_zig(["cc", "-target", triple, *_FLAGS, next(iter(files)), "-o", "built.so"], folder)
        return (folder / "built.so").read_bytes()


def read_regions(path: Path) -> list[int]:
    """Instructions of each marked region, in order. Raises EdgepruneError (emulator-failed) where none were written."""
    try:
        return [int(line) for line in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError) as error:
        what = "the emulator counted no instructions"
        hint = "a plugin needs Debian's dynamic package: apt-get install qemu-user (not qemu-user-static)"
        raise EdgepruneError("emulator-failed", what, where="--board", hint=hint) from error
