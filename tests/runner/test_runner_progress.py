"""Building edge-run says that it takes long; a program from the cache says nothing."""

from __future__ import annotations

from pathlib import Path

from edgeprune.cache import Cache
from edgeprune.runner import build
from edgeprune.target import load_target


def test_building_the_program_says_so_once(tmp_path, monkeypatch):
    def compile_c(target: object, flags: list[str], folder: Path, system: str) -> None:
        (folder / build.PROGRAM).write_bytes(b"a program")

    monkeypatch.setattr(build, "compile_c", compile_c)
    told: list[tuple[str, int, int, str]] = []
    cache = Cache(tmp_path)
    for _ in range(2):
        program = build.build_runner(load_target("raspberry-pi-4"), cache, lambda *said: told.append(said))
        assert program == b"a program"
    assert told == [
        ("building edge-run", 0, 1, "with its C library, once for aarch64"),
        ("building edge-run", 1, 1, ""),
    ]
